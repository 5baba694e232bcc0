"""LoRA adapters: which requests run together, what is loaded when, memory, columns, a router."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from engine_worlds import (
    cost_table,
    engine_world,
    random_spec,
    random_stream,
    reference_requests,
    send_all,
)
from reference_engine import Replica
from reference_kv import Served
from reference_steps import ReplicaSpec, Result
from scenario_tables import REPLICA, world
from test_kv_tiers import SPEC, plain_cost, prompts

import gpuyard  # noqa: F401
from gpuyard import baselines
from gpuyard.envs.engine.core.records import records
from gpuyard.envs.engine.serving.adapters import LORA_RULES
from gpuyard.envs.hardware import catalogue
from gpuyard.envs.observation import Layout
from gpuyard.envs.perf.serving.lora import adapter_bytes
from gpuyard.envs.rules import Lora
from gpuyard.envs.scenario import ScenarioError, from_dict
from gpuyard.envs.scenario.lora import draw_adapters

# -- against the naive reference -----------------------------------------------------------------


class LoraReplica(Replica):
    """A replica that keeps ``places`` adapters, least recently admitted first in ``here``."""

    def __init__(self, spec, cost, result: Result, adapters, places: int, load_s: float) -> None:
        super().__init__(spec, cost, result)
        self.adapters, self.places, self.each_s = adapters, places, load_s
        self.here: OrderedDict[int, None] = OrderedDict()
        self.loads = 0

    def idle(self) -> list[int]:
        used = {self.adapters[seq.index] for seq in self.running}
        return [adapter for adapter in self.here if adapter not in used]

    def has_place(self, seq: Served) -> bool:
        adapter = self.adapters[seq.index]
        room = len(self.here) < self.places or bool(self.idle())
        return adapter < 0 or adapter in self.here or room

    def take_place(self, seq: Served) -> None:
        adapter = self.adapters[seq.index]
        if adapter < 0:
            return
        if adapter not in self.here:
            if len(self.here) == self.places:
                self.running.remove(seq)
                del self.here[self.idle()[0]]
                self.running.append(seq)
            self.here[adapter] = None
            self.loads += 1
            self.load_s += self.each_s
        self.here.move_to_end(adapter)

    def schedule_waiting(self, now: float, budget: int) -> list[tuple[Served, int]]:
        plan: list[tuple[Served, int]] = []
        for seq in list(self.waiting):
            if budget == 0 or len(self.running) == self.spec.max_num_seqs:
                break
            if not self.has_place(seq):
                continue
            at = self.waiting.index(seq)
            self.waiting.insert(0, self.waiting.pop(at))
            new = self.try_to_admit(now, seq, budget)
            if new == 0:
                self.waiting.insert(at, self.waiting.pop(0))
                break
            self.take_place(seq)
            plan.append((seq, new))
            budget -= new
        return plan

    def begin_step(self, start: float, seen: float) -> float:
        self.load_s = 0.0
        end = super().begin_step(start, seen) + self.load_s
        self.under_way = replace(self.under_way, end_s=end)
        return end


def serve(spec: ReplicaSpec, table, stream, adapters, places: int, load_s: float):
    """Serve a stream whose requests name adapters on one replica of the engine."""
    rules = records(1, LORA_RULES)
    rules["load_s"] = load_s
    built = engine_world([spec], [table], stream, lora=(rules, places))
    built.state["requests"]["adapter"][0, : len(stream)] = adapters
    send_all(built, [0] * len(stream))
    return built.state


@pytest.mark.parametrize("features", [(), ("whole_prompt",), ("lag", "frontend")])
def test_adapters_give_the_same_events(features: tuple[str, ...]) -> None:
    loads = preemptions = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        unit = int(rng.choice([0, 16, 64]))
        spec = random_spec(rng, unit, **dict.fromkeys(features, True))
        table, load_s = cost_table(rng, True, spec), float(rng.choice([0.0, 2e-3, 0.05]))
        stream = random_stream(rng, int(rng.integers(20, 50)), unit)
        places, n = int(rng.integers(1, 4)), len(stream)
        adapters = rng.integers(-1, 5, n)
        result = Result([np.nan] * n, [np.nan] * n, [-1] * n, [0] * n, [], [])
        replica = LoraReplica(spec, table, result, adapters, places, load_s)
        replica.run([Served(i, request) for i, request in enumerate(reference_requests(stream))])
        state = serve(spec, table, stream, adapters, places, load_s)
        got, here = state["requests"][0], state["lora_places"][0, 0]
        np.testing.assert_array_equal(got["cached_tokens"], result.cached_tokens)
        np.testing.assert_array_equal(got["preemptions"], result.preemptions)
        np.testing.assert_allclose(got["first_token_s"], result.first_token_s, rtol=1e-9)
        np.testing.assert_allclose(got["finish_s"], result.finish_s, rtol=1e-9)
        assert here["loads"].sum() == replica.loads and not here["users"].any()
        assert set(here["adapter"][here["adapter"] >= 0]) == set(replica.here)
        loads, preemptions = loads + replica.loads, preemptions + sum(result.preemptions)
    assert loads > 100 and preemptions > 0


def test_one_place_by_hand() -> None:
    """65 ms a prompt at 1 ms a token. The second names another adapter and waits for the first to
    end; the third, of the first one's adapter, is admitted with it. 10 ms a load."""
    stream = replace(prompts([0.0, 0.0, 0.0]), prefix_ids=np.arange(12, dtype=np.int32))
    state = serve(SPEC, plain_cost(), stream, [0, 1, 0], places=1, load_s=0.010)
    first_s = state["requests"][0]["first_token_s"]
    assert first_s.tolist() == pytest.approx([0.140, 0.215, 0.140])
    assert state["lora_places"][0, 0]["loads"].tolist() == [2]


# -- scenarios -----------------------------------------------------------------------------------


def test_the_memory_of_an_adapter_by_hand() -> None:
    """Llama-2-7B, rank 16: (4 x 2 x 4096 + 3 x (4096 + 11008)) x 16 x 32 layers x 2 bytes."""
    sides = 4 * 2 * 4096 + 3 * (4096 + 11008)
    assert adapter_bytes(catalogue.model("Llama-2-7B"), 16) == sides * 16 * 32 * 2


def test_places_take_kv_blocks() -> None:
    plain, tuned = from_dict(world()), from_dict(world(lora={"adapters": 9, "max_loras": 8}))
    block_bytes = 16 * 131_072
    taken = plain.replicas[0].kv_blocks - tuned.replicas[0].kv_blocks
    bytes_ = 8 * adapter_bytes(catalogue.model("Llama-3-8B"), 16)
    assert (taken - 1) * block_bytes < bytes_ <= taken * block_bytes
    assert tuned.layout == Layout({"route"}, ("lora",)) and plain.layout == Layout({"route"})


def test_shares_follow_zipf() -> None:
    rng = np.random.default_rng(0)
    drawn = draw_adapters(rng, Lora(adapters=3, zipf=1.0, base_share=0.25), 100_000)
    shares = np.bincount(drawn + 1, minlength=4) / len(drawn)
    expected = [0.25, *(0.75 * np.array([6, 3, 2]) / 11)]
    np.testing.assert_allclose(shares, expected, atol=0.01)


def episode(policy: str):
    """Play one episode of two replicas with two places each; returns loads and final info."""
    table = world(
        replicas=[{**REPLICA, "count": 2}],
        lora={"adapters": 4, "zipf": 0.0, "max_loras": 2, "load_ms": 5.0},
        workload={"num_requests": 60, "rate_per_s": 8.0, "max_tokens": 512},
    )
    built = from_dict(table)
    env = gym.make("gpuyard/Routing-v0", scenario=built).unwrapped
    router = baselines.make(policy)
    router.reset(built, 1, 0)
    observation, info = env.reset(seed=0)
    done = False
    while not done:
        assert env.observation_space.contains(observation)
        action = router.act({key: value[None] for key, value in observation.items()})
        observation, _, done, _, info = env.step(int(action[0]))
    assert info["finished"] == 60 and set(env.results()["requests"]["adapter"]) == {0, 1, 2, 3}
    return int(env._world.state["lora_places"]["loads"].sum()), info


def test_affinity_loads_each_adapter_once() -> None:
    """Four adapters and four places: by affinity alone none is ever loaded twice."""
    aware = episode("routing/lora-affinity?lora=1&prefix=0&queue=0&kv=0")[0]
    assert aware == 4 and episode("routing/round-robin")[0] > 2 * aware


def test_affinity_by_hand() -> None:
    layout = Layout({"route"}, ("lora",))
    router = baselines.make("routing/lora-affinity?lora=1&prefix=0&queue=0&kv=0")
    router.reset(
        SimpleNamespace(
            name="pool", decisions=frozenset({"route"}), layout=layout, replicas=[None] * 3
        ),
        1,
        0,
    )
    seen = {
        "candidates": np.zeros((1, 3, len(layout.columns("candidates"))), np.float32),
        "action_mask": np.ones((1, 3), np.int8),
    }
    seen["candidates"][0, :, layout.index("candidates", "adapter_here")] = [0, 0, 1]
    seen["candidates"][0, :, layout.index("candidates", "adapter_room")] = [0, 1, 1]
    np.testing.assert_allclose(router.score(seen)[0], [0.0, 0.8, 1.0], atol=1e-8)


@pytest.mark.parametrize(
    ("table", "problem", "remedy"),
    [
        (world(lora=3), "lora = 3", "must be a table"),
        (world(lora={"adapters": -1}), "lora.adapters = -1", "from 0 to 1e+06"),
        (world(lora={"adapters": 1.5}), "lora.adapters = 1.5", "must be a whole number"),
        (world(lora={"adapters": 1, "max_loras": 0}), "lora.max_loras = 0", "from 1 to 1024"),
        (world(lora={"adapters": 1, "base_share": 2}), "lora.base_share = 2", "from 0 to 1"),
        (
            world(lora={"adapters": 1, "max_loras": 1024, "rank": 1024}),
            "lora.max_loras = 1024",
            "allow fewer, or a lower rank",
        ),
        (
            {
                **world(lora={"adapters": 1}),
                "replicas": [
                    {"gpu": "H200-SXM", "model": "DeepSeek-V3", "tp": 8, "ep": 8, "dtype": "fp8"}
                ],
            },
            "adapters of DeepSeek-V3",
            "lora.adapters = 0",
        ),
    ],
)
def test_bad_adapters_are_refused(table, problem: str, remedy: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        from_dict(table)
    assert problem in str(caught.value) and remedy in str(caught.value)
