"""Every column of a placement observation against a slow, separately written reading."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from placement_worlds import make, small
from slow_gangs import Book, sample_jobs
from slow_placement_observer import TABLES, Observer, Raw
from slow_plans import PLANS
from slow_routes import reckon

from gpuyard.envs.hardware.catalogue import gpu
from gpuyard.envs.hardware.fabric import build, pool
from gpuyard.envs.hardware.fabric_plan import FabricPlan
from gpuyard.envs.scenario import NetworkRules, Scenario
from gpuyard.envs.workload.jobs.queues import Queue
from gpuyard.envs.workload.jobs.stream import JobStream

MOST_DECISIONS = 100
NUM_JOBS = 40
SEEDS = range(4)
SMALL_MODELS = ("VGG-16", "BERT-large-512", "ResNet-50")
LEAF_SPINE = {"nodes_per_leaf": 4, "spines": 4, "uplinks": 8, "oversubscription": 2.0}
FAT_TREE = {
    "kind": "fat-tree", "nodes_per_leaf": 2, "leafs_per_pod": 2, "spines": 2, "uplinks": 4,
    "core_uplinks": 2, "oversubscription": 1.5,
}  # fmt: skip
RAIL = {"kind": "rail", "nodes_per_leaf": 4, "spines": 4, "uplinks": 4}
OPTICAL = {
    "nodes_per_leaf": 4, "spines": 8, "uplinks": 16, "optical": True, "spine_ports": 16,
    "reconfigure_s": 5.0,
}  # fmt: skip
TWO_POOLS = [
    {"gpu": "A100-80", "nodes": 6, "gpus_per_node": 4, "nics_per_node": 2},
    {"gpu": "V100-32", "nodes": 7, "gpus_per_node": 2, "nics_per_node": 2, "nodes_per_leaf": 3},
]
UNEQUAL = build(  # leafs and pods as a topology file may have them
    [pool(gpu("V100-32"), 16, 4, nodes_per_leaf=5, leafs=((5, 2), (3, 1, 4), (1,)))],
    FabricPlan(**{**FAT_TREE, "leafs_per_pod": 3}),
    "unequal",
)
RECKONED = NetworkRules(fidelity="none", routing="source")
PREEMPTION = {"preemption": True, "running_rows": 5, "preempt_s": 30.0}


def random_jobs(
    seed: int,
    sizes: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
    models: tuple[str, ...] = SMALL_MODELS,
    pools: tuple[int, ...] = (-1,),
    tenants: tuple[str, ...] = ("all",),
    gap_s: float = 90.0,
) -> JobStream:
    """Jobs that differ in everything that a job list can say; those of pool 1 fit there."""
    rng = np.random.default_rng(seed)
    n = NUM_JOBS
    pool = rng.choice(pools, n)
    gpus = rng.choice(sizes, n)
    profile = rng.integers(len(models), size=n)
    arrival_s = np.cumsum(rng.exponential(gap_s, n))
    return JobStream(
        arrival_s=arrival_s - arrival_s[0],
        gpus=np.where(pool == 1, np.minimum(gpus, 12), gpus).astype(np.int32),
        duration_s=rng.uniform(100.0, 1500.0, n),
        profile=np.where(pool == 1, 0, profile).astype(np.int16),
        comm_scale=rng.uniform(0.5, 3.0, n).astype(np.float32),
        priority=rng.random(n).astype(np.float32),
        tenant=rng.integers(len(tenants), size=n).astype(np.int16),
        pool=pool.astype(np.int16),
        profiles=models,
        tenants=tenants,
    )


def world(stream: JobStream, quotas: tuple[int, ...] = (), **tables: dict[str, Any]) -> Scenario:
    """A small scenario with these jobs, of tenants with these quotas."""
    tables["scheduler"] = {"window": 4, **tables.get("scheduler", {})}
    tables["jobs"] = {"max_gpus": 8, **tables.get("jobs", {})}  # the drawn ones are not used
    scenario = small("small", **tables)
    most = (scenario.cluster.num_gpus,) * len(stream.tenants)
    jobs = replace(
        scenario.jobs,
        source=stream,
        num_jobs=NUM_JOBS,
        queues=tuple(map(Queue, stream.tenants, quotas or most)),
    )
    return replace(scenario, jobs=jobs)


def two_pools(seed: int, **tables: dict[str, Any]) -> Scenario:
    """Nodes of 4 A100 and nodes of 2 V100; some jobs may use one pool only, some fit one only."""
    stream = random_jobs(
        seed, (1, 2, 3, 4, 6, 8, 12, 20), (*SMALL_MODELS, "GPT-2-XL"), (-1, -1, 0, 1), ("a", "b")
    )
    cluster = {"pools": TWO_POOLS, "fabric": {**LEAF_SPINE, "oversubscription": 4.0}}
    return world(stream, (24, 30), cluster=cluster, **tables)


WORLDS: dict[str, Callable[[int], Scenario]] = {
    "plain": lambda seed: world(random_jobs(seed)),
    "plain, flow": lambda seed: world(random_jobs(seed), network={"fidelity": "flow"}),
    "pools": lambda seed: two_pools(seed),
    "quotas": lambda seed: world(
        random_jobs(seed, (1, 2, 4, 6, 8, 16), tenants=("a", "b", "c")), (16, 20, 40)
    ),
    "preemption": lambda seed: world(
        random_jobs(seed), scheduler=PREEMPTION, cluster={"fabric": {**LEAF_SPINE, "uplinks": 4}}
    ),
    "rails": lambda seed: world(
        random_jobs(seed), cluster={"fabric": {**RAIL}}, network={"routing": "balanced"}
    ),
    "optical": lambda seed: world(
        random_jobs(seed, (2, 8, 16, 24, 32)), cluster={"fabric": OPTICAL}
    ),
    "three tiers": lambda seed: world(random_jobs(seed), cluster={"fabric": FAT_TREE}),
    "unequal": lambda seed: replace(world(random_jobs(seed)), cluster=UNEQUAL),
    "in a pod": lambda seed: world(
        random_jobs(seed, (1, 4, 6, 8, 12, 16)),
        cluster={"fabric": FAT_TREE},
        jobs={"required": "pod", "preferred": "node"},
    ),
    "under a leaf": lambda seed: world(
        random_jobs(seed, (1, 3, 4, 6, 8, 12, 16)), jobs={"required": "leaf"}
    ),
    "coarse": lambda seed: two_pools(seed, observation={"aggregate": True}),
    "faults": lambda seed: world(
        random_jobs(seed),
        scheduler={**PREEMPTION, "checkpoint_s": 300.0},
        faults={
            "node_mtbf_h": 4.0, "repair_h": 0.3, "straggler_share": 0.3, "straggler_speed": 0.6,
        },
    ),
    "reckoned": lambda seed: world(
        random_jobs(seed), network=asdict(RECKONED), faults={"straggler_share": 0.3}
    ),
    "reckoned, rails": lambda seed: world(
        random_jobs(seed, (2, 6, 8, 16, 24, 32)), network=asdict(RECKONED), cluster={"fabric": RAIL}
    ),
    "reckoned, three tiers": lambda seed: world(
        random_jobs(seed),
        network=asdict(RECKONED),
        scheduler=PREEMPTION,
        cluster={"fabric": FAT_TREE},
    ),
}  # fmt: skip


ABOUT = ("position", "gpus", "estimate_s", "age_s", "executed_s", "priority")
FLAGS = ("is_place", "is_preempt", "is_wait", "is_own", *(f"plan_{plan}" for plan in PLANS))
NEVER = {("cluster", "kind_route"), ("cluster", "kind_scale"), ("queue", "is_request")}
"""Columns of routing worlds, which are 0 here."""


class Seen:
    """Values that every column has had, by kind of row; rows that are empty do not count."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], set[float]] = defaultdict(set)

    def note(self, observation: dict[str, NDArray]) -> None:
        """Add the values of one observation."""
        candidates, queue = observation["candidates"], observation["queue"]
        place, preempt = (candidates[:, at("candidates", name)] == 1 for name in FLAGS[:2])
        self.add("cluster", "cluster", observation["cluster"][None])
        self.add("queue", "queue", queue[queue[:, at("queue", "is_gang")] == 1])
        self.add("any row", "candidates", candidates)
        self.add("starts", "candidates", candidates[place])
        self.add("stops", "candidates", candidates[preempt])
        for key in ("device_memory", "device_load", "link_load", "action_mask"):
            self.values[key, key] |= set(observation[key].tolist())

    def add(self, kind: str, key: str, rows: NDArray) -> None:
        for column, values in zip(TABLES[key], rows.T, strict=True):
            self.values[kind, column.name] |= set(values.tolist())

    def varies(self, kind: str, name: str) -> bool:
        return len(self.values[kind, name]) > 1


def at(key: str, name: str) -> int:
    """Position of a column."""
    return [column.name for column in TABLES[key]].index(name)


def same(key: str, got: NDArray, expected: NDArray, where: str) -> None:
    """Compare what is stored with what is expected, naming what differs."""
    assert got.shape == expected.shape, f"{where}: {key}"
    off = ~np.isclose(got, expected, rtol=2e-6, atol=2e-7)
    if off.any():
        first = tuple(np.argwhere(off)[0].tolist())
        name = TABLES[key][first[-1]].name if key in TABLES else "value"
        raise AssertionError(f"{where}: {key}{first} {name}: {got[first]}, not {expected[first]}")


def compare(slow: Observer, observation: dict[str, NDArray]) -> None:
    """Compare all keys; where links can be reckoned by hand, also what is else taken as given."""
    where = f"at {slow.now_s:.1f} s"
    expected = slow.expected()
    assert observation.keys() == expected.keys()
    for key, array in expected.items():
        same(key, observation[key], array, where)
    if slow.scenario.network == RECKONED:
        load, used = reckon(slow.network, slow.loads)
        same("link_load", observation["link_load"], load, f"{where}, reckoned")
        assert (used == (slow.raw.view.uplink_flows > 0)).all(), where
        for run, gang in zip(slow.runs, slow.loads, strict=True):
            assert slow.raw.iteration_s(run.job) == pytest.approx(slow.network.ideal_s(gang))
            assert slow.raw.comm_s(run.job) == pytest.approx(slow.network.comm_s(gang))


@cache
def play(name: str, seed: int) -> Seen:
    """Play a world at random, compare every observation, and return what was seen."""
    scenario, seen = WORLDS[name](seed), Seen()
    env, jobs, book = make(scenario), sample_jobs(scenario, seed), Book()
    if scenario.faults.node_mtbf_h > 0:  # a decision at every failure, whatever can be done
        env.ask_planner()
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    done = False
    for _ in range(MOST_DECISIONS):
        raw = Raw(env)
        book.look(raw.view, raw.finish_s)
        slow = Observer(scenario, jobs, book, raw)
        compare(slow, observation)
        seen.note(observation)
        if done:
            break
        action = int(rng.choice(np.flatnonzero(observation["action_mask"])))
        refused = info["invalid_actions"]
        observation, _, done, _, info = env.step(action)
        if info["invalid_actions"] == refused:
            slow.act(action)
        else:  # two leafs may want the same port, which the mask does not foresee: no start then
            assert slow.starts[action].plan == "optical"
    return seen


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", WORLDS)
def test_every_key_is_what_a_slow_reading_finds(name: str, seed: int) -> None:
    play(name, seed)


def test_every_column_varies_somewhere() -> None:
    """No column is compared at one value only: a constant in its place would be found."""
    seen = Seen()
    for name, seed in product(WORLDS, SEEDS):
        for column, values in play(name, seed).values.items():
            seen.values[column] |= values
    kinds = {"cluster": "cluster", "queue": "queue", "starts": "candidates"}
    columns = {(kind, c.name) for kind, key in kinds.items() for c in TABLES[key]} - NEVER
    columns -= {("queue", "is_gang"), *(("starts", flag) for flag in FLAGS)}
    columns |= {("any row", flag) for flag in FLAGS}
    columns |= {("stops", name) for name in (*ABOUT, "leafs", "comm_share", "free_after")}
    columns |= {(key, key) for key in ("device_memory", "device_load", "link_load", "action_mask")}
    assert sorted(name for name in columns if not seen.varies(*name)) == []
    assert seen.values["queue", "is_gang"] == {1.0}
    assert all(seen.values[name] == {0.0} for name in NEVER)
