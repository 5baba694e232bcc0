"""Routing baselines in the environment: they finish, and rank as published runs say they should."""

from __future__ import annotations

import csv

import gymnasium as gym
import numpy as np
import pytest

import gpuyard  # noqa: F401  (registers the environments)
from gpuyard import baselines
from gpuyard.envs.scenario import Scenario, from_dict

EIGHT_B = {"model": "Llama-3-8B", "gpu": "A100-80"}
VIDURS_ENGINE = {"engine": "vllm-0.12", "frontend_ms": 0.0}  # synchronous, admits by chunks
UNEQUAL = [
    {**EIGHT_B, "gpu": "H100-SXM"},
    {**EIGHT_B},
    {**EIGHT_B, "gpu": "L4", "max_num_seqs": 64, "count": 2},
]


def scenario(replicas=({**EIGHT_B, "count": 4},), router=None, **workload) -> Scenario:
    workload = {"preset": "azure-conv", "num_requests": 300, **workload}
    return from_dict({"replicas": list(replicas), "workload": workload, "router": router or {}})


def episodes(name: str, world: Scenario, num_envs: int = 4, **options):
    """Play one episode per environment; return the final infos and per-request tables."""
    env = gym.make_vec(
        "gpuyard/Routing-v0", num_envs=num_envs, scenario=world, autoreset_mode="Disabled"
    )
    policy = baselines.make(f"routing/{name}", **options)
    policy.reset(world, num_envs, seed=0)
    observation, info = env.reset(seed=100)
    done = np.zeros(num_envs, bool)
    while not done.all():
        observation, _, terminated, truncated, info = env.step(policy.act(observation))
        done |= terminated | truncated
    return info, [env.unwrapped.results(i)["requests"] for i in range(num_envs)]


def mean(name: str, world: Scenario, metric: str) -> float:
    return float(episodes(name, world)[0][metric].mean())


@pytest.mark.parametrize("name", baselines.names("routing"))
def test_every_router_serves_all_requests(name):
    """With unequal replicas, lagging signals, sessions and a hold action."""
    world = scenario(
        UNEQUAL,
        router={"signal_interval_s": 0.2, "hold_s": 0.1},
        preset="chat",
        num_requests=120,
        rate_per_s=3.0,
    )
    info, tables = episodes(name.removeprefix("routing/"), world, num_envs=3)
    assert info["finished"].tolist() == [120] * 3
    assert not info["invalid_actions"].any()
    for table in tables:
        assert np.isfinite(table["finish_s"]).all()
        assert (table["replica"] >= 0).all()


def test_counting_only_queued_requests_fails_at_light_load():
    """Queues are empty, so the tie gives nearly all requests to replica 0 and slows its steps."""
    world = scenario(rate_per_s=10.0)
    queued, tables = episodes("least-queued", world)
    requests, _ = episodes("least-requests", world)
    share_of_first = np.mean([(table["replica"] == 0).mean() for table in tables])
    assert share_of_first > 0.5
    assert requests["tpot_mean_s"].mean() < 0.75 * queued["tpot_mean_s"].mean()


@pytest.mark.parametrize("name", ["weighted-round-robin", "capability-aware", "predicted-latency"])
def test_knowing_capability_pays_on_unequal_replicas(name):
    """Helix and arXiv 2504.15303 claim a gain over round robin; here the L4s would drown."""
    world = scenario(UNEQUAL, rate_per_s=8.0)
    assert mean(name, world, "e2e_mean_s") < 0.5 * mean("round-robin", world, "e2e_mean_s")


def test_weighted_round_robin_sends_in_proportion_to_capacity():
    world = scenario(UNEQUAL, rate_per_s=8.0)
    _, tables = episodes("weighted-round-robin", world)
    capacity = np.array([replica.capacity for replica in world.replicas])
    for table in tables:
        sent = np.bincount(table["replica"], minlength=4)
        # Smooth: at any moment nobody is more than a few turns away from proportion.
        np.testing.assert_allclose(sent, 300 * capacity / capacity.sum(), atol=len(capacity))


def test_sessions_stick_and_affinity_finds_the_cache():
    world = scenario(preset="chat", rate_per_s=8.0, num_requests=400)
    affinity, tables = episodes("session-affinity", world)
    for table in tables:
        pairs = np.unique(np.stack([table["session"], table["replica"]]), axis=1)
        in_session = pairs[:, pairs[0] >= 0]
        assert len(np.unique(in_session[0])) == in_session.shape[1] > 50
        assert len(np.unique(in_session[1])) == 4
    spread = mean("least-requests", world, "prefix_hit_rate")
    assert affinity["prefix_hit_rate"].mean() > 1.5 * spread
    for name in ("prefix-aware", "llm-d", "dynamo"):
        assert mean(name, world, "prefix_hit_rate") > 1.2 * spread


@pytest.mark.parametrize(
    ("name", "vidur_policy", "tolerance"),
    [("round-robin", "round_robin", 0.11), ("least-queued", "lor", 0.2)],
)
def test_time_per_token_agrees_with_vidur(data_dir, name, vidur_policy, tolerance):
    """Vidur on the same 10,000 requests: its RR and its LOR, which counts only queued requests."""
    folder = data_dir / "perf" / "peer_workloads"
    with open(folder / "peer_results.csv", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["peer"].lower().startswith("vidur")
            and row["workload"] == "W8_10k_r24"
            and vidur_policy in row["policy"].lower()
        ]
    assert len(rows) == 1
    world = from_dict(
        {
            "replicas": [{**EIGHT_B, "count": 4, **VIDURS_ENGINE}],
            "workload": {"trace": str(folder / "W8_10k_r24.csv.gz"), "num_requests": 0},
        }
    )
    table = episodes(name, world, num_envs=1)[1][0]
    table = {key: value[table["output_tokens"] > 1] for key, value in table.items()}
    tpot_ms = 1e3 * (table["finish_s"] - table["first_token_s"]) / (table["output_tokens"] - 1)
    for percentile in (50, 90, 99):
        measured = float(rows[0][f"tpot_ms_p{percentile}"])
        assert np.percentile(tpot_ms, percentile) == pytest.approx(measured, rel=tolerance)
