"""Small worlds in which services and jobs share a cluster, and what must hold in them."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np

import gpuyard  # noqa: F401
from gpuyard.envs.engine.gangs.records import FINISHED, PENDING, RUNNING
from gpuyard.envs.engine.network.names import FLUID
from gpuyard.envs.engine.serving.records import (
    COMING,
    DECODE,
    DRAINING,
    MOVING,
    OFF,
    PREFILL,
    QUEUED,
    SERVING,
    STARTING,
    TURNING,
    WHOLE,
)
from gpuyard.envs.scenario import Scenario, from_dict

GPUS_PER_NODE = 4


def service(name: str, **changes: Any) -> dict[str, Any]:
    """Return a ``[[deployments]]`` table of 1 to 3 small replicas that start in 5 s."""
    return {
        "name": name,
        "gpu": "A100-80",
        "model": "Llama-3-8B",
        "min": 1,
        "max": 3,
        "startup_s": 5.0,
        "workload": {"preset": "chat", "num_requests": 60, "rate_per_s": 2.0, "max_tokens": 2048},
        **changes,
    }


def apart(name: str, **changes: Any) -> dict[str, Any]:
    """Return the same with roles apart: up to 2 prefill and 2 decode replicas."""
    roles = [{"kind": "prefill", "max": 2}, {"kind": "decode", "max": 2}]
    return service(name, **{"roles": roles, **changes})


def small(*services: dict[str, Any], name: str = "small", **tables: Any) -> Scenario:
    """Return 24 A100 on 6 nodes with jobs of 1 to 8 GPUs and two services."""
    table: dict[str, Any] = {
        "cluster": {
            "pools": [{"gpu": "A100-80", "nodes": 6, "gpus_per_node": GPUS_PER_NODE}],
            "fabric": {"nodes_per_leaf": 3, "oversubscription": 2.0},
        },
        "jobs": {
            "num_jobs": 12,
            "rate_per_h": 1200.0,
            "max_gpus": 8,
            "max_duration_s": 20.0,
            "profiles": {"VGG-16": 0.5, "BERT-large-512": 0.5},
        },
        "deployments": list(services) or [service("chat"), service("code", tp=2, max=2)],
        "scaler": {"interval_s": 4.0},
    }
    for key, change in tables.items():
        table[key] = {**table.get(key, {}), **change}
    return from_dict(table, name)


def make(scenario: Scenario) -> Any:
    """Return the environment itself, without wrappers."""
    return gym.make("gpuyard/Cluster-v0", scenario=scenario).unwrapped


def play(env: Any, seed: int, check: Any = None, keep: bool = False) -> dict[str, float]:
    """Play an episode at random; ``keep``: no replica is added or taken away."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    total, done = 0.0, False
    while not done:
        if check is not None:
            check(env, observation)
        action = rng.choice(np.flatnonzero(env.action_masks()))
        if keep and observation["cluster"][2] > 0:
            action = 0
        observation, reward, terminated, truncated, info = env.step(int(action))
        total += float(reward)
        done = terminated or truncated
    return {**info, "return": total, "terminated": terminated}


def fail_at(env: Any, node: int, at_s: float, repair_s: float = 0.0) -> None:
    """Let a node fail at that time, for so long at least, and no other one.

    Chooses the state of splitmix64 from which the engine draws node and repair.
    """
    devices = env._world.state["devices"][0]
    nodes, mean_s = env._world.state["node_free"].shape[1], 3600 * env.scenario.faults.repair_h
    for seed in range(100_000):
        which, how_long = _units(seed, 2)
        if int(which * nodes) == node and -math.log(how_long) * mean_s >= repair_s:
            devices["random"], devices["next_failure_s"] = seed, at_s
            return
    raise AssertionError("no such draw")


def _units(state: int, count: int) -> list[float]:
    """Return the first floats in (0, 1) that splitmix64 draws from a state."""
    found, mask = [], 2**64 - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        key = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & mask
        found.append((((key ^ (key >> 31)) >> 11) + 0.5) * 2.0**-53)
    return found


def waits_for_base(state: Any, shared: Any, spec: Any) -> bool:
    """Tell whether a replica's gang is rightly out of the queue.

    It starts with a base gang that queues as a whole, or its base gang has not all its devices.
    """
    jobs, specs = state["jobs"][0], shared["replica_specs"]
    base = specs[(specs["service"] == spec["service"]) & (specs["is_base"] == 1)]
    if spec["is_base"]:
        return bool(jobs["status"][shared["services"]["base_gang"][spec["service"]]] == PENDING)
    return bool((jobs["status"][base["gang"]] != RUNNING).any())


class Check:
    """Checks a world at every decision, and remembers what must not go back."""

    def __init__(self) -> None:
        self.now_s, self.ended = -1.0, 0

    def __call__(self, env: Any, observation: Any) -> None:
        state, shared = env._world.state, env._world.shared
        for key, space in env.observation_space.spaces.items():
            assert space.contains(observation[key]), (
                key,
                observation[key].min(),
                observation[key].max(),
            )
        assert env.action_masks().any()
        now_s = state["clock"]["now_s"][0]
        assert now_s >= self.now_s
        self.now_s = now_s
        self.gangs(state, shared, now_s)
        self.requests(state, shared)

    def gangs(self, state: Any, shared: Any, now_s: float) -> None:
        """All of a gang's devices or none; a replica stands where its gang does."""
        jobs, owner = state["jobs"][0], state["gpu_owner"][0]
        held = np.bincount(owner[owner >= 0], minlength=len(jobs))
        running = jobs["status"] == RUNNING
        assert (held == np.where(running, jobs["gpus"], 0)).all()
        assert (state["used_memory"][0] <= 1 + 1e-6).all()
        assert (state["link_rate"][0] <= shared["capacity"] * (1 + 1e-9)).all()
        gangs = state["gangs"][0]
        assert gangs["pending"] == (jobs["status"] == PENDING).sum()
        services = jobs["service"] >= 0
        assert gangs["running"] == (running & ~services).sum()
        assert gangs["pending_jobs"] == ((jobs["status"] == PENDING) & ~services).sum()
        assert gangs["finished"] == (jobs["status"] == FINISHED).sum()
        moving = 0
        for replica, spec in zip(state["replicas"][0], shared["replica_specs"], strict=True):
            status = jobs["status"][spec["gang"]]
            if replica["phase"] in (SERVING, STARTING, DRAINING):
                assert status == RUNNING
            elif replica["phase"] == QUEUED:
                assert status == PENDING or waits_for_base(state, shared, spec)
            else:
                assert replica["phase"] in (OFF, TURNING) and status not in (RUNNING, PENDING)
            moving += replica["phase"] in (STARTING, DRAINING)
            if replica["phase"] == STARTING:
                assert replica["ready_s"] > now_s
        assert state["fleet"][0]["moving"] == moving
        self.turns(state["replicas"][0], shared["replica_specs"])
        self.senders(state, shared)

    def senders(self, state: Any, shared: Any) -> None:
        """Who sends for its steps has devices, on several nodes."""
        replicas = state["replicas"][0]
        if len(shared["traffic"]):
            first = state["senders"].shape[1] - state["once"].shape[1] - len(replicas)
            senders = state["senders"][0, first : first + len(replicas)]
            known, acts = senders["heap_at"] >= 0, senders["event_s"] < math.inf
            assert np.isin(replicas["phase"][known & acts], (SERVING, DRAINING)).all()
            assert (shared["traffic"]["pattern"][replicas["kind"][known]] >= 0).all()
            assert (replicas["waits_s"] >= 0).all()
            if shared["fabric"]["fidelity"][0] != FLUID:  # it acts while the replica has a step
                assert ((replicas["busy"] == 1) == acts)[known].all()
                assert (replicas["end_s"][known & acts] == math.inf).all()

    def turns(self, replicas: Any, specs: Any) -> None:
        """Who waits for another's devices is the heir of one replica of its service that drains."""
        givers = np.flatnonzero(replicas["heir"] >= 0)
        heirs = replicas["heir"][givers]
        assert (replicas["phase"][givers] == DRAINING).all()
        assert sorted(heirs) == np.flatnonzero(replicas["phase"] == TURNING).tolist()
        assert (specs["service"][heirs] == specs["service"][givers]).all()
        assert (specs["role"][heirs] != specs["role"][givers]).all()

    def requests(self, state: Any, shared: Any) -> None:
        """Every request is in one place; no block is lost."""
        router, requests = state["router"][0], state["requests"][0]
        arrived = requests[: router["arrived"]]
        done = np.isfinite(arrived["finish_s"])
        assert done.sum() == router["finished"] >= self.ended
        self.ended = int(router["finished"])
        assert (arrived["stage"][done] == WHOLE).all()
        on = (arrived["replica"] >= 0) & ~done
        assert on.sum() == router["in_flight"] == state["replicas"][0]["in_flight"].sum()
        waiting = (arrived["replica"] < 0).sum()
        assert waiting == router["parked"] + router["held"] + (router["deciding"] >= 0)
        self.transfers(state, arrived)
        parked, at = 0, router["parked_head"]
        while at >= 0:
            parked, at = parked + 1, requests["next"][at]
        assert parked == router["parked"] >= router["parked_due"]
        for r, (replica, spec) in enumerate(
            zip(state["replicas"][0], shared["replica_specs"], strict=True)
        ):
            assert 0 <= replica["free_blocks"] <= spec["kv_blocks"]
            here = arrived[(arrived["replica"] == r) & ~done]
            assert (here["service"] == spec["service"]).all()
            self.handovers(arrived[~done], r, replica, spec)
            if replica["phase"] in (OFF, QUEUED, STARTING, TURNING):
                assert replica["in_flight"] == 0 and replica["free_blocks"] == spec["kv_blocks"]

    def transfers(self, state: Any, arrived: Any) -> None:
        """Bytes that set off have arrived, are given up, or have a sender on the network."""
        clients, fleet = np.flatnonzero(arrived["stage"] == MOVING), state["fleet"][0]
        senders = arrived["sender"][clients]
        assert len(set(senders)) == len(senders) == state["network"][0]["once_running"]
        assert (state["once"][0]["client"][senders] == clients).all()
        under_way = state["once"][0]["bytes"][senders].sum()
        known = fleet["arrived_bytes"] + fleet["lost_bytes"] + under_way
        assert np.isclose(fleet["moved_bytes"], known)

    def handovers(self, open_ones: Any, r: int, replica: Any, spec: Any) -> None:
        """KV caches are held at both ends until they have arrived."""
        assert replica["holding"] == ((open_ones["source"] == r) & (open_ones["stage"] > 0)).sum()
        here = open_ones["replica"] == r
        assert replica["coming"] == (here & (open_ones["stage"] == COMING)).sum()
        moving = open_ones[here & (open_ones["stage"] == MOVING)]
        used = spec["kv_blocks"] - replica["free_blocks"]
        assert used >= (moving["there"] - moving["there_nodes"] * spec["unit_blocks"]).sum()
        held = open_ones[(open_ones["source"] == r) & (open_ones["stage"] > 0)]
        assert (held["blocks"] > 0).all()
        if spec["does"] == DECODE:
            assert replica["holding"] == 0
        if spec["does"] == PREFILL:
            assert replica["coming"] == 0 and not len(moving)
