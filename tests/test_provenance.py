"""Where constants are from: complete, in the report, and one warning where an analogy decides."""

from __future__ import annotations

import warnings

import gymnasium as gym
import pytest

import gpuyard  # noqa: F401
from gpuyard.envs import scenario as scenarios
from gpuyard.envs.perf.serving.constants import constants, recorded
from gpuyard.envs.scenario import provenance as module
from gpuyard.envs.scenario.provenance import DECIDING, provenance


def serving(gpu: str, **settings):
    replica = {"gpu": gpu, "model": "Qwen2.5-1.5B", **settings}
    return scenarios.from_dict({"replicas": [replica], "workload": {"num_requests": 4}})


def test_what_is_looked_up_is_recorded() -> None:
    from gpuyard.envs.hardware.catalogue import gpu

    with recorded() as used:
        constants("gemm", gpu("H20"), "bf16")
    constants("gemm", gpu("A10"), "bf16")  # not inside
    (source,) = used
    assert (source.kernel, source.gpu, source.of) == ("gemm", "H20", "H100-SXM")
    assert source.confidence == "analogy" and "AIC" in source.source


def test_a_serving_world_names_every_kernel() -> None:
    facts = provenance(scenarios.load("routing-default"))
    for gpu in ("H100-SXM", "A100-80", "L40S"):
        about = {fact.what.split(" ")[0] for fact in facts if fact.subject == gpu}
        assert {"datasheet", "gemm", "decode", "prefill", "host", "elementwise"} <= about
    assert any(f.subject == "Llama-3-8B" and f.what == "shapes" for f in facts)
    assert all(fact.source and fact.confidence for fact in facts)
    decides = [f for f in facts if f.what.split(" ")[0] in DECIDING]
    assert {f.confidence for f in decides} == {"measured"}


def test_a_placement_world_names_its_gpus() -> None:
    env = gym.make("gpuyard/Placement-v0", scenario="placement-heterogeneous")
    facts = env.unwrapped.provenance()
    training = {f.subject: f.confidence for f in facts if f.what == "training"}
    assert training == {"A100-80": "calibrated", "H100-SXM": "calibrated"}


def test_scaled_rows_say_so() -> None:
    facts = provenance(serving("RTX-4090", dtype="int4"))
    (int4,) = (f for f in facts if f.what == "gemm int4")
    assert (int4.confidence, int4.of) == ("scaled", "RTX-4090")


def test_an_analogy_warns_once_and_a_measurement_never(monkeypatch) -> None:
    monkeypatch.setattr(module, "_warned", set())
    with pytest.warns(UserWarning, match="T4: .*gemm fp16.* by analogy with A100-80") as caught:
        gym.make("gpuyard/Routing-v0", scenario=serving("T4", dtype="fp16"))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gym.make("gpuyard/Routing-v0", scenario=serving("T4", dtype="fp16"))
        gym.make_vec("gpuyard/Routing-v0", num_envs=2, scenario=serving("H100-SXM"))


@pytest.mark.parametrize("name", scenarios.names())
def test_no_shipped_scenario_is_decided_by_an_analogy(name: str) -> None:
    facts = provenance(scenarios.load(name))
    guessed = [f for f in facts if f.confidence == "analogy" and f.what.split(" ")[0] in DECIDING]
    assert not guessed


def test_the_report_lists_the_sources(tmp_path) -> None:
    from gpuyard.baselines import make
    from gpuyard.evaluation.report import compare, report

    world = serving("A10")
    rollouts = compare({"random": make("routing/random")}, [world], 1, quiet=True)
    report(rollouts, [], tmp_path, scenarios=[world])
    written = (tmp_path / "results.md").read_text()
    assert "what it is computed from" in written
    rows = [line for line in written.splitlines() if line.startswith("| A10 |")]
    assert any("gemm bf16 | A100-80 | analogy" in row.replace("  ", " ") for row in rows)
