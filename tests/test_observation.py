"""Every column of the observation against a slow, separately written reading of the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from engine_worlds import WINDOWED, random_stream
from slow_observer import LAYOUT, Decision, Observer, Play

import gpuyard  # noqa: F401
from gpuyard.envs.engine.serving.arrays import load
from gpuyard.envs.perf import tabulate
from gpuyard.envs.perf.serving.cost_table import CostTable
from gpuyard.envs.scenario import Scenario, Workload, from_dict

HARDWARE = [
    {"gpu": "A100-80", "model": "Llama-3-8B", "tp": 2},
    {"gpu": "L40S", "model": "Windowed", "engine": "vllm-0.15", "frontend_ms": 30.0},
    {"gpu": "H100-SXM", "model": "Llama-3-8B", "kv_dtype": "fp8", "engine": "vllm-0.12"},
]
MODELS = {"Windowed": WINDOWED}
BENT = ("dec_log_s", "dec_flop_s")  # what makes step times bend with the context


def affine(table: CostTable) -> CostTable:
    """The same replica with costs affine in the context: there the engine is exact."""
    coefficients = table.coefficients.copy()
    for name in BENT:
        coefficients[name] = 0.0
    return CostTable(coefficients, table.linear_s, table.head_s)


def small_world(seed: int, interval_s: float, hold_s: float) -> Scenario:
    """Three small replicas under pressure, requests with sessions, priorities and prefixes."""
    rng = np.random.default_rng(seed)
    unit = int(rng.choice([0, 16, 32, 64]))
    rows = []
    for row in HARDWARE:
        seqs = int(rng.integers(2, 10))
        budget = int(rng.integers(seqs + 1, 400))
        kv = int(rng.integers(45, 150))
        limits = {"max_num_seqs": seqs, "max_num_batched_tokens": budget, "kv_blocks": kv}
        rows.append({**row, **limits})
    rows[-1]["kv_blocks"] = 150  # one that every request fits
    scenario = from_dict(
        {
            "replicas": rows,
            "models": MODELS,
            "workload": {"max_tokens": 600},
            "router": {"signal_interval_s": interval_s, "hold_s": hold_s, "hold_limit_s": 0.5},
            "slo": {"ttft_s": 0.3, "tpot_s": 0.03},
        }
    )
    n = int(rng.integers(30, 60))
    stream = replace(
        random_stream(rng, n, unit),
        session=rng.integers(-1, 8, n).astype(np.int32),
        priority=rng.random(n).astype(np.float32),
    )
    return replace(scenario, workload=Workload(stream, n))


def play(scenario: Scenario, seed: int) -> tuple[Play, list[dict[str, np.ndarray]], dict]:
    """Take random feasible actions, keeping the books that a router would keep."""
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    for name in BENT:
        env._world.shared["costs"][name] = 0.0
    stream = scenario.workload.source
    rng = np.random.default_rng(seed)
    obs, info = env.reset(seed=seed)
    estimate = scenario.estimate_tokens(np.random.default_rng(seed), stream.output_tokens)
    decisions, observations, sent = [], [], []
    held: list[tuple[float, int]] = []
    arrived, done = 0, False
    while not done:
        arrival_s = stream.arrival_s[arrived] if arrived < len(stream) else np.inf
        if held and held[0][0] <= arrival_s:
            now_s, request = held.pop(0)
        else:
            now_s, request = float(arrival_s), arrived
            arrived += 1
        assert info["time_s"] == pytest.approx(now_s, rel=1e-12)
        decisions.append(Decision(now_s, request, tuple(i for _, i in held)))
        observations.append(obs)
        action = int(rng.choice(np.flatnonzero(obs["action_mask"])))
        if action == len(scenario.replicas):
            held.append((now_s + scenario.router.hold_s, request))
        else:
            sent.append((now_s, request, action))
        obs, _, done, _, info = env.step(action)
    assert not held and arrived == len(stream)
    observations.append(obs)
    return Play(stream, estimate, decisions, sent), observations, info


def same(got: np.ndarray, expected, names: Sequence[str], where: str) -> None:
    """Compare stored values column by column, naming what differs."""
    expected = np.asarray(expected)
    assert got.shape == expected.shape, where
    off = ~np.isclose(got, expected, rtol=2e-5, atol=2e-6)
    if off.any():
        at = tuple(np.argwhere(off)[0])
        raise AssertionError(f"{where}, {names[at[-1]]}: {got[at]} instead of {expected[at]}")


WORLDS = [
    *((seed, 0.0, 0.0) for seed in range(6)),
    *((seed, 0.0, 0.07) for seed in range(6, 10)),
    *((seed, 0.25, 0.0) for seed in range(10, 16)),
    *((seed, 0.1, 0.05) for seed in range(16, 20)),
]


@pytest.mark.parametrize(("seed", "interval_s", "hold_s"), WORLDS)
def test_every_column_is_what_a_slow_reading_finds(
    seed: int, interval_s: float, hold_s: float
) -> None:
    scenario = small_world(seed, interval_s, hold_s)
    game, observations, info = play(scenario, seed)
    tables = [affine(tabulate(r.deployment)) for r in scenario.replicas]
    slow = Observer(scenario, tables, game)
    assert info["preemptions"] == slow.preemptions
    columns = LAYOUT.names("candidates")
    for at, obs in zip(game.decisions, observations, strict=False):
        where = f"request {at.request} at {at.time_s:.4f} s"
        same(obs["cluster"], slow.cluster(at), LAYOUT.names("cluster"), where)
        same(obs["queue"], slow.queue(at), LAYOUT.names("queue"), where)
        assert obs["action_mask"].astype(bool).tolist() == slow.mask(at), where
        device = 0
        for r, replica in enumerate(scenario.replicas):
            here = f"{where}, replica {r}"
            same(obs["candidates"][r], slow.candidate(at, r), columns, here)
            memory, load, link = slow.devices(at, r)
            for _ in range(replica.deployment.gpus):
                same(obs["device_memory"][device : device + 1], [memory], ["device_memory"], here)
                same(obs["device_load"][device : device + 1], [load], ["device_load"], here)
                device += 1
            same(obs["link_load"][r : r + 1], [link], ["link_load"], here)
        assert device == len(obs["device_memory"])
        for row in obs["candidates"][len(scenario.replicas) :]:
            same(row, slow.hold(at), columns, f"{where}, holding")
    assert (observations[-1]["candidates"] == 0).all()  # nothing is left to decide


def test_the_worlds_of_this_file_reach_every_corner() -> None:
    """Each thing that may go wrong above does occur: hits, preemptions, holds, queues, homes."""
    seen = {name: 0 for name in ("match", "sent", "waiting", "last", "home", "held", "preempted")}
    for seed, interval_s, hold_s in WORLDS[::3]:
        _, observations, info = play(small_world(seed, interval_s, hold_s), seed)
        seen["preempted"] += info["preemptions"]
        for obs in observations:
            seen["held"] += obs["cluster"][LAYOUT.index("cluster", "held")] > 0
            for short, name in (
                ("match", "prefix_match"),
                ("sent", "prefix_sent"),
                ("waiting", "waiting"),
                ("last", "session_last"),
                ("home", "session_home"),
            ):
                seen[short] += int((LAYOUT.read(obs, "candidates", name) > 0).sum())
    assert all(count > 10 for count in seen.values()), seen


@pytest.mark.parametrize("interval_s", [0.0, 0.25])
@pytest.mark.parametrize("kv_blocks", [(4000, 4000, 4000), (40, 46, 4000)])
def test_nothing_tells_the_true_output_length_ahead(
    interval_s: float, kv_blocks: tuple[int, ...]
) -> None:
    """Longer outputs, same estimates and bounds: the same until the first shorter one finishes.

    In the small caches it depends on the bound whether a request fits.
    """
    rng = np.random.default_rng(5)
    rows = [
        {**row, "kv_blocks": blocks, "max_num_seqs": 64}
        for row, blocks in zip(HARDWARE, kv_blocks, strict=True)
    ]
    scenario = from_dict(
        {
            "replicas": rows,
            "models": MODELS,
            "router": {"signal_interval_s": interval_s, "hold_s": 0.05},
        }
    )
    stream = random_stream(rng, 60, 16)
    stream = replace(stream, arrival_s=np.cumsum(rng.exponential(0.03, 60)))
    stream = replace(
        stream,
        output_tokens=rng.integers(100, 200, 60).astype(np.int32),
        max_tokens=rng.integers(300, 500, 60).astype(np.int32),
    )
    longer = replace(stream, output_tokens=stream.output_tokens + 100)
    scenario = replace(scenario, workload=Workload(stream, 60))
    actions = rng.integers(0, 4, 400)

    def observe(requests):
        env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
        serving = env._batch.contents["route"]
        for name in BENT:
            serving.static.costs[name] = 0.0
        estimate = np.full(60, 120, np.int32)
        serving.load = lambda e, _: load(serving.part.state, serving.static, e, requests, estimate)
        obs, info = env.reset(seed=0)
        rows = [(info["time_s"], obs, 0.0)]
        for action in actions:
            action = action if obs["action_mask"][action] else 0
            obs, reward, done, _, info = env.step(action)
            if done:
                return rows, env.results()["requests"]["finish_s"].min()
            rows.append((info["time_s"], obs, reward))
        raise AssertionError("the episode did not end")

    short_rows, finish_s = observe(stream)
    long_rows, _ = observe(longer)
    alike, differ, masked = 0, False, False
    for (time_s, short, reward), (other_s, long, other) in zip(short_rows, long_rows, strict=False):
        if time_s >= finish_s:
            differ |= bool((short["cluster"] != long["cluster"]).any())
            continue
        assert time_s == other_s and reward == pytest.approx(other, rel=1e-9)
        for key in short:
            np.testing.assert_allclose(short[key], long[key], rtol=1e-6, atol=1e-7, err_msg=key)
        alike += 1
        masked |= not short["action_mask"].all()
    assert alike > 25 and differ
    assert masked == (min(kv_blocks) < 4000)
