"""Serving engines by version: how they schedule, what they leave to the cache, their defaults.

A version stands for all from its ``since`` on up to the next one: ``vllm-0.17`` behaves as
``vllm-0.15``. Sources (vLLM): version 1 of its engine by default, 0.8; hybrid KV cache manager,
0.10; CUDA graphs of whole decode steps by default, 0.11; asynchronous scheduling by default, 0.14;
``scheduler_reserve_full_isl``, 0.19; CUDA graphs inside the memory budget and utilisation 0.92,
pull request 38284, 0.21; defaults by GPU, ``engine/arg_utils.py``. TensorRT-LLM keeps every token
in layers with a window, too, unless it is told otherwise (1.0 to 1.2,
``_torch/pyexecutor/resource_manager.py``: ``max_attention_window`` is the longest sequence).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...hardware.catalogue import GPU

LARGE_GPU_BYTES = 70 * 2**30


@dataclass(frozen=True)
class Engine:
    """One version of a serving engine.

    Attributes:
        name: as a replica names it.
        stack: whose host times and expert kernels apply.
        since: first version that it stands for.
        whole_prompt: admits a request only if blocks for all its known tokens are free; otherwise
            blocks for the next chunk are enough.
        asynchronous: plans a step while the one before runs: a step takes the longer of host and
            GPU, and who arrives waits for one step more. Otherwise host and GPU time add up.
        full_graphs: a decode step is one CUDA graph; otherwise the host launches it layer by layer.
        windowed_kv: layers that look back a window keep only that in the KV cache.
        logit_bytes: peak memory per sequence and vocabulary entry while the largest batch samples.
        graphs_in_budget: CUDA graphs count against the memory that the engine may use.
        gpu_memory_utilization: default share of the memory that it may use.
        frontend_ms: default time that HTTP server, tokeniser and detokeniser add to a request.
    """

    name: str
    stack: str
    since: tuple[int, ...] = ()
    whole_prompt: bool = True
    asynchronous: bool = False
    full_graphs: bool = True
    windowed_kv: bool = True
    logit_bytes: float = 16.0
    graphs_in_budget: bool = False
    gpu_memory_utilization: float = 0.9
    frontend_ms: float = 7.0


_EARLY: dict[str, Any] = {"whole_prompt": False, "full_graphs": False, "logit_bytes": 32.0}
ENGINES = (
    Engine("vllm-0.8", "vllm", since=(0, 8), windowed_kv=False, **_EARLY),
    Engine("vllm-0.10", "vllm", since=(0, 10), **_EARLY),
    Engine("vllm-0.12", "vllm", since=(0, 11), whole_prompt=False),
    Engine("vllm-0.15", "vllm", since=(0, 14), whole_prompt=False, asynchronous=True),
    Engine("vllm-0.19", "vllm", since=(0, 19), asynchronous=True),
    Engine(
        "vllm-0.21",
        "vllm",
        since=(0, 21),
        asynchronous=True,
        graphs_in_budget=True,
        gpu_memory_utilization=0.92,
    ),
    Engine("sglang", "sglang"),
    Engine("trtllm", "trtllm", windowed_kv=False),
)
NEWEST = "vllm-0.21"


@cache
def engine(name: str) -> Engine:
    """Return the modelled version that ``name`` behaves as.

    Args:
        name: one of :data:`ENGINES`, ``vllm`` for the newest, or any ``vllm-X.Y`` from 0.8 on.

    Raises:
        ValueError: if there is no such engine, or the version is older than all that are modelled.
    """
    if name == "vllm":
        name = NEWEST
    for known in ENGINES:
        if name == known.name:
            return known
    version = re.fullmatch(r"vllm-v?(\d{1,6})\.(\d{1,6})(\.\w{1,20})?", name)
    if version:
        wanted = (int(version[1]), int(version[2]))
        older = [known for known in ENGINES if known.stack == "vllm" and known.since <= wanted]
        if older:
            return older[-1]
    names = ", ".join(known.name for known in ENGINES)
    raise ValueError(f"use one of {names}, or a vllm-X.Y from 0.8 on")


def default_limits(gpu: GPU) -> tuple[int, int]:
    """Return batched tokens and sequences of a server on this GPU, where nothing else is set.

    vLLM gives 8,192 and 1,024 to a GPU of 70 GiB and more that is no A100, otherwise 2,048 and 256.
    """
    large = gpu.memory_bytes >= LARGE_GPU_BYTES and not gpu.name.upper().startswith("A100")
    return (8192, 1024) if large else (2048, 256)
