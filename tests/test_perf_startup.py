"""How long a replica takes to start."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from pathlib import Path

import accuracy_startup
import pytest

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment
from gpuyard.envs.perf.serving import startup as startup_module
from gpuyard.envs.perf.serving.engines import ENGINES
from gpuyard.envs.perf.serving.kv_capacity import rank_weight_bytes
from gpuyard.envs.perf.serving.startup import (
    LOADERS,
    compile_s,
    graphs_s,
    process_s,
    startup,
    wake_s,
    weights_bytes,
    weights_s,
)

CONFIDENCE = ("measured", "calibrated", "scaled", "analogy")
LLAMA = Deployment(gpu("H100-SXM"), model("Llama-3-70B"), tp=4)


def test_published_starts_that_fitted_nothing() -> None:
    found = accuracy_startup.rows()
    held = found[found.fit == 0]
    assert held.error.abs().median() <= 15
    parts = held.groupby("part").error.agg(lambda error: error.abs().median())
    assert (parts.drop("process") <= 30).all()  # three rows, two of them through Ray
    others = held[~held.run.str.startswith("P ")]
    assert others.error.abs().median() <= 30


def test_a_total_is_the_sum_of_its_parts() -> None:
    start = startup(LLAMA, 5.0, cached=False)
    assert start.total_s == pytest.approx(sum(dataclasses.astuple(start)))


def test_a_first_start_is_mostly_not_weights() -> None:
    # github vllm-project/vllm issue 19824: 10 of 215 seconds
    start = startup(Deployment(gpu("H100-SXM"), model("Llama-3-70B"), tp=8, dtype="fp8"), math.inf)
    assert start.weights_s < 0.25 * start.total_s


def test_weights_by_hand() -> None:
    whole = model("Llama-3-70B").weight_bytes("bf16")
    assert weights_s(LLAMA, 1.0) == pytest.approx(whole / 1e9)  # the storage is the limit
    assert weights_s(LLAMA, 100.0) == pytest.approx(whole / 8e9)  # a rank's own pace
    assert weights_s(LLAMA, 20.0, "streamed") == pytest.approx(whole / 20e9)
    slot = rank_weight_bytes(LLAMA) / 64e9
    assert weights_s(LLAMA, math.inf, "streamed") == pytest.approx(slot)
    peer = rank_weight_bytes(LLAMA) / (0.92 * 50e9)
    assert weights_s(LLAMA, 50.0, "peer") == pytest.approx(peer)


def test_bytes_that_a_source_gives() -> None:
    whole = model("Llama-3-70B").weight_bytes("bf16")
    assert weights_bytes(LLAMA) == weights_bytes(LLAMA, "streamed") == whole
    assert weights_bytes(LLAMA, "peer") == 4 * rank_weight_bytes(LLAMA)


def test_a_cache_saves_compiling_and_a_slower_profile() -> None:
    first, later = (startup(LLAMA, math.inf, cached=cached) for cached in (False, True))
    assert first.compile_s > 2 * later.compile_s
    assert first.profile_s > later.profile_s
    assert (first.process_s, first.weights_s, first.graphs_s) == (
        later.process_s,
        later.weights_s,
        later.graphs_s,
    )


def test_old_hosts_are_slower() -> None:
    old = Deployment(gpu("A100-80"), model("Llama-3-70B"), tp=4)
    for part in (process_s, graphs_s, lambda replica: compile_s(replica, True)):
        assert part(old) == pytest.approx(1.5 * part(LLAMA))


@pytest.mark.parametrize("name", [engine.name for engine in ENGINES])
@pytest.mark.parametrize("loader", LOADERS)
def test_every_engine_starts(name: str, loader: str) -> None:
    start = startup(dataclasses.replace(LLAMA, engine=name), 5.0, loader, cached=False)
    assert all(part >= 0 for part in dataclasses.astuple(start))
    assert 40 < start.total_s < 400


def test_four_gpus_share_a_host_when_they_wake() -> None:
    # 45 GB/s of a host are less than four slots of 0.68 x 64 GB/s
    assert wake_s(LLAMA) == pytest.approx(0.15 + 4 * rank_weight_bytes(LLAMA) / 45e9)


@pytest.mark.parametrize("gbps", [0.0, -1.0, math.nan])
def test_a_source_without_a_rate_is_refused(gbps: float) -> None:
    with pytest.raises(ValueError, match=r"source_gbps = .*: give GB/s above 0"):
        startup(LLAMA, gbps)


def test_an_unknown_loader_is_refused() -> None:
    with pytest.raises(ValueError, match="loader = 'tape': use one of safetensors, streamed, peer"):
        startup(LLAMA, 5.0, "tape")


@pytest.mark.parametrize("file", ["startup.toml", "kv_transfer.toml"])
def test_every_constant_names_its_source(file: str) -> None:
    folder = Path(startup_module.__file__).parent
    tables = [tomllib.loads((folder / file).read_text())]
    while tables:
        table = tables.pop()
        inner = [value for value in table.values() if isinstance(value, dict)]
        if any(isinstance(value, float) for value in table.values()):
            assert table["source"] and table["confidence"] in CONFIDENCE
        else:
            tables += inner
