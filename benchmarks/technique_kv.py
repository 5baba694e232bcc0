"""KV tiers, KV quantisation, cache sizes, adapters: published effects beside simulated ones.

    python benchmarks/technique_kv.py

Sources: vLLM's blog on its KV offloading connector (8 January 2026) and on fp8 KV caches (22 April
2026), LMCache issue 1741, S-LoRA (arXiv 2311.03285) and arithmetic from the models' configurations.
Bands: 25 % for the host tier, 5 % for fp8, 10 % for adapters, exact sizes. Of pooled against
isolated host caches the set-up is not public (11.8 -> 52.4 % hits, 7.68 -> 11.97 requests/s), so
only the sign is held against it, on four replicas in turn with 40 documents whose caches fit the
pool but no single host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import gpuyard  # noqa: F401
from gpuyard.envs.hardware import catalogue
from gpuyard.envs.perf import Deployment, capability
from gpuyard.envs.perf.serving import kv_tiers
from gpuyard.envs.scenario import Scenario, from_dict
from gpuyard.envs.scenario.fit import fitted
from gpuyard.envs.workload.requests.source import Workload
from gpuyard.envs.workload.requests.stream import RequestStream

BLOCK = 16  # tokens: vLLM's
OFFLOADING = "vllm.ai/blog/2026-01-08-kv-offloading-connector"
S_LORA = "arXiv 2311.03285 (8.05 -> 7.61 requests/s)"
FP8_KV = "vllm.ai/blog/2026-04-22-fp8-kvcache"
GROUP = 8 * BLOCK  # tokens of a prefix unit where documents are long, to keep the tables small


def row(technique: str, target: str, source: str, low: float, high: float, simulated: float):
    """Return a row: the band is ``[low, high]``."""
    return {
        "technique": technique,
        "target": target,
        "source": source,
        "low": low,
        "high": high,
        "simulated": simulated,
    }


def around(value: float, share: float) -> tuple[float, float]:
    """Return the band of ``share`` around a value."""
    return value * (1 - share), value * (1 + share)


def prompts(
    documents: Sequence[int], gap_s: float, tokens: int, unit: int = BLOCK, at_once: int = 1
) -> RequestStream:
    """Return prompts of ``tokens`` tokens, each of a document, and one token of output.

    Args:
        documents: of each request; equal numbers share the whole prompt.
        gap_s: seconds between arrivals.
        tokens: of a prompt.
        unit: tokens of a prefix unit.
        at_once: requests that arrive together.
    """
    n, units = len(documents), tokens // unit
    ids = np.asarray(documents)[:, None] * units + np.arange(units)
    return RequestStream(
        arrival_s=gap_s * (np.arange(n) // at_once).astype(float),
        prompt_tokens=np.full(n, tokens, np.int32),
        output_tokens=np.ones(n, np.int32),
        max_tokens=np.ones(n, np.int32),
        session=np.full(n, -1, np.int32),
        prefix_offsets=units * np.arange(n + 1),
        prefix_ids=ids.reshape(-1).astype(np.int32),
        prefix_block_tokens=unit,
        priority=np.zeros(n, np.float32),
    )


def serve(stream: RequestStream, replica: dict[str, Any], **tables: Any) -> dict[str, NDArray]:
    """Serve a stream on the replicas of one table, in turn, and return the table of requests."""
    scenario: Scenario = from_dict({"replicas": [replica], "workload": SMALL, **tables})
    workload = Workload(stream, len(stream))
    scenario = replace(scenario, workload=workload, replicas=fitted(scenario.replicas, workload))
    env: Any = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    env.reset(seed=0)
    done, turn = False, 0
    while not done:
        done = env.step(turn % len(scenario.replicas))[2]
        turn += 1
    return env.results()["requests"]


def ttft_s(table: dict[str, NDArray]) -> NDArray[np.float64]:
    """Return the time to first token of each request, seconds."""
    return table["first_token_s"] - table["arrival_s"]


SMALL = {"num_requests": 1, "max_tokens": 16}  # of the workload that the stream takes the place of
LLAMA = {"gpu": "H100-SXM", "model": "Llama-3.1-8B", "engine": "vllm-0.15"}
BARE = {**LLAMA, "frontend_ms": 0.0}
"""As the source of the host tier has it: prompts are tokens already, given by a script."""


def sooner(tokens: int) -> float:
    """Return how many times sooner a lone prompt has its first token if the host has it.

    The GPU's cache holds one prompt; another one has evicted it.
    """
    blocks = tokens // BLOCK + 2
    tight = {**BARE, "kv_blocks": blocks}
    stream = prompts([0, 1, 0], 60.0, tokens)
    without = ttft_s(serve(stream, tight))[2]
    with_host = ttft_s(serve(stream, {**tight, "host_kv_gb": 100.0}))[2]
    return float(without / with_host)


def prefills_at_full_hits(requests: int = 400) -> float:
    """Return the gain in prefill throughput where the host has all of many prompts of 512."""
    tight = {**BARE, "kv_blocks": 64 * 32 + 2}
    stream = prompts([*range(requests)] * 2, 300.0, 512, at_once=requests)

    def makespan_s(replica: dict[str, Any]) -> float:
        table = serve(stream, replica)
        second = slice(requests, None)
        return float(table["finish_s"][second].max() - table["arrival_s"][second].min())

    return makespan_s(tight) / makespan_s({**tight, "host_kv_gb": 100.0})


def second_round(pool_gb: float, documents: int = 50, tokens: int = 10_240) -> float:
    """Return mean TTFT of the second round over documents with a host pool, without it = 1.

    Of Llama-3.3-70B on two GPUs, whose 50 documents of 10,000 tokens are 160 GB.
    """
    replica = {"gpu": "H200-SXM", "model": "Llama-3.3-70B", "tp": 2, "engine": "vllm-0.15"}
    stream = prompts([*range(documents)] * 2, 10.0, tokens, unit=GROUP)

    def mean_s(replica: dict[str, Any]) -> float:
        return float(ttft_s(serve(stream, replica))[documents:].mean())

    return mean_s({**replica, "host_kv_gb": pool_gb}) / mean_s(replica)


def pooled_and_isolated(sessions: int = 40, turns: int = 6, tokens: int = 8192):
    """Return (hits, requests/s) of four replicas in turn with hosts of their own, and pooled."""
    rng = np.random.default_rng(0)
    order = np.concatenate([rng.permutation(sessions) for _ in range(turns)])
    stream = prompts(order, 0.04, tokens, unit=GROUP)  # more than four replicas can compute
    tight = {**LLAMA, "kv_blocks": 2 * tokens // BLOCK, "count": 4}
    pool_gb = 1.25 * sessions * tokens * 131_072 / 1e9
    found = []
    for replica, tables in (
        ({**tight, "host_kv_gb": pool_gb / 4}, {}),
        (tight, {"kv_store": {"capacity_gb": pool_gb, "gbps": 100.0}}),
    ):
        table = serve(stream, replica, **tables)
        hits = table["cached_tokens"].sum() / table["prompt_tokens"].sum()
        found.append((float(hits), len(stream) / float(table["finish_s"].max())))
    return found


def fp8_slope(model: str) -> float:
    """Return the slope of the inter-token time over the context with fp8 KV, bf16 = 1."""
    slopes = {}
    for kv_dtype in ("bf16", "fp8"):
        deployment = Deployment(
            gpu=catalogue.gpu("H100-SXM"),
            model=catalogue.model(model),
            dtype="mxfp4" if model == "gpt-oss-20b" else "bf16",
            kv_dtype=kv_dtype,
            engine="vllm-0.19",
        )
        slopes[kv_dtype] = capability(deployment).decode[2]
    return slopes["fp8"] / slopes["bf16"]


def host_gbps() -> float:
    """Return the rate of copies from host to GPU, GB/s."""
    deployment = Deployment(catalogue.gpu("H100-SXM"), catalogue.model("Llama-3.1-8B"))
    unit_bytes = kv_tiers.store_unit_bytes(deployment, BLOCK)
    return unit_bytes / kv_tiers.host_unit_s(deployment, BLOCK) / 1e9


def many_adapters(adapters: int, requests: int = 300) -> float:
    """Return the requests per second of Llama-2-7B on an A100 whose requests name adapters.

    Prompts and outputs of 8 to 512 tokens, evenly, all waiting. Memory bounds S-LoRA's adapters,
    not a number: hence 256 places.
    """
    rng = np.random.default_rng(0)
    stream = prompts(range(requests), 0.0, 512)
    outputs = rng.integers(8, 513, requests).astype(np.int32)
    lengths = rng.integers(8, 513, requests).astype(np.int32)
    stream = replace(
        stream,
        prompt_tokens=lengths,
        output_tokens=outputs,
        max_tokens=outputs,
        prefix_offsets=np.zeros(requests + 1, np.int64),
        prefix_ids=np.zeros(0, np.int32),
    )
    replica = {"gpu": "A100-80", "model": "Llama-2-7B", "engine": "vllm-0.12"}
    lora = {"adapters": adapters, "zipf": 1.0, "max_loras": 256, "rank": 8}
    table = serve(stream, replica, lora=lora)
    return requests / float(table["finish_s"].max())


def sizes() -> list[dict[str, Any]]:
    """Return the rows of bytes per token, which are exact."""
    known = {"DeepSeek-V3": 70_272, "Qwen2.5-72B": 327_680, "Llama-3.1-405B": 516_096}
    return [
        row(
            "KV bytes per token",
            f"{name}, bf16: {size / 1000:g} KB",
            "configuration of the model",
            size,
            size,
            catalogue.model(name).kv_bytes_per_token("bf16"),
        )
        for name, size in known.items()
    ]


def rows() -> list[dict[str, Any]]:
    """Measure everything; each row has technique, target, source, low, high and simulated."""
    host, fp8 = "host KV tier", "fp8 KV cache"
    (alone_hits, alone_rate), (pooled_hits, pooled_rate) = pooled_and_isolated()
    pooled, private = "pooled over isolated host caches", "set-up not public: sign only"
    no_gain, issue = "TTFT 1.01 x, 60 GB for 160 GB under LRU", "LMCache issue 1741"
    more, many = (1.0, math.inf), many_adapters(2000) / many_adapters(5)
    found = [
        (host, "50 GB/s one way", OFFLOADING, around(50, 0.25), host_gbps()),
        (host, "TTFT 2 x better, 512 tokens", OFFLOADING, around(2, 0.25), sooner(512)),
        (host, "TTFT 22 x better, long prompts", OFFLOADING, around(22, 0.25), sooner(98_304)),
        (host, "prefills 9 x, 512 tokens", OFFLOADING, around(9, 0.25), prefills_at_full_hits()),
        (host, no_gain, issue, around(1.01, 0.25), second_round(60.0)),
        (pooled, "hits 4.44 x (11.8 -> 52.4 %)", private, more, pooled_hits / alone_hits),
        (pooled, "rate 1.56 x (7.68 -> 11.97/s)", private, more, pooled_rate / alone_rate),
        ("LoRA adapters", "2,000 over 5: 0.945 x", S_LORA, around(0.945, 0.1), many),
        (fp8, "ITL slope x 0.54 (8B)", FP8_KV, around(0.54, 0.05), fp8_slope("Llama-3.1-8B")),
        (fp8, "ITL slope x 0.80 (gpt-oss)", FP8_KV, around(0.8, 0.05), fp8_slope("gpt-oss-20b")),
    ]
    return [row(*words, *band, value) for *words, band, value in found] + sizes()


def main() -> None:
    """Print the rows."""
    print(f"{'technique':<34}{'target':<46}{'band':>18}{'simulated':>12}  inside")
    for found in rows():
        inside = found["low"] <= found["simulated"] <= found["high"]
        band = f"{found['low']:.4g} .. {found['high']:.4g}"
        print(
            f"{found['technique']:<34}{found['target']:<46}{band:>18}{found['simulated']:>12.4g}"
            f"  {'yes' if inside else 'NO'}"
        )


if __name__ == "__main__":
    main()
