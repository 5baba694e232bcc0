"""Gangs: what kinds there are, and where each stands; what it sends is a SENDER of the network."""

from __future__ import annotations

import numpy as np

from ...reward import terms
from ...rules import SchedulerRules, numbers

PENDING, RUNNING, FINISHED, UNSEEN = 0, 1, 2, 3  # status of a job; UNSEEN: not arrived yet

KIND = np.dtype(  # a type of job: a model with a layout on so many GPUs; a PATTERN has its traffic
    [
        ("memory_bytes", "f8"),  # per GPU
        ("load", "f8"),  # share of peak FLOP/s while it computes
        ("comm_s", "f8"),  # seconds that its phases take, nothing else on the network
        ("comm_share", "f8"),  # the same as a share of an iteration
    ]
)

JOB = np.dtype(
    [
        # the job as it arrives
        ("arrival_s", "f8"),
        ("kind", "i4"),
        ("gpus", "i4"),
        ("duration_s", "f8"),  # run time at speed 1 on full nodes, nothing else on the network
        ("iterations", "f8"),
        ("scale", "f8"),  # multiplies the kind's compute_s and hidden_s
        ("comm_scale", "f8"),  # multiplies the bytes of its phases
        ("estimate_s", "f8"),  # believed run time at speed 1 without contention
        ("priority", "f4"),  # 0 lowest, 1 highest
        ("protected", "i4"),  # 1: never preempted
        ("tenant", "i4"),
        ("pool", "i4"),  # the only pool it runs on, -1: any
        ("required", "i4"),  # widest domain allowed: 0 node, 1 leaf, 2 pod, 3 all
        ("preferred", "i4"),
        ("profile", "i2"),  # of the workload, -1: unknown
        ("service", "i4"),  # whose replicas it is, -1: a job that ends by itself
        # where it stands
        ("status", "i4"),
        ("next", "i4"),  # behind it in the queue or in the list of running jobs
        ("before", "i4"),
        ("position", "i4"),  # pending ones before it; negative: not in the window
        ("nodes", "i4"),
        ("leafs", "i4"),
        ("plan", "i4"),
        ("start_s", "f8"),  # of its present run
        ("first_start_s", "f8"),
        ("finish_s", "f8"),
        ("stopped_s", "f8"),  # end of its last run that was cut short
        ("saved", "f8"),  # iterations left at its last checkpoint, or at its start
        ("save_s", "f8"),  # when its next checkpoint is, inf: never
        ("stopping", "i4"),  # scratch: a proposed plan preempts it
        ("waited_s", "f8"),
        ("ran_s", "f8"),  # in earlier runs
        ("preemptions", "i4"),
        ("failures", "i4"),
        ("network_wait_s", "f8"),  # oldest of the queue, enough whole nodes free, not started
        ("ideal_run_s", "f8"),  # run time if no two flows had ever met
    ]
)

GANGS = np.dtype(  # one record per environment
    [
        ("services", "i4"),  # gangs of services, in front of all jobs
        ("num_jobs", "i4"),  # all gangs, those among them
        ("arrived", "i4"),
        ("finished", "i4"),  # jobs
        ("pending", "i4"),
        ("pending_gpus", "i8"),
        ("pending_jobs", "i4"),  # those that are no services
        ("pending_weight", "f8"),  # sum of 1 + priority of these
        ("since_s", "f8"),  # up to when the sums below go that are integrals
        ("running", "i4"),  # those that are no services
        ("queue_head", "i4"),
        ("queue_tail", "i4"),
        ("running_head", "i4"),  # gangs of replicas that may be preempted are listed, too
        ("head_fits", "i4"),  # 1: enough whole nodes are free for the oldest pending gang
        ("next_save_s", "f8"),  # when the next checkpoint of any gang may be, inf: never
        ("waited", "i4"),  # 1: nobody is to be asked before something happens to gangs
        ("preemptions", "i8"),
        ("failures", "i8"),
        ("invalid", "i8"),  # infeasible actions of placement and scaling
        ("stopped_s", "f8"),  # when a gang was last preempted
        ("counted", "i4"),  # gangs in the sums: finished, and at the end those that are not
        ("gap_s", "f8"),  # moving average of the time between arrivals
        # sums behind the metrics and the reward
        ("jct_s", "f8"),
        ("jrt_s", "f8"),
        ("jwt_s", "f8"),
        ("slowdown", "f8"),  # bounded slowdowns of finished gangs
        ("contention", "f8"),  # run time over run time without contention, of finished gangs
        ("waiting_s", "f8"),  # integral of the number of pending gangs
        ("weighted_waiting_s", "f8"),  # integral of pending_weight
        ("in_system_s", "f8"),  # integral of the number of unfinished ones
        ("head_wait_s", "f8"),  # time in which a gang was the oldest pending one
        ("network_wait_s", "f8"),  # part of it in which enough whole nodes were free
    ]
)

GANG_RULES = np.dtype(  # one record for the whole world: rules of the scenario, and weights
    [
        *numbers(SchedulerRules),
        ("plans", "i4"),
        ("pools", "i4"),
        ("aggregate", "i4"),  # 1: devices and links are observed per leaf
        ("planner", "i4"),  # 1: a planner is asked whenever a gang is pending
        *((f"w_{term}", "f8") for term in terms("place")),
    ]
)
