"""DeepSeek-V3 on many nodes against published measurements: expert parallelism, DP attention.

    python benchmarks/accuracy_wide_ep.py            # a table of errors
    python benchmarks/accuracy_wide_ep.py --rows     # every row
    python benchmarks/accuracy_wide_ep.py --tables   # the kernel tables that set the constants

The rows are in ``wide_ep.csv`` (facts with source). Quantities: ``prefill``, ``decode``: tokens/s
of a node of 8 GPUs; time of one pass between ranks (``dispatch_us``) or its bandwidth as the source
counts it (``dispatch_gbps``), of ``combine`` likewise. ``tokens``: of each GPU, in prompts of
``length`` or with that context; ``overlap``: two batches; ``drafts``: tokens of each request in a
decode step beyond the first, of which ACCEPTED count. ``fit`` marks the one row behind IMBALANCE.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from replica_rows import report

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard.envs.hardware.catalogue import gpu, model  # noqa: E402
from gpuyard.envs.perf import Deployment  # noqa: E402
from gpuyard.envs.perf.serving import expert_parallel as wide  # noqa: E402
from gpuyard.envs.perf.serving.iteration import coefficients, decode_s, prefill_s  # noqa: E402
from gpuyard.envs.perf.serving.tokenwise import head_s, linear_s  # noqa: E402

NODE = 8
IMBALANCE = 1.43
"""Busiest rank over mean of SGLang's runs with EPLB: makes prompts of 4,096 as much slower as they
were than with experts chosen at random (59,337 against 50,302 tokens/s)."""
ACCEPTED = 0.6
"""Of a drafted token, as the source of the rows assumes."""


def rows() -> pd.DataFrame:
    """Return the rows with ``ours`` and ``error`` in %."""
    table = pd.read_csv(Path(__file__).parent / "wide_ep.csv")
    table["ours"] = [_ours(row) for row in table.itertuples()]
    table["error"] = 100 * (table.ours / table.measured - 1)
    return table


def _ours(row) -> float:
    d = _replica(row)
    if row.quantity == "prefill":
        return NODE * row.tokens / prefill_step_s(d, row.tokens, int(row.length))
    if row.quantity == "decode":
        counted = row.tokens * (1 + ACCEPTED * row.drafts)
        return NODE * counted / decode_step_s(d, row.tokens, row.length, row.drafts)
    step, unit = row.quantity.split("_")
    where = d.group(d.stage_gpus)
    if unit == "us":
        return 1e6 * float(wide.low_latency_s(d, row.tokens, step, where.nodes))
    seconds = float(wide.high_throughput_s(d, row.tokens, step, where.local, where.nodes))
    places = where.nodes if where.nodes > 1 else where.ranks
    size = row.tokens * wide.token_bytes(d.model.hidden)[step]
    return size * wide.places_hit(places, d.model.active_experts) / seconds / 1e9


def prefill_step_s(d: Deployment, tokens: int, length: int) -> float:
    """Return seconds of a step in which every rank computes ``tokens`` in prompts of one length."""
    prompts = [(length, 0)] * (tokens // length * d.dp)
    seconds = float(linear_s(d, tokens * d.dp)) + float(head_s(d, len(prompts)))
    return seconds + prefill_s(coefficients(d), prompts)


def decode_step_s(d: Deployment, sequences: int, context: float, drafts: int) -> float:
    """Return seconds of a step of ``sequences`` on every rank.

    Drafted tokens are further queries over the same cache: more arithmetic, no more bytes.
    """
    record = coefficients(d)
    record["dec_flop_s"] *= 1 + drafts
    tokens = sequences * d.dp * (1 + drafts)
    gpu_s = linear_s(d, tokens) + head_s(d, tokens)
    return float(gpu_s + decode_s(record, sequences * d.dp, sequences * context * d.dp))


def _replica(row) -> Deployment:
    wide_ep = "TP16" not in row.row
    return Deployment(
        gpu(row.gpu),
        model("DeepSeek-V3"),
        dp=row.ranks,
        ep=row.ranks if wide_ep else 1,
        dtype="fp8",
        engine="sglang",
        all_to_all="deepep" if wide_ep else "",
        two_batch_overlap=bool(row.overlap),
        redundant_experts=-256 % row.ranks if wide_ep else 0,
        expert_imbalance=IMBALANCE if row.imbalance == "default" else 1.0,
    )


def table_errors(data: Path) -> pd.DataFrame:
    """Return errors in % on the kernel tables, by kernels, nodes and pass."""
    table = pd.read_csv(data / "perf/inference/deepep_a2a.csv.gz")
    table = table[table.gpu.eq("h100_sxm") & table.hidden_size.eq(7168) & table.num_topk.eq(8)]
    table = table[table.version.eq("0.5.6.post2") & (table.num_token <= 16384)]
    quick = table["mode"].eq("low_latency")
    table = table[quick | table.sms.eq(np.where(table.node_num == 1, 20, 24))]
    d = Deployment(
        gpu("H100-SXM"), model("DeepSeek-V3"), dp=8, ep=8, dtype="fp8", all_to_all="deepep"
    )
    found = []
    for row in table.to_dict("records"):
        for step in wide.PASSES:
            if row["mode"] == "low_latency":
                ours = wide.low_latency_s(d, row["num_token"], step, row["node_num"])
            else:
                ours = wide.high_throughput_s(d, row["num_token"], step, NODE, row["node_num"])
            error = 100 * (1e6 * float(ours) / row[f"t_{step}_us"] - 1)
            size = "64 tokens and more" if row["num_token"] >= 64 else "fewer"
            found.append((row["mode"], step, row["node_num"], size, error))
    errors = pd.DataFrame(found, columns=["kernels", "pass", "nodes", "size", "error"])
    groups = errors.groupby(["kernels", "pass", "size", "nodes"]).error
    return groups.agg(
        rows="count",
        median=lambda e: e.abs().median(),
        p90=lambda e: e.abs().quantile(0.9),
        bias="median",
    ).round(1)


if __name__ == "__main__":
    if "--tables" in sys.argv:
        print(table_errors(Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data"))))
    report(rows(), "quantity", ["row", "quantity", "ranks", "length", "measured", "ours", "error"])
