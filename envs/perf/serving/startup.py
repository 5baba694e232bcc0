"""How long a replica takes from having its GPUs to serving.

A start is mostly not weights: Python, NCCL and the HTTP server come up, the ranks copy the
checkpoint to their GPUs, the engine compiles the model, runs it once to see what memory is left for
the KV cache, and captures its CUDA graphs, one after the other. All but the weights is work of the
host, linear in the layers (arXiv 2606.07362). Constants with their sources: ``startup.toml``.

Left out: pulling a container image, provisioning a node, the first request's own JIT compilation
(3 s in vLLM's measurements), the one-time peer-access check of vLLM before 0.11 (60 s on 8 GPUs),
and the repacking of quantised weights.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .deployment import Deployment
from .kv_capacity import GRAPHS, rank_weight_bytes

LOADERS = ("safetensors", "streamed", "peer")


@dataclass(frozen=True)
class Startup:
    """Seconds of the parts of one start, which follow one another.

    Attributes:
        process_s: until every rank could begin to load, and the HTTP server at the end.
        weights_s: weights onto the GPUs.
        compile_s: ``torch.compile``.
        profile_s: runs that size the KV cache.
        graphs_s: capture of the CUDA graphs.
    """

    process_s: float
    weights_s: float
    compile_s: float
    profile_s: float
    graphs_s: float

    @property
    def total_s(self) -> float:
        """Seconds from having the GPUs to serving."""
        engine_s = self.compile_s + self.profile_s + self.graphs_s
        return self.process_s + self.weights_s + engine_s


def startup(
    deployment: Deployment,
    source_gbps: float,
    loader: str = "safetensors",
    cached: bool = True,
) -> Startup:
    """Return how long a new replica takes to start.

    Args:
        deployment: the replica.
        source_gbps: where its weights come from, in GB/s above 0 (infinite: page cache): rate of
            the node's storage, or with ``peer`` of the link of one GPU.
        loader: see :func:`weights_s`.
        cached: whether the host has this model's ``torch.compile`` cache, as after a first start.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """
    compiled_s = compile_s(deployment, cached)
    fresh_s = 0.0 if cached else compiled_s
    return Startup(
        process_s(deployment),
        weights_s(deployment, source_gbps, loader),
        compiled_s,
        profile_s(deployment, fresh_s),
        graphs_s(deployment),
    )


def process_s(deployment: Deployment) -> float:
    """Return seconds of processes, NCCL, tokeniser and HTTP server: ``a + b log2(GPUs)``."""
    row = _table("process")
    doublings = math.log2(deployment.gpus)
    return _slowdown(deployment) * (row["first_s"] + row["doubling_s"] * doublings)


def weights_bytes(deployment: Deployment, loader: str = "safetensors") -> float:
    """Return bytes that come from the source of the weights, of all GPUs together.

    The checkpoint once, as the ranks of a node share its page cache; from a peer what each GPU
    holds.
    """
    _check_loader(loader)
    if loader == "peer":
        return rank_weight_bytes(deployment) * deployment.gpus
    return float(deployment.model.weight_bytes(deployment.dtype))


def weights_s(deployment: Deployment, source_gbps: float, loader: str = "safetensors") -> float:
    """Return seconds until the weights are on the GPUs.

    Args:
        deployment: the replica.
        source_gbps: see :func:`startup`.
        loader: ``safetensors``, the engines' default: every rank goes through the whole checkpoint,
            at the storage's or at its own pace, whichever is slower. ``streamed`` (Run:ai streamer,
            fastsafetensors and the like): storage is the limit, then a GPU's PCIe slot. ``peer``:
            every GPU takes its part from a GPU of a running replica.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """
    if not source_gbps > 0:
        raise ValueError(f"source_gbps = {source_gbps!r}: give GB/s above 0")
    whole_bytes = weights_bytes(deployment, loader)
    if loader == "peer":
        link_bytes_per_s = _table("peer")["link_share"] * source_gbps * 1e9
        return whole_bytes / deployment.gpus / link_bytes_per_s
    storage_s = whole_bytes / (source_gbps * 1e9)
    if loader == "streamed":
        return max(storage_s, rank_weight_bytes(deployment) / deployment.gpu.pcie_bytes_per_s)
    gbps = _table("safetensors")
    rank_gbps = gbps.get(deployment.gpu.architecture, gbps["any"])
    return max(storage_s, whole_bytes / (rank_gbps * 1e9))


def compile_s(deployment: Deployment, cached: bool) -> float:
    """Return seconds of ``torch.compile``: so many per layer; without a cache ranks compete."""
    row, layers = _engine(deployment), deployment.model.layers
    if cached:
        return float(_slowdown(deployment) * row["warm_s"] * layers)
    crowd = 1 + _table("ranks")["compile_share"] * (deployment.gpus - 1)
    return float(_slowdown(deployment) * row["cold_s"] * layers * crowd)


def profile_s(deployment: Deployment, cold_compile_s: float = 0.0) -> float:
    """Return seconds of the runs that size the KV cache.

    Args:
        deployment: the replica.
        cold_compile_s: seconds of compiling without a cache just before, 0 with one.
    """
    row = _table("profile")
    known_s = row["fixed_s"] + row["layer_s"] * deployment.model.layers
    return float(_slowdown(deployment) * known_s + row["share_of_cold_compile"] * cold_compile_s)


def graphs_s(deployment: Deployment) -> float:
    """Return seconds of capturing CUDA graphs: per layer, more with ranks and with experts.

    In proportion to their number, where the replica says it.
    """
    captured = 1.0 if deployment.cuda_graphs < 0 else deployment.cuda_graphs / GRAPHS
    row, ranks = _engine(deployment), _table("ranks")
    crowd = 1 + ranks["graph_share"] * (deployment.gpus - 1)
    experts = ranks["graph_moe"] if deployment.model.experts else 1.0
    layer_s = row["graph_s"] * crowd * experts + row["gc_s"]
    return float(captured * _slowdown(deployment) * layer_s * deployment.model.layers)


def wake_s(deployment: Deployment) -> float:
    """Return seconds to wake from sleep level 1, or to go to sleep.

    ``a + weight bytes of a GPU / min(share of its PCIe slot, its part of the host's memory)``.
    """
    row = _table("wake")
    rates = (
        row["slot_share"] * deployment.gpu.pcie_bytes_per_s,
        row["host_gbps"] * 1e9 / deployment.gpus,
    )
    return float(row["fixed_s"] + rank_weight_bytes(deployment) / min(rates))


def _check_loader(loader: str) -> None:
    if loader not in LOADERS:
        raise ValueError(f"loader = {loader!r}: use one of {', '.join(LOADERS)}")


def _slowdown(deployment: Deployment) -> float:
    return float(_table("host_slowdown").get(deployment.gpu.architecture, 1.0))


def _engine(deployment: Deployment) -> dict[str, Any]:
    row: dict[str, Any] = _table("engine")[deployment.rules.name]
    return row


def _table(name: str) -> dict[str, Any]:
    table: dict[str, Any] = _tables()[name]
    return table


@cache
def _tables() -> dict[str, dict[str, Any]]:
    with (Path(__file__).parent / "startup.toml").open("rb") as file:
        return tomllib.load(file)
