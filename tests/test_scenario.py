"""Scenarios that are well: those of the package, own entries, defaults, estimates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scenario_tables import GPU, MODEL, REPLICA, play, world, write

import gpuyard  # noqa: F401
from gpuyard.envs.hardware import catalogue
from gpuyard.envs.scenario import ScenarioError, from_dict, load, names


def test_two_replicas_of_one_gpu_may_be_linked_differently() -> None:
    kind = {"gpu": "RTX-PRO-6000", "model": "Llama-3-8B", "tp": 2}
    found = from_dict(world(replicas=[kind, {**kind, "links": "pcie"}])).replicas
    assert [r.deployment.links for r in found] == ["", "pcie"]
    assert found[0].capacity < found[1].capacity
    with pytest.raises(
        ScenarioError, match=r"replicas\[0\].*links = 'nvlink': use one of pcie, host"
    ):
        from_dict(world(replicas=[{**kind, "links": "nvlink"}]))


@pytest.mark.parametrize("name", names())
def test_every_scenario_of_the_package_runs(name: str) -> None:
    scenario = load(name)
    assert scenario.name == name and scenario.description
    parts = {"route": scenario.workload, "place": scenario.jobs}
    sizes = {"route": "num_requests", "place": "num_jobs"}
    info = play(scenario)
    for part, work in parts.items():
        if work is not None:
            finished = info.get(f"{part}.finished", info.get("finished"))
            if part == "route" and work.num_sessions > 0:  # how many turns there are is drawn
                assert info["sessions_ended"] == work.num_sessions
            else:
                assert finished == getattr(work, sizes[part])


def test_own_gpus_and_models(tmp_path: Path) -> None:
    rows = "\n".join(f"{key} = {value!r}" for key, value in GPU.items())
    shapes = "\n".join(f"{key} = {value!r}" for key, value in MODEL.items())
    text = f"""
[gpus.Mine]
{rows}
[models.Tiny]
{shapes}
[[replicas]]
gpu = "Mine"
model = "Tiny"
tp = 2
[[replicas]]
gpu = "A100-80"
model = "Tiny"
[workload]
num_requests = 16
"""
    scenario = load(write(tmp_path, text))
    mine, standard = scenario.replicas
    assert mine.deployment.gpu.memory_bytes == 64 * 2**30
    assert mine.price_per_h == 2.5
    assert mine.deployment.model.params == 1_823_744  # by hand, see test_hardware
    assert standard.deployment.gpu is catalogue.gpu("A100-80")
    assert play(scenario)["finished"] == 16


def test_own_entries_come_before_the_catalogue() -> None:
    table = world(gpus={"A100-80": {**GPU, "memory_gib": 40}})
    assert from_dict(table).replicas[0].deployment.gpu.memory_bytes == 40 * 2**30
    assert catalogue.gpu("A100-80").memory_bytes > 70 * 2**30


def test_defaults_are_those_of_the_documentation() -> None:
    scenario = from_dict({"replicas": [REPLICA]})
    (only,) = scenario.replicas
    deployment = only.deployment
    # an A100 with vLLM's newest version
    assert (deployment.max_num_seqs, deployment.max_num_batched_tokens) == (256, 2048)
    assert (deployment.engine, deployment.gpu_memory_utilization) == ("vllm-0.21", 0.92)
    assert (deployment.block_size, deployment.dtype, deployment.tp) == (16, "bf16", 1)
    assert scenario.workload.num_requests == 512
    assert (scenario.router.signal_interval_s, scenario.router.hold_s) == (0.0, 0.0)
    assert (scenario.slo.ttft_s, scenario.slo.tpot_s) == (0.5, 0.05)
    assert (scenario.estimates.output, scenario.estimates.sigma) == ("noisy", 0.5)
    assert scenario.reward == {
        "route": {
            "waiting": 1.0,
            "in_system": 0.0,
            "slo": 0.0,
            "tokens": 0.0,
            "preemptions": 0.0,
            "invalid": 0.0,
            **{"makespan": 0.0, "time_to_90": 0.0, "throughput": 0.0, "imbalance": 0.0},
            "unserved": 0.0,
        }
    }
    assert load(scenario) is scenario


def test_kv_blocks_can_be_given() -> None:
    (only,) = from_dict(world(replicas=[{**REPLICA, "kv_blocks": 1234}])).replicas
    assert only.kv_blocks == 1234


def test_estimates() -> None:
    """Oracle: the truth; mean: the same for all; noisy: log-normal around the truth."""
    truth = np.array([10, 1000] * 5000, np.int32)
    rng = np.random.default_rng(0)
    oracle = from_dict(world(estimates={"output": "oracle"})).estimate_tokens(rng, truth)
    assert np.array_equal(oracle, truth)
    scenario = from_dict(world(estimates={"output": "mean"}))
    mean = scenario.estimate_tokens(rng, truth)
    assert (mean == round(scenario.workload.mean_lengths()[1])).all()
    noisy = from_dict(world(estimates={"sigma": 0.25})).estimate_tokens(rng, truth)
    assert np.log(noisy[1::2] / 1000).std() == pytest.approx(0.25, rel=0.05)
    assert np.log(noisy[1::2] / 1000).mean() == pytest.approx(0.0, abs=0.01)
    wild = from_dict(world(estimates={"sigma": 5.0})).estimate_tokens(rng, truth)
    assert wild.min() == 1 and wild.max() <= 2**24
