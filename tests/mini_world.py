"""A slow, plain world of gangs without contention: it runs a planner and checks every plan."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from views import PLACING, gangs, make_cluster, make_view

from gpuyard import baselines
from gpuyard.baselines.planner import Planner
from gpuyard.envs.cluster_view import ClusterView, Plan


@dataclass
class Gang:
    """One gang; ``run_s`` is its true run time at speed 1, ``estimate_s`` the believed one."""

    arrival_s: float
    gpus: int
    run_s: float
    estimate_s: float = 0.0
    required: int = 3
    speeds: tuple[float, ...] = (1.0,)
    priority: float = 0.5
    # where it stands
    executed_s: float = 0.0
    left_s: float = 0.0
    on: list[int] = field(default_factory=list)
    speed: float = 0.0
    runs: list[list[float]] = field(default_factory=list)  # [start, stop]

    def __post_init__(self):
        self.left_s = self.run_s
        self.estimate_s = self.estimate_s or self.run_s

    @property
    def finish_s(self) -> float:
        return self.runs[-1][1]


def is_in(view: ClusterView, gang, queue: int) -> bool:
    """Whether a gang belongs to a queue or to one inside it."""
    own = gang["tenant"]
    while own >= 0 and own != queue:
        own = view.queues["parent"][own]
    return own == queue


def check(view: ClusterView, plan: Plan) -> None:
    """Fail unless the engine would accept the plan."""
    cluster, slots = view.cluster, view.cluster.gpus_per_node
    rows = {int(gang["id"]): row for row, gang in enumerate(view.pending)}
    running = {int(gang["id"]): gang for gang in view.running}
    assert plan.gang in rows, f"{plan.gang} does not wait"
    gang = view.pending[rows[plan.gang]]
    assert not gang["blocked"]
    assert not plan.preempt or view.preemption
    assert len(set(plan.preempt)) == len(plan.preempt)
    for stopped in plan.preempt:
        assert stopped in running and not running[stopped]["blocked"], f"cannot stop {stopped}"
    gpus = plan.gpus
    assert len(gpus) == len(set(gpus.tolist())) == gang["gpus"]
    assert set(view.gpu_job[gpus].tolist()) <= {-1, *plan.preempt}, "GPUs are taken"
    (pool,) = set(cluster.node_pool[gpus // slots].tolist())
    assert view.speeds[rows[plan.gang], pool] > 0
    leaf = cluster.node_leaf[gpus // slots]
    domains = [gpus // slots, leaf, cluster.leaf_pod[leaf], leaf * 0]
    assert len(set(domains[gang["required"]].tolist())) == 1
    assert within_limits(view, gang, [running[name] for name in plan.preempt])
    for stopped in plan.preempt:
        others = [running[name] for name in plan.preempt if name != stopped]
        taken = (view.gpu_job[gpus] == stopped).any()
        needed = taken or not within_limits(view, gang, others)
        assert needed, f"{stopped} is stopped for nothing"


def within_limits(view: ClusterView, gang, stopped: list) -> bool:
    """Whether a gang's queue and those around it can hold it once others have been stopped."""
    queue = gang["tenant"]
    while queue >= 0:
        freed = sum(other["gpus"] for other in stopped if is_in(view, other, queue))
        held = view.queues["held"][queue] - freed
        if held + gang["gpus"] > view.queues["limit"][queue]:
            return False
        queue = view.queues["parent"][queue]
    return True


def planner(name: str, **options) -> Planner:
    policy = baselines.make(f"gang/{name}", **options)
    policy.reset(PLACING, 1, 0)
    return policy


def counted(gpus: int):
    """A cluster on which only the number of GPUs matters: one to a node."""
    return make_cluster(nodes=gpus, gpus_per_node=1, nodes_per_leaf=gpus)


def starts(jobs: list[Gang]) -> list[float]:
    return [job.runs[0][0] for job in jobs]


def simulate(policy, jobs: list[Gang], cluster=None, preemption=False, ticks=(), **options):
    """Run ``jobs`` to their ends; the planner is asked at every arrival, end and tick."""
    cluster = cluster or make_cluster(**options)
    policy.reset(PLACING, 1, 0)
    now, moments, asked = 0.0, sorted({*(job.arrival_s for job in jobs), *ticks}), 0
    while any(job.left_s > 0 for job in jobs):
        ends = [now + job.left_s / job.speed for job in jobs if job.on]
        upcoming = [*ends, *(moment for moment in moments if moment > now or asked == 0)]
        assert upcoming, "nothing runs, nothing comes, and gangs wait"
        then = min(upcoming)
        for job in jobs:
            if job.on:
                job.executed_s += then - now
                job.left_s -= (then - now) * job.speed
                if job.left_s < 1e-6:
                    job.left_s, job.on = 0.0, []
                    job.runs[-1][1] = then
        now, blocked = then, set()
        while True:
            asked += 1
            assert asked < 100_000, "live-lock"
            view = look(jobs, cluster, now, preemption, blocked)
            if not len(view.pending):
                break
            plan = policy.plan_for(0, view)
            if plan is None:
                break
            check(view, plan)
            for name in plan.preempt:
                jobs[name].on = []
                jobs[name].runs[-1][1] = now
            job = jobs[plan.gang]
            job.on = plan.gpus.tolist()
            job.speed = job.speeds[cluster.node_pool[plan.gpus[0] // cluster.gpus_per_node]]
            job.runs.append([now, np.nan])
            blocked |= {plan.gang, *plan.preempt}
    return jobs


def look(jobs, cluster, now, preemption, blocked) -> ClusterView:
    """The view of the world at ``now``."""

    def row(name: int, job: Gang) -> dict:
        return {
            "id": name,
            "gpus": job.gpus,
            "arrival_s": job.arrival_s,
            "estimate_s": job.estimate_s,
            "executed_s": job.executed_s,
            "required": job.required,
            "priority": job.priority,
            "blocked": int(name in blocked),
        }

    pending = [
        (name, job)
        for name, job in enumerate(jobs)
        if job.arrival_s <= now and job.left_s > 0 and not job.on
    ]
    active = sorted(
        ((name, job) for name, job in enumerate(jobs) if job.on), key=lambda at: at[1].runs[-1][0]
    )
    return make_view(
        [row(*each) for each in sorted(pending, key=lambda at: (at[1].arrival_s, at[0]))],
        [
            {
                **row(name, job),
                "on": job.on,
                "start_s": job.runs[-1][0],
                # believed: what the estimate leaves at its speed
                "end_s": now + max(job.estimate_s - job.executed_s, 0.0) / job.speed,
            }
            for name, job in active
        ],
        cluster=cluster,
        now_s=now,
        preemption=preemption,
        speeds=[job.speeds for _, job in sorted(pending, key=lambda at: (at[1].arrival_s, at[0]))]
        or None,
        running_speeds=[job.speeds for _, job in active] or None,
    )


__all__ = ["Gang", "check", "counted", "gangs", "look", "planner", "simulate", "starts"]
