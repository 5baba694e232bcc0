"""The arrays of a batch of worlds in which gangs are placed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cluster_view import Plan
from ...engine.core.records import fill, record_of, records
from ...observation import Layout
from ...world import Outputs, World
from .. import clock as decisions
from ..decide.columns import layout_record
from ..network import arrays as network
from ..state import GANGS
from .records import DOWN, FREE, GANG_ENV, JOB, UNSEEN

INFO_KEYS = (
    "time_s",
    "arrived",
    "finished",
    "invalid_actions",
    "preemptions",
    "failures",
    "jct_mean_s",
    "jrt_mean_s",
    "jwt_mean_s",
    "slowdown_mean",
    "contention_mean",
    "utilisation",
    "network_wait_share",
    "cost",
    "energy_kwh",
    "fragmentation",
)

OBSERVED = {"device_memory": "memory", "action_mask": "mask"}
"""Fields of the bundle that hold an observation key of another name."""

MASK_SLOT = GANGS.fields["mask"].slot


@dataclass(frozen=True)
class GangStatic:
    """What all environments of a batch share; shapes as in :class:`.state.GangState`."""

    config: NDArray[np.void]
    fabric: NDArray[np.void]
    specs: NDArray[np.void]
    kinds: NDArray[np.void]
    phases: NDArray[np.void]
    speeds: NDArray[np.float64]
    quotas: NDArray[np.int32]
    leaf_pods: NDArray[np.int32]
    leaf_pools: NDArray[np.int32]
    leaf_begin: NDArray[np.int32]
    gpu_switch: NDArray[np.int32]
    switch_pods: NDArray[np.int32]
    switch_begin: NDArray[np.int32]
    capacity: NDArray[np.float64]


class GangWorld(World):
    """Worlds in which gangs are placed.

    Args:
        static: cluster, kinds of jobs and configuration.
        num_envs: E.
        num_jobs: J, jobs per episode.
    """

    info_keys = INFO_KEYS
    run_batch = staticmethod(decisions.run_gang_batch)

    def __init__(self, static: GangStatic, num_envs: int, num_jobs: int) -> None:
        config, fabric = static.config[0], static.fabric[0]
        self.static = static
        self.num_envs = num_envs
        self.num_jobs = num_jobs
        places = config["window"] * config["plans"] * config["pools"]
        self.num_candidates = int(places + config["running_rows"] + 2)
        num_gpus = len(static.gpu_switch)
        num_leafs, num_links = len(static.leaf_pods), len(static.capacity)
        self.num_seen = num_leafs if config["aggregate"] else num_gpus
        self.num_seen_links = num_leafs if config["aggregate"] else num_links
        e, c = num_envs, self.num_candidates
        switches = (e, len(static.switch_pods), int(fabric["uplinks"]))
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "envs": ((e,), GANG_ENV),
            "jobs": ((e, num_jobs), JOB),
            "gpu_owner": ((e, num_gpus), np.int32),
            "gpu_next": ((e, num_gpus), np.int32),
            "gpu_uplink": ((e, num_gpus), np.int32),
            "node_free": ((e, len(static.specs)), np.int32),
            "node_speed": ((e, len(static.specs)), np.float64),
            "leaf_hist": ((e, num_leafs, int(fabric["gpus_per_node"]) + 1), np.int32),
            "uplink_owner": (switches, np.int32),
            "circuits": (switches, np.int32),
            "order": ((e, num_gpus), np.int32),
            "tenant_gpus": ((e, len(static.quotas)), np.int32),
            "repairs": ((e, len(static.specs)), np.float64),
            "leaf_gangs": ((e, num_leafs), np.int32),
            "leaf_load": ((e, num_leafs), np.float64),
            "leaf_uplinks": ((e, num_leafs), np.int32),
            "ports": ((e, int(fabric["spines"]), int(fabric["uplinks"])), np.int32),
            "used_memory": ((e, self.num_seen), np.float64),
            "used_load": ((e, self.num_seen), np.float64),
            "feasible": ((e, c), np.int8),
            "chosen": ((e, num_leafs), np.int32),
            "plan_ids": ((e, c), np.int64),
            "counts": ((e, num_leafs), np.int32),
            "gpu_mark": ((e, num_gpus), np.int64),
            "proposal": ((e, 2), np.int32),
            "proposed_gpus": ((e, num_gpus), np.int32),
            "proposed_uplinks": ((e, num_gpus), np.int32),
            "proposed_circuits": ((e, num_gpus), np.int32),
            "proposed_stops": ((e, num_jobs), np.int32),
        }
        self.arrays: dict[str, NDArray[Any]] = {
            name: records(shape, dtype) if isinstance(dtype, np.dtype) else np.zeros(shape, dtype)
            for name, (shape, dtype) in shapes.items()
        }
        self.arrays |= network.allocate(
            num_envs,
            num_jobs,
            static.capacity,
            static.gpu_switch,
            len(static.switch_pods),
            fabric,
            static.kinds,
            static.phases,
        )
        self.arrays["layout"] = layout_record(Layout({"place"}))
        shared = (
            "gpu_port",
            "layout",
        )  # of the network's arrays the one that no environment changes
        self.state_names = tuple(name for name in self.arrays if name not in shared)
        self.envs = self.arrays["envs"]
        self.lay_out()
        keys = list(self.shapes())
        self._slots = np.array([GANGS.fields[OBSERVED.get(key, key)].slot for key in keys])
        self._offsets = np.array([4 * part.start for _, _, part in self._layout], np.int64)

    def array(self, name: str) -> NDArray[Any]:
        """Return an array of the state by name."""
        return self.arrays[name]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every float observation of one environment, in the engine's order."""
        layout = Layout({"place"})
        return {
            "cluster": (len(layout.columns("cluster")),),
            "device_memory": (self.num_seen,),
            "device_load": (self.num_seen,),
            "link_load": (self.num_seen_links,),
            "queue": (int(self.static.config[0]["window"]), len(layout.columns("queue"))),
            "candidates": (self.num_candidates, len(layout.columns("candidates"))),
        }

    def engine_table(self) -> NDArray[np.int64]:
        """Return the addresses and shapes that the engine reads; see :mod:`..bundle`."""
        static = self.static
        arrays = {item.name: getattr(static, item.name) for item in fields(static)} | self.arrays
        observed = self.observation(self.outputs())
        arrays |= {OBSERVED.get(key, key): array for key, array in observed.items()}
        return GANGS.table(arrays)

    def run(self, orders: NDArray[np.int64], actions: NDArray[np.int64], outputs: Outputs) -> None:
        """Do in each environment what ``orders`` says, and observe it into ``outputs``."""
        self._table[self._slots] = outputs.floats.ctypes.data + self._offsets
        self._table[MASK_SLOT] = outputs.mask.ctypes.data
        decisions.run_gang_batch(orders, actions, self._table.ctypes.data, outputs.numbers)

    @property
    def is_loaded(self) -> bool:
        """Whether every environment has had an episode loaded."""
        return bool((self.envs["num_jobs"] > 0).all())

    def load(self, e: int, jobs: NDArray[np.void], rng: np.random.Generator) -> None:
        """Empty the cluster of environment ``e`` and give it the jobs of its next episode.

        Args:
            e: the environment.
            jobs: JOB (J,), as they arrive; see :func:`new_jobs`.
            rng: seeds path hashing, failures and stragglers.
        """
        static, arrays = self.static, self.arrays
        config, fabric, specs = static.config[0], static.fabric[0], static.specs
        self.envs[e] = _NEW_ENV
        env = self.envs[e : e + 1]
        gpus = int(specs["gpus"].sum())
        for name, number in (("num_jobs", len(jobs)), ("free_gpus", gpus), ("total_gpus", gpus)):
            env[name] = number
        env["hash_seed"], env["random"] = rng.integers(2**63, size=2, dtype=np.uint64)
        env["power_w"] = (specs["idle_w"] * specs["gpus"]).sum()
        arrays["jobs"][e, : len(jobs)] = jobs
        slots = np.arange(int(fabric["gpus_per_node"]))
        exists = slots < specs["gpus"][:, None]
        arrays["gpu_owner"][e] = np.where(exists, FREE, DOWN).ravel()
        arrays["gpu_uplink"][e] = -1
        arrays["node_free"][e] = specs["gpus"]
        slow = rng.random(len(specs)) < config["straggler_share"]
        arrays["node_speed"][e] = np.where(slow, config["straggler_speed"], 1.0)
        arrays["leaf_hist"][e] = 0
        np.add.at(arrays["leaf_hist"][e], (specs["leaf"], specs["gpus"]), 1)
        arrays["uplink_owner"][e] = FREE
        uplinks = np.arange(arrays["circuits"].shape[2])
        arrays["circuits"][e] = -1 if fabric["optical"] else uplinks % int(fabric["spines"])
        arrays["repairs"][e] = np.inf
        arrays["proposal"][e] = (-1, 0)
        for name in ("tenant_gpus", "leaf_gangs", "ports", "used_memory", "used_load", "gpu_mark"):
            arrays[name][e] = 0

    def propose(self, e: int, plan: Plan) -> None:
        """Hand over a planner's plan, to be carried out by the last candidate.

        Raises:
            ValueError: if the plan's arrays do not go together.
        """
        arrays = self.arrays
        arrays["proposal"][e] = (plan.gang, len(plan.preempt))
        arrays["proposed_stops"][e, : len(plan.preempt)] = plan.preempt
        if plan.gang < 0:
            return
        gpus = np.asarray(plan.gpus if plan.gpus is not None else (), np.int32)
        known = 0 <= plan.gang < int(self.envs["arrived"][e])
        size = int(arrays["jobs"]["gpus"][e, plan.gang]) if known else len(gpus)
        for name, array in (("gpus", gpus), ("uplinks", plan.uplinks), ("circuits", plan.circuits)):
            if array is not None and len(array) != size:
                raise ValueError(
                    f"plan.{name} has {len(array)} entries; gang {plan.gang} has {size} ranks"
                )
        arrays["proposed_gpus"][e, :size] = gpus
        arrays["proposed_uplinks"][e, :size] = -1 if plan.uplinks is None else plan.uplinks
        arrays["proposed_circuits"][e, :size] = -1 if plan.circuits is None else plan.circuits


def new_jobs(count: int) -> NDArray[np.void]:
    """Return JOB records (count,) that have not arrived yet; the caller fills the first fields."""
    jobs = records(count, JOB)
    fill(jobs, _NEW_JOB)
    return jobs


_NEW_ENV = record_of(
    GANG_ENV, queue_head=-1, queue_tail=-1, running_head=-1, next_failure_s=np.inf,
    next_repair_s=np.inf,
)  # fmt: skip
_NEW_JOB = record_of(
    JOB,
    status=UNSEEN,
    next=-1,
    before=-1,
    first_gpu=-1,
    heap_at=-1,
    scale=1.0,
    comm_scale=1.0,
    pool=-1,
    required=3,
    preferred=1,
    start_s=np.nan,
    first_start_s=np.nan,
    finish_s=np.nan,
    stopped_s=np.nan,
)
