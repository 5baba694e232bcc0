"""Throughput of whole models by layout, GPU and lengths: what TensorRT-LLM publishes, and ours.

    python benchmarks/accuracy_layouts.py                    # errors by model, GPU and layout
    python benchmarks/accuracy_layouts.py --lengths          # and by lengths
    python benchmarks/accuracy_layouts.py --steady           # as if a run had no beginning and end
    python benchmarks/accuracy_layouts.py --experts balanced # experts as their kernels were timed

271 rows of TensorRT-LLM's own overviews (versions 1.0 and 1.2, ``perf/techniques``): all requests
at once, random tokens of fixed lengths (:mod:`trtllm_bench`). Models with experts run with
attention data parallelism there (``enable_attention_dp``), also where a column says TP. No constant
was fitted to the rows but ``pipeline_bubble``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import trtllm_bench  # noqa: E402

from gpuyard.envs.hardware.catalogue import gpu, model  # noqa: E402
from gpuyard.envs.perf import Deployment, capability, tabulate  # noqa: E402
from gpuyard.envs.perf.serving.constants import constants  # noqa: E402
from gpuyard.envs.perf.serving.cost_table import CostTable  # noqa: E402
from gpuyard.envs.perf.serving.iteration import step_s  # noqa: E402
from gpuyard.envs.perf.serving.moe import experts_s  # noqa: E402

DATA = ROOT / "../shared/data/perf/techniques/extra_trtllm_perf_overview.csv"
GPUS = {
    "RTX6000Pro": "RTX-PRO-6000",
    "H100": "H100-SXM",
    "H200": "H200-SXM",
    "B200": "B200-SXM",
    "GB200": "GB200-NVL72",
}
KERNELS = ROOT / "../shared/data/perf/inference/moe.csv.gz"
TIMED = {"H100-SXM": "h100_sxm", "H200-SXM": "h200_sxm", "B200-SXM": "b200_sxm"}
TIMED |= {"GB200-NVL72": "gb200"}
ROUTED = ("balanced", "power_law_1.01", "power_law_1.2")
"""How the kernel tables share tokens out among the experts."""
MODELS = {"DeepSeek-R1-0528": "DeepSeek-R1"}
HOPPER = ("H100", "H200")
"""Where gpt-oss runs with ``kv_cache_config.dtype: auto``, 16 bits, and weights alone in mxfp4."""
MOST_SEQS = 2048
BUBBLE = 0.14
"""Of a further stage, from a third of the rows with stages (:mod:`technique_parallel`)."""


def deployment(row: pd.Series) -> Deployment:
    """Return what a row ran on."""
    kind, ranks, stages = re.fullmatch(r"(DEP|TP)(\d+)(?:PP(\d+))?", row.layout).groups()
    name, ranks, stages = MODELS.get(row.model, row.model), int(ranks), int(stages or 1)
    apart = kind == "DEP" or model(name).experts > 0
    dtype = {"FP8": "fp8", "FP4": "nvfp4"}[row.weights]
    return Deployment(
        gpu(GPUS[row.gpu]),
        model(name),
        **({"dp": ranks, "ep": ranks} if apart else {"tp": ranks}),
        pp=stages,
        pipeline_bubble=BUBBLE if stages > 1 else 0.0,
        dtype="mxfp4" if name.startswith("gpt-oss") else dtype,
        kv_dtype="bf16" if name.startswith("gpt-oss") and row.gpu in HOPPER else "fp8",
        engine="trtllm",
        links="pcie" if row.gpu == "RTX6000Pro" else "",
        max_num_seqs=MOST_SEQS,
    )


def full_rate(d: Deployment, prompt: int, output: int) -> float:
    """Return output tokens/s while as many requests run as memory, slots and a step's tokens allow.

    A step decodes all of them and computes the prompts of those that take the place of whoever
    ends: ``prompt / output`` tokens for each token of output.
    """
    table = tabulate(d)
    most = int((len(table.linear_s) - 1 - d.shards) / (1 + prompt / output))
    batch = min(capability(d).max_batch(prompt, output), most)
    chunks = min(d.shards, batch)
    share = [(max(1, round(batch * prompt / output / chunks)), prompt // 2)] * chunks
    return batch / step_s(table, batch, round(batch * (prompt + output / 2)), share, sampling=batch)


def run_rate(d: Deployment, prompt: int, output: int, routed: str = "") -> float:
    """Return output tokens/s of the published run, with experts of the kernel tables if asked."""
    make = partial(with_timed_experts, routed=routed) if routed else tabulate
    return trtllm_bench.run(d, prompt, output, tables=make).tokens_per_s


def timed_experts(d: Deployment, routed: str) -> pd.DataFrame:
    """Return the kernel table of a replica's experts on one rank, by tokens of all ranks.

    DeepSeek-R1's fp8 is scaled by blocks, the others' by tensor; gpt-oss runs in 8-bit activations
    on Blackwell and in 16 on Hopper. Empty where none was timed.
    """
    table, m = kernel_tables(), d.model
    on_hopper = d.gpu.name.startswith(HOPPER)
    kind = {
        "nvfp4": "nvfp4",
        "fp8": "fp8_block" if m.mla else "fp8",
        "mxfp4": "w4a16_mxfp4" if on_hopper else "w4a8_mxfp4_mxfp8",
    }[d.dtype]
    shape = {"hidden_size": m.hidden, "inter_size": m.expert_ffn, "topk": m.active_experts}
    shape |= {"num_experts": m.experts, "moe_tp_size": d.moe_tp, "moe_ep_size": d.ep}
    shape |= {"gpu": TIMED.get(d.gpu.name, ""), "moe_dtype": kind, "distribution": routed}
    chosen = np.logical_and.reduce([table[name] == value for name, value in shape.items()])
    return table[chosen].sort_values("num_tokens")


@cache
def kernel_tables() -> pd.DataFrame:
    """Return the timed experts of TensorRT-LLM."""
    table = pd.read_csv(KERNELS)
    return table[table.backend == "trtllm"]


def with_timed_experts(d: Deployment, routed: str) -> CostTable:
    """Return a replica's costs with its experts' time from kernel tables, where there are any.

    Between the tokens timed it is straight, beyond the last it goes on as before.
    """
    table = tabulate(d)
    if not d.model.experts or (timed := timed_experts(d, routed)).empty:
        return table
    tokens = np.arange(len(table.linear_s)) / d.pp
    x, y = timed.num_tokens.to_numpy(float), timed.ms.to_numpy() / 1000
    beyond = np.maximum(tokens - x[-1], 0) * (y[-1] - y[-2]) / (x[-1] - x[-2])
    row = constants("moe", d.gpu, d.dtype, d.stack)
    ours = experts_s(tokens, d.model, d.gpu, d.dtype, d.moe_tp, d.ep, row)
    change = np.interp(tokens, x, y) + beyond - ours
    change[0] = 0.0
    return replace(table, linear_s=table.linear_s + d.model.moe_layers * d.round * change)


Rate = Callable[[Deployment, int, int], float]


def rows(data: Path = DATA, rate: Rate = run_rate) -> pd.DataFrame:
    """Return the rows with ours and the error in %."""
    table = pd.read_csv(data)
    found = []
    for row in table.itertuples():
        d = deployment(row)
        ours = rate(d, row.isl, row.osl)
        found.append(ours / d.gpus if "per GPU" in row.unit else ours)
    table["ours"] = found
    table["error"] = 100 * (table.ours / table.value - 1)
    return table


def errors(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return rows, median and extremes of the error, and the median without sign, in %."""
    groups = table.groupby(by).error
    found = groups.agg(["count", "median", "min", "max"]).round(1)
    found["without sign"] = table.error.abs().groupby([table[key] for key in by]).median().round(1)
    return found


def main() -> None:
    """Print the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", action="store_true", help="errors by lengths, too")
    parser.add_argument("--steady", action="store_true", help="no beginning and no end")
    parser.add_argument("--experts", choices=ROUTED, default="", help="experts of kernel tables")
    options = parser.parse_args()
    rate = full_rate if options.steady else partial(run_rate, routed=options.experts)
    table = rows(rate=rate)
    print(errors(table, ["model", "gpu", "layout", "weights"]).to_string())
    if options.lengths:
        print(errors(table, ["isl", "osl"]).to_string())
    size = table.error.abs()
    print(f"all {len(table)}: median {size.median():.1f}, p90 {size.quantile(0.9):.1f}")
    for name, group in table.groupby("model"):
        print(f"{name}: {group.error.abs().median():.1f} / {group.error.abs().quantile(0.9):.1f}")


if __name__ == "__main__":
    main()
