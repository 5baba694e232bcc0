"""Gangs on a cluster: from a scenario to records, what a planner sees, and results."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cluster_view import GANG_VIEW, QUEUE_VIEW, ClusterView, Plan
from ..engine.core import units
from ..engine.gangs import arrays
from ..engine.gangs.arrays import GangStatic, new_jobs
from ..engine.gangs.records import PENDING, RUNNING
from ..rendering import cluster as rendering
from ..scenario import Scenario
from ..scene import GANG_SCENE
from ..workload.jobs.queues import Queue
from ..workload.jobs.stream import JobStream
from .cluster import SERVICES, build_static, job_profiles, queues_of, service_gangs
from .part import Part, Sizes, Table

ONE_ITERATION = "vclos/"
"""Profiles of this prefix are normalised: their jobs do one iteration as long as the job."""

COLUMNS = (
    *("arrival_s", "duration_s", "finish_s", "gpus", "waited_s", "ran_s", "ideal_run_s", "nodes"),
    *("leafs", "plan", "preemptions", "failures", "priority", "tenant", "pool", "network_wait_s"),
    "profile",
)
"""Of the table of jobs, as the engine has them."""

GANGS_AS_THEY_ARE = (
    *("service", "gpus", "arrival_s", "start_s", "stopped_s", "finish_s", "ran_s"),
    *("preemptions", "failures"),
)
"""Fields of a scene's gangs, as the engine has them."""


class Gangs:
    """Gangs, devices and network of ``num_envs`` worlds."""

    def __init__(self, scenario: Scenario, num_envs: int) -> None:
        assert scenario.cluster is not None and scenario.jobs is not None
        self.scenario, self.cluster, self.jobs = scenario, scenario.cluster, scenario.jobs
        self.static = build_static(scenario, job_profiles(scenario))
        self.part = Part(
            kind="place",
            units=units.OF_GANGS,
            sizes=Sizes(
                candidates=self.static.num_candidates,
                queue=int(self.static.gang_rules[0]["window"]),
                devices=self.static.num_seen,
                links=self.static.num_seen_links,
            ),
            state=arrays.allocate(
                self.static,
                num_envs,
                self.jobs.num_jobs + len(service_gangs(scenario)),
                *_transfers(scenario),
                replicas=len(scenario.slots) if len(self.static.traffic) else 0,
            ),
            shared=dict(vars(self.static)),
        )
        self._queues = queues_of(scenario)
        self._services = _service_jobs(scenario, len(self.static.kinds), self._queues)
        self._is_base = np.array([gang.is_base for gang in service_gangs(scenario)], np.bool_)
        self._row = {size: row for row, size in enumerate(self.jobs.sizes)}
        self._once = np.array([name.startswith(ONE_ITERATION) for name, _ in self._row])

    def load(self, e: int, rng: np.random.Generator) -> None:
        """Draw the jobs of the next episode of environment ``e``."""
        stream = self.jobs.sample(rng)
        jobs = new_jobs(len(stream))
        jobs["kind"] = self._rows(stream)
        once = self._once[jobs["kind"]]
        iterations = stream.duration_s / self._iteration_s(jobs["kind"], stream.comm_scale)
        jobs["iterations"] = np.where(once, 1.0, iterations)
        jobs["scale"] = np.where(once, iterations, 1.0)
        jobs["comm_scale"] = stream.comm_scale * jobs["scale"]
        jobs["required"], jobs["preferred"] = self.jobs.levels(stream.gpus)
        jobs["estimate_s"] = self.scenario.estimate_durations(rng, stream)
        protected = np.float32(self.scenario.scheduler.protected_priority)  # as priorities are
        jobs["protected"] = stream.priority >= protected
        for name in ("arrival_s", "duration_s", *("gpus", "priority", "tenant", "pool", "profile")):
            jobs[name] = getattr(stream, name)
        jobs = np.concatenate([self._services, jobs]) if len(self._services) else jobs
        arrays.load(self.part.state, self.static, e, jobs, rng)

    def is_warm(self) -> bool:
        """Jobs are drawn without compiled code."""
        return True

    def warm_up(self) -> None:
        """There is nothing to compile."""

    def _iteration_s(
        self, kind: NDArray[np.int32], comm_scale: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return seconds of an iteration of every job, alone on full nodes, float64 (J,)."""
        pattern = self.static.patterns[kind]
        comm_s = self.static.kinds["comm_s"][kind] * comm_scale
        exposed_s: NDArray[np.float64] = np.maximum(0.0, comm_s - pattern["hidden_s"])
        return pattern["compute_s"] + exposed_s

    def _rows(self, stream: JobStream) -> NDArray[np.int64]:
        """Return the kind of every job, int64 (J,)."""
        names = self.jobs.profiles
        pairs = stream.profile.astype(np.int64) << 32 | stream.gpus
        distinct, inverse = np.unique(pairs, return_inverse=True)
        found = [self._row[names[pair >> 32], pair & 0xFFFFFFFF] for pair in distinct.tolist()]
        return np.array(found)[inverse]

    def results(self, e: int) -> dict[str, Table]:
        """Return the table of jobs of environment ``e``'s episode; times NaN if not reached.

        Columns, all of shape (J,): `job`, `arrival_s`, `start_s` (first start), `finish_s`, `gpus`,
        `duration_s` (at speed 1, nothing else on the network), `waited_s`, `ran_s`, `ideal_run_s`
        (run time if no two flows had met), `nodes`, `leafs`, `plan` (-1: the policy's own),
        `preemptions`, `failures`, `priority`, `tenant`, `pool`, `network_wait_s`, `profile`.
        """
        state = self.part.state
        gangs = state["gangs"][e]
        jobs = state["jobs"][e][int(gangs["services"]) : int(gangs["num_jobs"])]
        table = {name: np.array(jobs[name]) for name in COLUMNS}
        unfinished = np.isnan(table["finish_s"])
        for name in ("waited_s", "ran_s", "ideal_run_s"):
            table[name][unfinished] = np.nan
        table["job"] = np.arange(len(jobs))
        table["start_s"] = np.array(jobs["first_start_s"])
        return {"jobs": table, **self._queue_table(e)}

    def _queue_table(self, e: int) -> dict[str, Table]:
        """Return the table of queues that deserve something, if there are any.

        Columns, (n,): `queue` (number), `due_gpu_s` (GPU seconds that it deserved and had gangs
        for) and `got_gpu_s` (those of them that it held).
        """
        rows, state = self.static.deserving, self.part.state
        if not len(rows):
            return {}
        columns = {name: state[f"queue_{name}"][e][rows] for name in ("due_gpu_s", "got_gpu_s")}
        return {"queues": {"queue": rows.copy(), **columns}}

    def view(self, e: int, now_s: float, refused: int = 0) -> ClusterView:
        """Return what a planner may read of environment ``e``."""
        state, static = self.part.state, self.static
        links = len(self.cluster.fabric.capacity)
        jobs, senders = state["jobs"][e], state["senders"][e]
        arrived = jobs[: int(state["gangs"]["arrived"][e])]
        pending = np.flatnonzero(arrived["status"] == PENDING)
        counted = (arrived["service"] < 0) | self.scenario.counts_services
        running = np.flatnonzero((arrived["status"] == RUNNING) & counted)
        running = running[np.argsort(jobs["start_s"][running], kind="stable")]
        return ClusterView(
            now_s=now_s,
            cluster=self.cluster,
            gpu_job=state["gpu_owner"][e].copy(),
            uplink_job=state["uplink_owner"][e].copy(),
            uplink_flows=state["uplink_users"][e].copy(),
            circuits=state["circuits"][e].copy(),
            link_load=np.minimum(state["link_rate"][e, :links] / static.capacity[:links], 1.0),
            pending=self._gang_view(jobs, senders, pending, now_s),
            running=self._gang_view(jobs, senders, running, now_s),
            speeds=_speeds(jobs[pending], static),
            running_speeds=_speeds(jobs[running], static),
            queues=_queue_view(self._queues, state["queue_gpus"][e]),
            queue_names=tuple(queue.name for queue in self._queues),
            preemption=self.scenario.scheduler.preemption,
            refused=refused,
        )

    def _gang_view(
        self,
        jobs: NDArray[np.void],
        senders: NDArray[np.void],
        ids: NDArray[np.int64],
        now_s: float,
    ) -> NDArray[np.void]:
        """Return what is known of some gangs."""
        view = _gang_view(jobs, senders, ids, now_s)
        services = np.flatnonzero(ids < len(self._is_base))
        view["is_base"][services] = self._is_base[ids[services]]
        return view

    def scene(self, e: int, first_request: int) -> dict[str, Any]:
        """Return what may be seen of gangs and devices of environment ``e``."""
        state, static = self.part.state, self.static
        rows = state["jobs"][e][: int(state["gangs"]["arrived"][e])]
        gangs = np.zeros(len(rows), GANG_SCENE)
        gangs["state"] = rows["status"]
        gangs["memory_bytes"] = static.kinds["memory_bytes"][rows["kind"]]
        gangs["first_gpu"] = state["senders"]["first_gpu"][e][: len(rows)]
        for name in GANGS_AS_THEY_ARE:
            gangs[name] = rows[name]
        return {
            "gangs": gangs,
            "gpu_next": state["gpu_next"][e].copy(),
            "last_start": state["order"][e].copy(),  # nothing but a start or a plan writes there
            "link_load": np.minimum(state["link_rate"][e] / static.capacity, 1.0),
            "repairs_s": state["repairs"][e].copy(),
            "next_failure_s": float(state["devices"]["next_failure_s"][e]),
        }

    def propose(self, e: int, plan: Plan) -> int:
        """Hand over a planner's plan and return the action that carries it out.

        It is the last candidate, unless another kind of decision has more of them.

        Raises:
            ValueError: if the plan's arrays do not go together.
        """
        state = self.part.state
        state["proposal"][e] = (plan.gang, len(plan.preempt))
        state["proposed_stops"][e, : len(plan.preempt)] = plan.preempt
        own = self.static.num_candidates - 1
        if plan.gang < 0:
            return own
        gpus = np.asarray(plan.gpus if plan.gpus is not None else (), np.int32)
        known = 0 <= plan.gang < int(state["gangs"]["arrived"][e])
        size = int(state["jobs"]["gpus"][e, plan.gang]) if known else len(gpus)
        for name, array in (("gpus", gpus), ("uplinks", plan.uplinks), ("circuits", plan.circuits)):
            if array is not None and len(array) != size:
                raise ValueError(
                    f"plan.{name} has {len(array)} entries; gang {plan.gang} has {size} ranks"
                )
        state["proposed_gpus"][e, :size] = gpus
        state["proposed_uplinks"][e, :size] = -1 if plan.uplinks is None else plan.uplinks
        state["proposed_circuits"][e, :size] = -1 if plan.circuits is None else plan.circuits
        return own

    def ask_planner(self) -> None:
        """Stop for a decision whenever a gang is pending, not only if a candidate is feasible."""
        self.static.gang_rules["planner"] = 1

    def render(self, e: int, now_s: float, mode: str) -> Any:
        """Return environment ``e`` as text ("ansi") or as a uint8 image ("rgb_array")."""
        draw = rendering.as_text if mode == "ansi" else rendering.as_image
        return draw(self.view(e, now_s), self.scenario.name)


def _transfers(scenario: Scenario) -> tuple[int, int]:
    """Return how many KV caches can be on their way at once, and from or to how many GPUs each."""
    roles = [role for service in scenario.services for role in service.roles if role.handover]
    if not roles:
        return 0, 0
    assert scenario.workload is not None
    sending = [s.roles for s in scenario.services if any(role.handover for role in s.roles)]
    gpus = max(role.replica.deployment.tp for ends in sending for role in ends)
    return min(scenario.workload.num_requests, MOST_TRANSFERS), gpus


MOST_TRANSFERS = 4096
"""On their way at once; it bounds memory. Further ones wait for one to arrive."""

UNTIL_TOLD_S = 30 * 86_400.0
"""Estimated run time of a service's gang, which runs until it is told to end."""


def _service_jobs(scenario: Scenario, kinds: int, queues: tuple[Queue, ...]) -> NDArray[np.void]:
    """Return JOB records for the gangs of services.

    Their kinds are the last ones, and so is their queue, unless their deployment names one.
    """
    gangs, names = service_gangs(scenario), [queue.name for queue in queues]
    jobs = new_jobs(len(gangs))
    for row, gang in enumerate(gangs):
        service = scenario.services[gang.service]
        jobs["kind"][row] = kinds - len(gangs) + row
        jobs["gpus"][row] = gang.gpus
        jobs["service"][row], jobs["pool"][row] = gang.service, service.pool
        jobs["required"][row], jobs["preferred"][row] = service.required, service.preferred
        jobs["priority"][row], jobs["arrival_s"][row] = service.priority, service.asked_at_s
        jobs["protected"][row] = not service.may_stop(gang.is_base)
        jobs["tenant"][row] = names.index(service.queue or SERVICES)
    jobs["estimate_s"], jobs["duration_s"], jobs["iterations"] = UNTIL_TOLD_S, UNTIL_TOLD_S, 1.0
    return jobs


def _speeds(rows: NDArray[np.void], static: GangStatic) -> NDArray[np.float64]:
    """Return the speed of some gangs on each pool, 0 where they cannot or may not run."""
    speeds: NDArray[np.float64] = static.speeds[rows["kind"]]
    here = np.arange(speeds.shape[1])
    allowed = (rows["pool"][:, None] < 0) | (rows["pool"][:, None] == here)
    return speeds * allowed


def _gang_view(
    jobs: NDArray[np.void], senders: NDArray[np.void], ids: NDArray[np.int64], now_s: float
) -> NDArray[np.void]:
    """Return what is known of some gangs."""
    rows, sent = jobs[ids], senders[ids]
    view = np.zeros(len(ids), GANG_VIEW)
    is_running = rows["status"] == RUNNING
    run_s = np.where(is_running, now_s - rows["start_s"], 0.0)
    view["id"] = ids
    for name in ("gpus", "arrival_s", "estimate_s", "priority", "protected", "tenant", "pool"):
        view[name] = rows[name]
    for name in ("required", "preferred", "preemptions", "service"):
        view[name] = rows[name]
    view["executed_s"] = rows["ran_s"] + run_s
    view["start_s"] = np.where(is_running, rows["start_s"], np.nan)
    rest_s = np.maximum(rows["estimate_s"] - rows["ran_s"], 0.0)
    speed = np.where(is_running, np.maximum(sent["speed"], 1e-9), 1.0)
    end_s = np.maximum(rows["start_s"] + rest_s / speed, now_s)
    view["end_s"] = np.where(is_running, end_s, np.nan)
    sends = is_running & (rows["service"] < 0)
    ideal_s = np.where(sends, sent["ideal_s"], 1.0)
    view["slowdown"] = np.where(sends, sent["iteration_s"] / ideal_s, 1.0)
    moved_now = np.where(is_running, rows["start_s"], rows["stopped_s"]) == now_s
    view["blocked"] = moved_now | (is_running & (rows["protected"] == 1))
    return view


def _queue_view(queues: tuple[Queue, ...], held: NDArray[np.int32]) -> NDArray[np.void]:
    """Return what is known of the queues, with the GPUs that each holds."""
    view = np.zeros(len(queues), QUEUE_VIEW)
    for name in ("parent", "deserved", "guarantee", "limit", "weight", "priority"):
        view[name] = [getattr(queue, name) for queue in queues]
    view["held"] = held
    return view
