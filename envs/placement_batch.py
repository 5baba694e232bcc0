"""A batch of worlds in which gangs are placed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import rendering_placement
from .batch import Batch
from .cluster_view import GANG_VIEW, ClusterView, Plan
from .hardware.cluster import Cluster, Pool
from .perf import gang_profile
from .perf.gang_phases import seconds
from .perf.gang_profile import GangProfile
from .placement_scenario import FIDELITIES, ROUTINGS, PlacementScenario
from .sim.gangs.plans import PLAN_NAMES
from .sim.gangs.records import (
    FABRIC,
    GANG_CONFIG,
    KIND,
    NODE_SPEC,
    PENDING,
    PHASE,
    RUNNING,
)
from .sim.gangs.world import GangStatic, GangWorld, new_jobs
from .sim.world import records
from .workload.jobs.stream import JobStream

IDLE_POWER = 0.15
"""Share of its TDP that an idle GPU draws (assumption; datasheets give none)."""

ONE_ITERATION = "vclos/"
"""Profiles of this prefix are normalised: their jobs do one iteration as long as the job."""


def build_static(scenario: PlacementScenario, profiles: list[GangProfile]) -> GangStatic:
    """Turn a scenario into the records and tables that the engine reads."""
    cluster, fabric = scenario.cluster, scenario.cluster.fabric
    switches = _switch_of_leaf(cluster)
    kinds, phases, speeds = _kinds(cluster, profiles)
    return GangStatic(
        config=_config(scenario),
        fabric=_fabric(scenario),
        specs=_specs(cluster),
        kinds=kinds,
        phases=phases,
        speeds=speeds,
        quotas=np.array(scenario.jobs.quotas, np.int32),
        leaf_pods=np.ascontiguousarray(cluster.leaf_pod, np.int32),
        leaf_pools=cluster.node_pool[_begin(cluster.node_leaf)[:-1]].astype(np.int32),
        leaf_begin=_begin(cluster.node_leaf),
        gpu_switch=np.ascontiguousarray(fabric.gpu_switch, np.int32),
        switch_pods=np.ascontiguousarray(fabric.switch_pod, np.int32),
        switch_begin=_begin(switches),
        capacity=np.ascontiguousarray(fabric.capacity, np.float64),
    )


def _begin(owner: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return where each owner's items begin, and the end; items are sorted by owner."""
    return np.searchsorted(owner, np.arange(int(owner.max()) + 2)).astype(np.int32)


def _switch_of_leaf(cluster: Cluster) -> NDArray[np.int32]:
    """Return the leaf (placement domain) of every leaf switch, int32 (S,)."""
    fabric = cluster.fabric
    leaf = np.repeat(cluster.node_leaf, cluster.gpus_per_node)
    owner = np.zeros(fabric.num_switches, np.int32)
    exists = fabric.gpu_switch >= 0
    owner[fabric.gpu_switch[exists]] = leaf[exists]
    return owner


def _config(scenario: PlacementScenario) -> NDArray[np.void]:
    rules, faults = scenario.scheduler, scenario.faults
    config = records(1, GANG_CONFIG)
    values = {
        "window": rules.window,
        "plans": len(PLAN_NAMES) - (not scenario.cluster.fabric.optical),
        "pools": len(scenario.cluster.pools),
        "running_rows": rules.running_rows if rules.preemption else 0,
        "aggregate": scenario.observation.aggregate,
        "preemption": rules.preemption,
        "preempt_s": rules.preempt_s,
        "checkpoint_s": rules.checkpoint_s,
        "failure_s": faults.node_mtbf_h * 3600.0,
        "repair_s": faults.repair_h * 3600.0,
        "straggler_share": faults.straggler_share,
        "straggler_speed": faults.straggler_speed,
    }
    for name, value in values.items():
        config[name] = value
    weights = ("waiting", "in_system", "slowdown", "finished", "utilisation", "preemptions")
    for term, weight in zip((*weights, "cost", "energy", "invalid"), scenario.reward, strict=True):
        config[f"w_{term}"] = weight
    return config


def _fabric(scenario: PlacementScenario) -> NDArray[np.void]:
    cluster, fabric = scenario.cluster, scenario.cluster.fabric
    record = records(1, FABRIC)
    record[0] = (
        cluster.num_nodes,
        cluster.gpus_per_node,
        len(cluster.leaf_pod),
        int(fabric.switch_pod.max()) + 1,
        fabric.num_switches,
        fabric.uplinks,
        fabric.spines,
        fabric.core_uplinks,
        fabric.planes,
        fabric.spine_ports,
        fabric.optical,
        ROUTINGS.index(scenario.network.routing),
        scenario.network.queue_pairs,
        FIDELITIES.index(scenario.network.fidelity),
        fabric.reconfigure_s,
    )
    return record


def _specs(cluster: Cluster) -> NDArray[np.void]:
    """Return one NODE_SPEC record per node."""
    specs = records(cluster.num_nodes, NODE_SPEC)
    for number, pool in enumerate(cluster.pools):
        here = cluster.node_pool == number
        for name, value in {
            "pool": number,
            "gpus": pool.gpus_per_node,
            "nic_bytes_per_s": pool.nic_bytes_per_s,
            "scale_up_bytes_per_s": pool.scale_up_bytes_per_s,
            "memory_bytes": pool.gpu.memory_bytes,
            "price_per_h": pool.gpu.price_per_h,
            "idle_w": IDLE_POWER * pool.gpu.tdp_w,
            "busy_w": pool.gpu.tdp_w,
        }.items():
            specs[name][here] = value
    specs["leaf"] = cluster.node_leaf
    specs["pod"] = cluster.leaf_pod[cluster.node_leaf]
    return specs


def reference_pool(cluster: Cluster) -> int:
    """Return the pool whose GPU durations refer to: the one of highest 16-bit peak."""
    return int(np.argmax([pool.gpu.fp16_flops for pool in cluster.pools]))


def job_profiles(scenario: PlacementScenario) -> list[GangProfile]:
    """Return a profile for every (profile, GPUs) of the scenario's jobs, in their order."""
    pool = scenario.cluster.pools[reference_pool(scenario.cluster)]
    return [
        gang_profile.profile(name, gpus, *_site(pool), pool.gpu.name)
        for name, gpus in scenario.jobs.sizes
    ]


def _site(pool: Pool) -> tuple[int, float, float]:
    """Return GPUs per node, and what a GPU gets of NICs and scale-up link when all send."""
    per_gpu = pool.nic_bytes_per_s * min(1.0, pool.nics_per_node / pool.gpus_per_node)
    return pool.gpus_per_node, per_gpu, pool.scale_up_bytes_per_s


def _kinds(
    cluster: Cluster, profiles: list[GangProfile]
) -> tuple[NDArray[np.void], NDArray[np.void], NDArray[np.float64]]:
    """Return KIND (K,), PHASE (P,) and the speed of each kind on each pool (K, pools)."""
    pool = cluster.pools[reference_pool(cluster)]
    kinds = records(len(profiles), KIND)
    phases = records(max(1, sum(len(profile.phases) for profile in profiles)), PHASE)
    speeds = np.zeros((len(profiles), len(cluster.pools)))
    at = 0
    for row, profile in enumerate(profiles):
        comm_s = seconds(profile.phases, profile.gpus, *_site(pool))
        nominal_s = profile.compute_s + max(0.0, comm_s - profile.hidden_s)
        kinds[row] = (
            profile.gpus,
            at,
            len(profile.phases),
            profile.compute_s,
            profile.hidden_s,
            profile.memory_bytes,
            profile.load,
            nominal_s,
            min(comm_s / nominal_s, 1.0),
        )
        for phase in profile.phases:
            phases[at] = (phase.ranks, phase.stride, phase.shift, phase.mode, phase.bytes)
            at += 1
        speeds[row] = [gang_profile.speed(profile, other.gpu.name) for other in cluster.pools]
    return kinds, phases, speeds


class PlacementBatch(Batch):
    """Worlds in which gangs are placed.

    Args:
        scenario: what to simulate.
        num_envs: how many.
    """

    scenario: PlacementScenario
    world: GangWorld

    def __init__(self, scenario: PlacementScenario, num_envs: int) -> None:
        self.scenario = scenario
        static = build_static(scenario, job_profiles(scenario))
        self.world = GangWorld(static, num_envs, scenario.jobs.num_jobs)
        self._row = {size: row for row, size in enumerate(scenario.jobs.sizes)}
        self._once = np.array([name.startswith(ONE_ITERATION) for name, _ in self._row])
        self._profiles: list[NDArray[np.int16]] = [np.empty(0, np.int16)] * num_envs
        self.compile()

    def load(self, e: int, rng: np.random.Generator) -> None:
        """Draw the next episode of environment ``e``."""
        stream = self.scenario.jobs.sample(rng)
        kinds = self.world.static.kinds
        jobs = new_jobs(len(stream))
        jobs["kind"] = self._rows(stream)
        once = self._once[jobs["kind"]]
        nominal_s = kinds["nominal_s"][jobs["kind"]]
        jobs["iterations"] = np.where(once, 1.0, stream.duration_s / nominal_s)
        jobs["iterations_left"] = jobs["iterations"]
        jobs["scale"] = np.where(once, stream.duration_s / nominal_s, 1.0)
        jobs["comm_scale"] = stream.comm_scale * jobs["scale"]
        jobs["required"], jobs["preferred"] = self.scenario.jobs.levels(stream.gpus)
        jobs["estimate_s"] = self.scenario.estimate(rng, stream)
        for name in ("arrival_s", "gpus", "priority", "tenant", "pool"):
            jobs[name] = getattr(stream, name)
        self._profiles[e] = stream.profile
        self.world.load(e, jobs, rng)

    def _rows(self, stream: JobStream) -> NDArray[np.int64]:
        """Return the kind of every job, int64 (J,)."""
        names = self.scenario.jobs.profiles
        pairs = stream.profile.astype(np.int64) << 32 | stream.gpus
        distinct, inverse = np.unique(pairs, return_inverse=True)
        found = [self._row[names[pair >> 32], pair & 0xFFFFFFFF] for pair in distinct.tolist()]
        return np.array(found)[inverse]

    def results(self, e: int) -> dict[str, NDArray]:
        """Return the per-job table of environment ``e``'s episode; times NaN if not reached.

        Columns, all of shape (J,): `job`, `arrival_s`, `start_s` (first start), `finish_s`, `gpus`,
        `duration_s` (at speed 1, nothing else on the network), `waited_s`, `ran_s`, `ideal_run_s`
        (run time if no two flows had met), `nodes`, `leafs`, `plan` (-1: the policy's own),
        `preemptions`, `failures`, `priority`, `tenant`, `pool`, `network_wait_s`, `profile`.
        """
        jobs = self.world.arrays["jobs"][e][: int(self.world.envs["num_jobs"][e])]
        kinds = self.world.static.kinds[jobs["kind"]]
        table = {
            name: np.array(jobs[name])
            for name in (
                "arrival_s",
                "finish_s",
                "gpus",
                "waited_s",
                "ran_s",
                "ideal_run_s",
                "nodes",
                "leafs",
                "plan",
                "preemptions",
                "failures",
                "priority",
                "tenant",
                "pool",
                "network_wait_s",
            )
        }
        unfinished = np.isnan(table["finish_s"])
        for name in ("waited_s", "ran_s", "ideal_run_s"):
            table[name][unfinished] = np.nan
        table["job"] = np.arange(len(jobs))
        table["start_s"] = np.array(jobs["first_start_s"])
        table["duration_s"] = jobs["iterations"] * jobs["scale"] * kinds["nominal_s"]
        table["profile"] = self._profiles[e]
        return table

    def view(self, e: int) -> ClusterView:
        """Return what a planner may read of environment ``e``."""
        state, static = self.world.arrays, self.world.static
        jobs = state["jobs"][e]
        env = state["envs"][e]
        arrived = jobs[: int(env["arrived"])]
        pending = np.flatnonzero(arrived["status"] == PENDING)
        running = np.flatnonzero(arrived["status"] == RUNNING)
        running = running[np.argsort(jobs["start_s"][running], kind="stable")]
        now_s = float(env["now_s"])
        return ClusterView(
            now_s=now_s,
            cluster=self.scenario.cluster,
            gpu_job=state["gpu_owner"][e].copy(),
            uplink_job=state["uplink_owner"][e].copy(),
            uplink_flows=state["uplink_users"][e].copy(),
            circuits=state["circuits"][e].copy(),
            link_load=np.minimum(state["load"][e] / static.capacity, 1.0),
            pending=_gang_view(jobs, pending, now_s, static),
            running=_gang_view(jobs, running, now_s, static),
            speeds=_speeds(jobs[pending], static),
            running_speeds=_speeds(jobs[running], static),
            tenant_gpus=state["tenant_gpus"][e].copy(),
            quotas=static.quotas.copy(),
            preemption=self.scenario.scheduler.preemption,
        )

    def propose(self, e: int, plan: Plan) -> None:
        """Hand over a planner's plan for environment ``e``; the last action carries it out."""
        self.world.propose(e, plan)

    def ask_planner(self) -> None:
        """Stop for a decision whenever a gang is pending, not only if a candidate is feasible."""
        self.world.static.config["planner"] = 1

    def render(self, e: int, mode: str) -> Any:
        """Return environment ``e`` as text ("ansi") or as a uint8 image ("rgb_array")."""
        draw = rendering_placement.as_text if mode == "ansi" else rendering_placement.as_image
        return draw(self.view(e), self.scenario.name)


def _speeds(rows: NDArray[np.void], static: GangStatic) -> NDArray[np.float64]:
    """Return the speed of some gangs on each pool, 0 where they cannot or may not run."""
    speeds: NDArray[np.float64] = static.speeds[rows["kind"]]
    here = np.arange(speeds.shape[1])
    allowed = (rows["pool"][:, None] < 0) | (rows["pool"][:, None] == here)
    return speeds * allowed


def _gang_view(
    jobs: NDArray[np.void], ids: NDArray[np.int64], now_s: float, static: GangStatic
) -> NDArray[np.void]:
    """Return what is known of some gangs."""
    rows = jobs[ids]
    view = np.zeros(len(ids), GANG_VIEW)
    is_running = rows["status"] == RUNNING
    run_s = np.where(is_running, now_s - rows["start_s"], 0.0)
    view["id"] = ids
    for name in ("gpus", "arrival_s", "estimate_s", "priority", "tenant", "pool", "required"):
        view[name] = rows[name]
    view["preferred"], view["preemptions"] = rows["preferred"], rows["preemptions"]
    view["executed_s"] = rows["ran_s"] + run_s
    view["start_s"] = np.where(is_running, rows["start_s"], np.nan)
    rest_s = np.maximum(rows["estimate_s"] - rows["ran_s"], 0.0)
    speed = np.where(is_running, np.maximum(rows["speed"], 1e-9), 1.0)
    end_s = np.maximum(rows["start_s"] + rest_s / speed, now_s)
    view["end_s"] = np.where(is_running, end_s, np.nan)
    ideal_s = np.where(is_running, rows["ideal_s"], 1.0)
    view["slowdown"] = np.where(is_running, rows["iteration_s"] / ideal_s, 1.0)
    moved_now = np.where(is_running, rows["start_s"], rows["stopped_s"]) == now_s
    view["blocked"] = moved_now
    return view
