"""CUDA graphs, scheduling ahead and attention kernels as options of a replica, and their page."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import technique_kernels
import techniques
from technique_row import Row, near, unvalidated

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment, kv_blocks, tabulate
from gpuyard.envs.perf.serving.attention import naive
from gpuyard.envs.perf.serving.constants import constants
from gpuyard.envs.perf.serving.iteration import prefill_s, step_s
from gpuyard.envs.perf.serving.kv_capacity import activation_bytes, buffer_bytes
from gpuyard.envs.perf.serving.startup import graphs_s
from gpuyard.envs.scenario import ScenarioError, from_dict

ROWS = technique_kernels.rows()
LLAMA = Deployment(gpu("H100-SXM"), model("Llama-3-8B"), engine="vllm-0.12")
SCENARIO = {"workload": {"preset": "azure-conv"}}


@pytest.mark.parametrize("row", ROWS, ids=[row.target for row in ROWS])
def test_every_published_effect_is_met(row: Row) -> None:
    assert row.inside


def test_gains_of_scheduling_ahead_come_in_the_published_order() -> None:
    # 671B at one client, then 3B and V3 in decoding, then four stages
    first, three, _, decode, stages = (r.simulated for r in ROWS if r.technique.endswith("ahead"))
    assert 1 < first < three < decode < stages


def test_without_graphs_the_host_launches_layer_after_layer() -> None:
    row, eager = constants("host", gpu("H100-SXM")), replace(LLAMA, cuda_graphs=0)
    # 32 layers of 370 us, 1.46 ms a step and 20 us a sequence
    host_s = 1e-6 * (row["step_us"]["vllm"] + 32 * 370 + 20)
    assert step_s(tabulate(eager), 1, 1000) == pytest.approx(host_s)
    own = replace(eager, layer_launch_us=100.0)
    assert step_s(tabulate(own), 1, 1000) > 1e-6 * (row["step_us"]["vllm"] + 32 * 100)
    # a full batch keeps the GPU busy for longer: its kernels stand 5.6 us a layer apart
    more_s = step_s(tabulate(own), 128, 512_000) - step_s(tabulate(LLAMA), 128, 512_000)
    assert more_s == pytest.approx(32 * 5.6e-6)


def test_graphs_take_memory_and_time_by_their_number() -> None:
    # 24 MiB a layer for 51 sizes, and nothing without
    some, none = (replace(LLAMA, cuda_graphs=n) for n in (51, 0))
    assert buffer_bytes(some) - buffer_bytes(none) == pytest.approx(32 * 24 * 2**20)
    assert kv_blocks(some) < kv_blocks(none) == kv_blocks(LLAMA)  # this version does not count them
    newest = replace(LLAMA, engine="vllm-0.21")
    assert buffer_bytes(replace(newest, cuda_graphs=51)) == pytest.approx(buffer_bytes(newest))
    assert graphs_s(none) == 0 and graphs_s(some) == pytest.approx(graphs_s(LLAMA))
    assert graphs_s(replace(LLAMA, cuda_graphs=102)) == pytest.approx(2 * graphs_s(LLAMA))


def test_scheduling_is_that_of_the_engine_unless_given() -> None:
    newer = replace(LLAMA, engine="vllm-0.15")
    for old, way, same in ((LLAMA, "async", newer), (newer, "sync", LLAMA)):
        changed = replace(old, scheduling=way)
        assert changed.rules.asynchronous == same.rules.asynchronous
        assert step_s(tabulate(changed), 8, 8000) == step_s(tabulate(same), 8, 8000)
    # another stack hides what it else adds
    lean = replace(LLAMA, engine="trtllm")
    host = tabulate(replace(lean, scheduling="async")).coefficients
    assert (host["host_s"], host["host_seq_s"]) == pytest.approx((450e-6, 9e-6))


def test_naive_scores_by_hand() -> None:
    device = replace(gpu("A100-80"), fp16_flops=1e12, bandwidth_bytes_per_s=1e12)
    layer = dict.fromkeys(tabulate(LLAMA).coefficients.dtype.names, 0.0)
    c = naive(layer, device, heads=2, dim=64)
    # a pair: 4 x 64 FLOPs at 0.8 of the peak, six passes of two bytes at 0.75 of the bandwidth
    pair_s = 2 * (256 / 0.8e12 + 12 / 0.75e12)
    record = tabulate(LLAMA).coefficients.copy()
    for name, value in c.items():
        record[name] = value
    assert prefill_s(record, [(1000, 0)]) == pytest.approx(1e6 * pair_s + 4e-6)  # two launches
    assert c["dec_token_s"] == pytest.approx(2 * 12 / 0.75e12)


def test_naive_attention_takes_time_and_memory() -> None:
    slow = replace(LLAMA, attention="naive")
    ratio = [
        step_s(tabulate(slow), 0, 0, [(n, 0)]) / step_s(tabulate(LLAMA), 0, 0, [(n, 0)])
        for n in (256, 2048, 8192)
    ]
    assert 1 < ratio[0] < ratio[1] < ratio[2]  # the longer a prompt, the more
    assert step_s(tabulate(slow), 32, 64_000) > step_s(tabulate(LLAMA), 32, 64_000)
    assert activation_bytes(replace(slow, max_num_batched_tokens=32_768)) > 4 * 32 * 32_768**2
    # a window saves a naive kernel nothing
    oss = Deployment(gpu("H100-SXM"), model("gpt-oss-20b"), dtype="mxfp4", attention="naive")
    whole = replace(oss, model=replace(oss.model, window_layers=0))
    assert np.array_equal(tabulate(oss).coefficients, tabulate(whole).coefficients)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("cuda_graphs", -1, "replicas.0..cuda_graphs = -1 must be a whole number >= 0"),
        ("scheduling", "late", "replicas.0..scheduling = 'late' must be one of sync, async"),
        ("attention", "paged", "replicas.0..attention = 'paged' must be one of flash, naive"),
        ("layer_launch_us", -1.0, "replicas.0..layer_launch_us = -1.0 must be a finite number"),
    ],
)
def test_a_scenario_checks_them(field: str, value: object, message: str) -> None:
    replica = {"gpu": "H100-SXM", "model": "Llama-3-8B", field: value}
    with pytest.raises(ScenarioError, match=message):
        from_dict(SCENARIO | {"replicas": [replica]})


def test_a_scenario_takes_them() -> None:
    given = {"cuda_graphs": 0, "layer_launch_us": 50.0, "scheduling": "sync", "attention": "naive"}
    scenario = from_dict(
        SCENARIO | {"replicas": [{"gpu": "H100-SXM", "model": "Llama-3-8B", **given}]}
    )
    found = scenario.replicas[0].deployment
    assert {name: getattr(found, name) for name in given} == given


def test_a_row_knows_whether_it_is_met() -> None:
    row = near("T", "x", "s", 2.0, 0.25, 2.4)
    assert row.inside and row.error == pytest.approx(0.2)
    assert not near("T", "x", "s", 1.1, 0.25, 0.9, gain=True).inside  # the sign counts
    assert not near("T", "x", "s", 0.9, 0.25, 1.1, gain=True).inside
    given = {"technique": "T", "target": "x", "source": "s", "low": 1.0, "high": None, "more": 1}
    bound = Row.of(given | {"simulated": 3.0})
    assert bound.inside and np.isnan(bound.error)
    nothing = unvalidated("T", "x", 1.0)
    assert not nothing.validated and not nothing.inside
    with pytest.raises(TypeError):
        Row.of({"technique": "T"})


def test_a_row_knows_whether_its_sign_is_another_one() -> None:
    for published, simulated, wrong in ((1.5, 0.7, True), (0.8, 1.2, True), (1.5, 3.0, False)):
        row = Row("a", "gain", "b", 0.5, 2.0, simulated, "why", published)
        assert row.wrong_way == wrong
    level = Row("a", "hits", "b", 0.9, 1.1, 1.001, "", 0.95)  # nearer to 1 than to have a sign
    assert not level.wrong_way
    said = techniques.summary([Row("a", "gain", "b", 1.0, 2.0, 0.7, "why", 1.5), level])
    assert "has the opposite sign" in " ".join(said.split())
    assert said.endswith(":\n\n- gain (a): why.")


def test_the_page_shows_what_is_missed_and_what_is_unknown() -> None:
    rows = [
        near("T", "met", "s", 2000.0, 0.1, 2100.0),
        near("T", "missed", "s", 2.0, 0.1, 3.0, "why"),
        unvalidated("U", "unknown", 1.5),
        Row("U", "bound", "s", 1.0, float("nan"), 2.0),
    ]
    text = techniques.tables(rows, {"T": "A paragraph."})
    assert "## T\n\nA paragraph.\n\n| effect |" in text
    assert "| met | s | 2,000 | 1,800 to 2,200 | 2,100 | +5.0 % | yes |  |" in text
    assert "| missed | s | 2 | 1.8 to 2.2 | 3 | +50.0 % | **no** | why |" in text
    assert "| unknown | - | - | - | 1.5 | - | unvalidated |  |" in text
    assert "| bound | s | - | at least 1 | 2 | - | yes |  |" in text
    assert techniques.summary(rows) == (
        "2 of 3 rows are inside their bands (67 %). "
        "No result has the opposite sign of what was published."
    )


def test_the_page_is_current() -> None:
    text = techniques.PAGE.read_text()
    missing = [row.target for row in ROWS if techniques.line(row) not in text]
    assert not missing, "run python benchmarks/techniques.py --write"
