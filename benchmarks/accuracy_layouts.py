"""Throughput of whole models by layout, GPU and lengths: what TensorRT-LLM publishes, and ours.

    python benchmarks/accuracy_layouts.py            # errors by model, GPU and layout
    python benchmarks/accuracy_layouts.py --lengths  # and by lengths

271 rows of TensorRT-LLM's own overviews (versions 1.0 and 1.2, ``perf/techniques``): all requests
at once, random tokens of fixed lengths. Models with experts run with attention data parallelism
there (``enable_attention_dp``), also where a column says TP. No constant was fitted to the rows but
``pipeline_bubble``.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard.envs.hardware.catalogue import gpu, model  # noqa: E402
from gpuyard.envs.perf import Deployment, capability, tabulate  # noqa: E402
from gpuyard.envs.perf.serving.iteration import step_s  # noqa: E402

DATA = ROOT / "../shared/data/perf/techniques/extra_trtllm_perf_overview.csv"
GPUS = {
    "RTX6000Pro": "RTX-PRO-6000",
    "H100": "H100-SXM",
    "H200": "H200-SXM",
    "B200": "B200-SXM",
    "GB200": "GB200-NVL72",
}
MODELS = {"DeepSeek-R1-0528": "DeepSeek-R1"}
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
        kv_dtype="fp8",
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


def rows(data: Path = DATA) -> pd.DataFrame:
    """Return the rows with ours and the error in %."""
    table = pd.read_csv(data)
    found = []
    for row in table.itertuples():
        d = deployment(row)
        rate = full_rate(d, row.isl, row.osl)
        found.append(rate / d.gpus if "per GPU" in row.unit else rate)
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
    options = parser.parse_args()
    table = rows()
    print(errors(table, ["model", "gpu", "layout", "weights"]).to_string())
    if options.lengths:
        print(errors(table, ["isl", "osl"]).to_string())
    size = table.error.abs()
    print(f"all {len(table)}: median {size.median():.1f}, p90 {size.quantile(0.9):.1f}")
    for name, group in table.groupby("model"):
        print(f"{name}: {group.error.abs().median():.1f} / {group.error.abs().quantile(0.9):.1f}")


if __name__ == "__main__":
    main()
