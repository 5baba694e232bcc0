"""Public logs and serving points of real engines, which set few of the constants.

    python benchmarks/accuracy_public.py

KV capacity that vLLM printed at its start, and times and throughputs that users published, against
the same deployment: closed and open loops step by step (:mod:`closed_loop`). Which rows set a
constant stands in ``docs/accuracy.md``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from closed_loop import Loop, Requests  # noqa: E402

from gpuyard.envs.hardware.catalogue import gpu, model  # noqa: E402
from gpuyard.envs.perf import Deployment, kv_tokens  # noqa: E402

ROUNDS, OPEN_REQUESTS = 4, 400
UNDATED = "vllm-0.10"
"""Engine of rows that only say "vllm 2025" or "vllm v1": most of that year's releases."""
OLDER = ("0.4", "0.5", "0.6", "0.7")
"""Versions before those that are modelled."""


def engine_of(text: str) -> str:
    """Return our engine for what a row calls it, for example ``vllm 0.19.1``."""
    name, _, version = text.partition(" ")
    if name != "vllm":
        return name
    if version.startswith(OLDER) or "." not in version:
        return UNDATED
    return f"vllm-{'.'.join(version.split('.')[:2])}"


def capacity(data: Path) -> pd.DataFrame:
    """Return KV tokens logged and ours, with the error in %; -1: refused to start."""
    table = pd.read_csv(data / "perf/public/kv_cache_logs.csv")
    table = table[table.kv_tokens.notna()]
    rows = [
        (r.gpu, r.model, r.tp, r.dtype, r.engine, r.kv_tokens, _kv_tokens(r))
        for r in table.itertuples()
    ]
    found = pd.DataFrame(rows, columns=["gpu", "model", "tp", "dtype", "engine", "logged", "ours"])
    found["experts"] = [model(name).experts > 0 for name in found.model]
    refused = (found.logged < 0) | (found.ours < 0)
    found["error"] = np.where(refused, np.nan, 100 * (found.ours / found.logged - 1))
    return found


def _kv_tokens(row: Any) -> int:
    try:
        return kv_tokens(
            Deployment(
                gpu(row.gpu),
                model(row.model),
                tp=row.tp,
                dtype=row.dtype,
                kv_dtype=row.kv_dtype,
                max_num_seqs=row.max_num_seqs,
                max_num_batched_tokens=row.max_num_batched_tokens,
                gpu_memory_utilization=row.gpu_memory_utilization,
                engine=engine_of(row.engine),
            )
        )
    except ValueError:
        return -1


def serving(data: Path) -> pd.DataFrame:
    """Return serving points measured and ours, with the error in %."""
    table = pd.read_csv(data / "perf/public/serving_points.csv")
    cases = ["gpu", "model", "tp", "ep", "dtype", "engine", "concurrency", "rate_per_s"]
    cases += ["prompt_tokens", "output_tokens", "source"]
    parts = [_points(part) for _, part in table.groupby(cases, sort=False, dropna=False)]
    return pd.concat(parts, ignore_index=True)


def _points(part: pd.DataFrame) -> pd.DataFrame:
    row = next(part.itertuples())
    deployment = Deployment(
        gpu(row.gpu),
        model(row.model),
        tp=row.tp,
        ep=row.ep,
        dtype=row.dtype,
        engine=engine_of(row.engine),
    )
    found = played(deployment, row)
    part = part.assign(ours=[found[metric] for metric in part.metric])
    return part.assign(
        experts=deployment.model.experts > 0,
        analogy=deployment.gpu.confidence == "analogy",
        error=100 * (part.ours / part.value - 1),
    )


def played(deployment: Deployment, row: Any) -> dict[str, float]:
    """Return the metrics of one point's clients, beginning and end left out."""
    rng = np.random.default_rng(0)
    clients = 0 if np.isnan(row.concurrency) else int(row.concurrency)
    count = max(ROUNDS * clients, 8) if clients else OPEN_REQUESTS
    arrival_s = np.full(count, np.inf)
    if clients:
        arrival_s[:clients] = 0.0
    elif "Poisson" in row.source:
        arrival_s = np.cumsum(rng.exponential(1 / row.rate_per_s, count))
    else:
        arrival_s = np.arange(count) / row.rate_per_s
    requests = Requests(
        _lengths(rng, row.prompt_tokens, count), _lengths(rng, row.output_tokens, count), arrival_s
    )
    Loop(deployment, requests, cached="cached" in row.source).play()
    if not clients:
        return requests.part(slice(count // 4, count * 9 // 10))
    middle = slice(clients, -clients) if clients > 1 else slice(None)
    found = requests.part(middle)
    per_s = clients / (1e-3 * found["e2e_ms"])
    tokens = float(requests.output_tokens.mean())
    return found | {"requests_per_s": per_s, "output_tokens_per_s": per_s * tokens}


def _lengths(rng: np.random.Generator, text: Any, count: int) -> np.ndarray:
    """Return token counts of "uniform a-b" or of a number."""
    kind, _, span = str(text).partition(" ")
    if kind == "uniform":
        low, high = (int(x) for x in span.split("-"))
        return rng.integers(low, high + 1, count)
    return np.full(count, round(float(text)))


def run(data: Path) -> dict[str, float]:
    """Print both tables and return the median errors by kind, in %."""
    logs, points = capacity(data), serving(data)
    print("\nKV capacity that vLLM logged, tokens")
    print(logs.to_string(index=False, float_format="%.1f"))
    shown = ["gpu", "model", "tp", "dtype", "engine", "concurrency", "rate_per_s"]
    shown += ["prompt_tokens", "output_tokens", "metric", "value", "ours", "error"]
    print("\nPublic serving points")
    print(points[shown].to_string(index=False, float_format="%.1f"))
    tpot, known = points.metric.str.startswith("tpot"), ~points.analogy
    dated = points.engine.str.startswith("vllm 0.15")
    refusals = logs.logged < 0
    kinds = {
        "public_kv_dense": logs.error[~logs.experts],
        "public_kv_experts": logs.error[logs.experts],
        "public_tpot_dense": points.error[tpot & known & ~points.experts],
        "public_tpot_experts": points.error[tpot & known & points.experts],
        "public_analogy": points.error[points.analogy],
        "public_closed_loop_rate": points.error[points.metric.str.endswith("_per_s")],
        "public_ttft": points.error[points.metric == "ttft_ms"],
        "public_vllm_0.15_e2e": points.error[dated & (points.metric == "e2e_ms")],
    }
    errors = {
        f"{name}_median_pct": round(float(error.abs().median()), 2) for name, error in kinds.items()
    }
    errors["public_vllm_0.15_e2e_worst_pct"] = round(
        float(kinds["public_vllm_0.15_e2e"].abs().max()), 2
    )
    errors["public_refusals_missed"] = int((logs.ours[refusals] > 0).sum())
    print("\nmedian errors, %:", ", ".join(f"{k} {v}" for k, v in errors.items()))
    return errors


if __name__ == "__main__":
    run(Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data")))
