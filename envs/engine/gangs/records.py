"""The state of the placement world as records of plain numbers; see :mod:`..records` for the style.

A GPU's number is ``node * gpus_per_node + slot``. Links are numbered, each group one behind the
other: node up (N), node down (N), leaf switch to spine (switches x U), spine to leaf switch
(switches x U), and in three tiers pod to core (pods x A x V) and core to pod (pods x A x V).
"""

from __future__ import annotations

import numpy as np

from ..network.names import (  # noqa: F401  # they are read from here, too
    BALANCED,
    ECMP,
    FLOW,
    FLUID,
    OCCUPANCY,
    SOURCE,
    UNCONTENDED,
)

PENDING, RUNNING, FINISHED, UNSEEN = 0, 1, 2, 3  # status of a job; UNSEEN: not arrived yet
FREE, DOWN = -1, -2  # owner of a GPU or of an uplink that no job holds
CYCLIC, XOR, CHAIN = 0, 1, 2  # PHASE.mode

FABRIC = np.dtype(  # one record for the whole world
    [
        ("nodes", "i4"),  # N
        ("gpus_per_node", "i4"),  # of the largest node; smaller nodes leave slots unused
        ("leafs", "i4"),  # placement domains: nodes under the same leaf switch or rail group
        ("pods", "i4"),
        ("switches", "i4"),  # leaf switches; in a rail-optimised fabric one per group and rail
        ("uplinks", "i4"),  # U, per leaf switch
        ("spines", "i4"),  # A, per pod; two tiers: spines of the one pod; three: aggregation
        ("core_uplinks", "i4"),  # V, per aggregation switch; 0 in two tiers
        ("planes", "i4"),  # 2: a GPU's NIC has a port in each of two disjoint planes of spines
        ("spine_ports", "i4"),  # ports of a spine towards leafs, over all optical switches
        ("optical", "i4"),  # 1: uplink k of every leaf switch ends at optical switch k
        ("routing", "i4"),
        ("queue_pairs", "i4"),  # parts of a flow that are hashed on their own
        ("fidelity", "i4"),
        ("reconfigure_s", "f8"),  # of an optical switch
    ]
)

NODE_SPEC = np.dtype(
    [
        ("leaf", "i4"),
        ("pod", "i4"),
        ("pool", "i4"),
        ("gpus", "i4"),
        ("nic_bytes_per_s", "f8"),  # most that one flow gets
        ("scale_up_bytes_per_s", "f8"),
        ("memory_bytes", "f8"),  # per GPU
        ("price_per_h", "f8"),  # per GPU
        ("idle_w", "f8"),  # per GPU
        ("busy_w", "f8"),  # per GPU
    ]
)

KIND = np.dtype(  # a type of job: a model with a layout on so many GPUs
    [
        ("gpus", "i4"),
        ("first_phase", "i4"),
        ("num_phases", "i4"),
        ("compute_s", "f8"),  # per iteration at speed 1, communication apart
        ("hidden_s", "f8"),  # its last part, beside which the communication runs
        ("memory_bytes", "f8"),  # per GPU
        ("load", "f8"),  # share of peak FLOP/s while it computes
        ("nominal_s", "f8"),  # seconds of an iteration at speed 1, nothing else on the network
        ("comm_share", "f8"),  # share of nominal_s that it communicates
    ]
)

PHASE = np.dtype(
    # One step of a job's communication in an iteration: every rank sends one flow at most. The
    # ranks of a group stand ``stride`` apart; a rank's place q in its group of ``ranks`` sends to
    # (q + shift) mod ranks (CYCLIC), q ^ shift (XOR), or q + shift if there is such a rank (CHAIN).
    [
        ("ranks", "i4"),
        ("stride", "i4"),
        ("shift", "i4"),
        ("mode", "i4"),
        ("bytes", "f8"),  # of each flow, per iteration
    ]
)

JOB = np.dtype(
    [
        # the job as it arrives
        ("arrival_s", "f8"),
        ("kind", "i4"),
        ("gpus", "i4"),
        ("iterations", "f8"),
        ("scale", "f8"),  # multiplies the kind's compute_s and hidden_s
        ("comm_scale", "f8"),  # multiplies the bytes of its phases
        ("estimate_s", "f8"),  # believed run time at speed 1 without contention
        ("priority", "f4"),  # 0 lowest, 1 highest
        ("tenant", "i4"),
        ("pool", "i4"),  # the only pool it runs on, -1: any
        ("required", "i4"),  # widest domain allowed: 0 node, 1 leaf, 2 pod, 3 all
        ("preferred", "i4"),
        # where it stands
        ("status", "i4"),
        ("next", "i4"),  # behind it in the queue or in the list of running jobs
        ("before", "i4"),
        ("first_gpu", "i4"),  # its GPUs in rank order, linked by ``gpu_next``
        ("reserved", "i4"),  # 1: its flows use its own uplinks, ``gpu_uplink``
        ("nodes", "i4"),
        ("leafs", "i4"),
        ("plan", "i4"),
        ("speed", "f8"),  # of its slowest GPU
        ("start_s", "f8"),  # of its present run
        ("first_start_s", "f8"),
        ("finish_s", "f8"),
        ("stopped_s", "f8"),  # end of its last run that was cut short
        ("stopping", "i4"),  # scratch: a proposed plan preempts it
        ("waited_s", "f8"),
        ("ran_s", "f8"),  # in earlier runs
        ("preemptions", "i4"),
        ("failures", "i4"),
        ("network_wait_s", "f8"),  # oldest of the queue, enough whole nodes free, not started
        ("ideal_run_s", "f8"),  # run time if no two flows had ever met
        # its progress: ``left`` at ``since_s``, shrinking by ``rate`` a second
        ("iterations_left", "f8"),
        ("left", "f8"),  # fluid: iterations; flow: of the part of an iteration under way
        ("rate", "f8"),
        ("since_s", "f8"),
        ("event_s", "f8"),  # when ``left`` is used up
        ("begun_s", "f8"),  # flow: when the iteration under way began
        ("part", "f8"),  # flow: share of an iteration that the one under way does
        ("computed_s", "f8"),  # flow: when the hidden part of its compute ends
        ("heap_at", "i4"),  # place in the heap of events, -1: none
        # its communication
        ("usage_begin", "i4"),
        ("usage_count", "i4"),
        ("step_begin", "i4"),
        ("step_count", "i4"),
        ("phase", "i4"),  # flow: the phase under way; -1 computing alone, -2 its last hidden part
        ("compute_s", "f8"),  # seconds of compute in an iteration here
        ("hidden_s", "f8"),  # its last part, beside which it communicates
        ("comm_alone_s", "f8"),  # seconds of communication with its own flows only
        ("comm_s", "f8"),  # seconds of communication as things are
        ("ideal_s", "f8"),  # seconds of an iteration here if no two flows ever met
        ("alone_s", "f8"),  # seconds of an iteration here with its own flows only
        ("iteration_s", "f8"),  # seconds of an iteration as things are (long-run rate)
        ("duty", "f8"),  # share of the time in which it communicates
        ("bottleneck", "i4"),  # flow: link that limits it, -1: its NIC or scale-up link
        ("shown_rate", "f8"),  # fluid: iterations a second that the load of its links counts
        ("first_pair", "i4"),
        ("mark", "i8"),  # scratch of the solver, up to the end
        ("seen", "i8"),
        ("chain", "i4"),
        ("mine", "f8"),
        ("theirs", "f8"),
        ("my_links", "u8"),
        ("their_links", "u8"),
        ("my_most", "f8"),
        ("their_most", "f8"),
    ]
)

USAGE = np.dtype(  # flows of one job on one link in one phase
    [
        ("job", "i4"),
        ("link", "i4"),
        ("phase", "i4"),
        ("weight", "f4"),  # flows, a part of a flow counting 1/queue_pairs
        ("next", "i4"),  # on the same link
        ("before", "i4"),
    ]
)

GANG_ENV = np.dtype(
    [
        ("now_s", "f8"),
        ("num_jobs", "i4"),
        ("arrived", "i4"),
        ("finished", "i4"),
        ("pending", "i4"),
        ("pending_gpus", "i8"),
        ("running", "i4"),
        ("queue_head", "i4"),
        ("queue_tail", "i4"),
        ("running_head", "i4"),
        ("events", "i4"),  # size of the heap
        ("usages", "i4"),  # used part of the usage array, dead entries included
        ("steps", "i4"),  # likewise of ``steps``
        ("pairs", "i4"),
        ("free_pair", "i4"),
        ("touched", "i4"),  # jobs whose rate must be found anew
        ("hash_seed", "u8"),
        ("random", "u8"),
        ("mark", "i8"),
        ("total_gpus", "i4"),
        ("head_fits", "i4"),  # 1: enough whole nodes are free for the oldest pending gang
        ("free_gpus", "i4"),
        ("down_gpus", "i4"),
        ("next_failure_s", "f8"),
        ("next_repair_s", "f8"),
        ("partial_gpus", "i4"),  # free GPUs on nodes that are partly used
        ("waited", "i4"),  # 1: the last decision was to wait, so time moves on
        ("power_w", "f8"),  # of all GPUs, as they are allocated
        ("price_per_s", "f8"),  # of the allocated GPUs
        ("done", "i4"),
        ("decisions", "i8"),
        ("invalid_actions", "i8"),
        ("preemptions", "i8"),
        ("failures", "i8"),
        ("gap_s", "f8"),  # moving average of the time between arrivals
        # sums behind the metrics and the reward
        ("jct_s", "f8"),
        ("jrt_s", "f8"),
        ("jwt_s", "f8"),
        ("slowdown", "f8"),  # bounded slowdowns of finished gangs
        ("contention", "f8"),  # run time over run time without contention, of finished gangs
        ("busy_gpu_s", "f8"),
        ("energy_j", "f8"),
        ("cost", "f8"),
        ("waiting_s", "f8"),  # integral of the number of pending gangs
        ("in_system_s", "f8"),  # integral of the number of unfinished ones
        ("head_wait_s", "f8"),  # time in which a gang was the oldest pending one
        ("network_wait_s", "f8"),  # part of it in which enough whole nodes were free
        ("fragmented_gpu_s", "f8"),
        ("reward_value", "f8"),
    ]
)

GANG_CONFIG = np.dtype(
    [
        ("window", "i4"),  # pending gangs that may be chosen
        ("plans", "i4"),
        ("pools", "i4"),
        ("running_rows", "i4"),  # running gangs that may be preempted
        ("aggregate", "i4"),  # 1: devices and links are observed per leaf
        ("preemption", "i4"),
        ("planner", "i4"),  # 1: a planner is asked whenever a gang is pending
        ("preempt_s", "f8"),  # lost by a gang each time that it is preempted
        ("checkpoint_s", "f8"),  # work since the last multiple of it is lost by a failure
        ("failure_s", "f8"),  # mean time between failures of one node, 0: never
        ("repair_s", "f8"),
        ("straggler_share", "f8"),
        ("straggler_speed", "f8"),
        ("w_waiting", "f8"),
        ("w_in_system", "f8"),
        ("w_slowdown", "f8"),
        ("w_finished", "f8"),
        ("w_utilisation", "f8"),
        ("w_preemptions", "f8"),
        ("w_cost", "f8"),
        ("w_energy", "f8"),
        ("w_invalid", "f8"),
    ]
)
