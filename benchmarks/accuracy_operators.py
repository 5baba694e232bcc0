"""Accuracy of the cost model without the engine: kernels, whole decode steps, memory.

Errors are median / 90th percentile of |predicted/measured - 1| in %.
"""

from __future__ import annotations

import math
from pathlib import Path

import accuracy_kernels as kernels
import legacy
import numpy as np
import pandas as pd
from accuracy_kernels import scores

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment, kv_blocks, tabulate
from gpuyard.envs.perf.serving.iteration import step_s

SYSTEMS = {"H100": "H100-SXM", "H200": "H200-SXM", "B200": "B200-SXM"}
PRECISIONS = {"bf16": "bf16", "fp8": "fp8", "fp4": "nvfp4", "int4": "int4"}
BUDGET = 8192  # tokens in a step
LENGTHS = 0.9  # the clients draw lengths around 0.9 of the nominal ones


def run(data: Path) -> dict[str, float]:
    """Print all tables and return the errors by name."""
    errors: dict[str, float] = {}
    for name, title, table in (
        ("gemm", "GEMM kernels", kernels.gemm(data)),
        ("prefill_attention", "Prefill attention kernels", kernels.prefill(data)),
        ("decode_attention", "Decode attention kernels", kernels.decode(data)),
        ("mla", "Multi-head latent attention kernels", kernels.mla(data)),
        ("all_reduce", "All-reduce inside a node", kernels.collectives(data)),
        ("vidur_linear", "Vidur linear layers (no fit)", kernels.linear_layers(data)),
        ("helix_layer", "Helix layers", kernels.whole_layers(data)),
        ("dense_tpot", "Decode step of dense models in serving", tpot(dense_points(data))),
        ("moe_tpot", "Decode step of MoE models in serving", tpot(moe_points(data))),
        ("splitwise", "Splitwise, legacy constants", splitwise(data)),
        ("kv_blocks", "KV capacity", capacity(data)),
    ):
        print(f"\n{title}")
        print(table.to_string(index=False, float_format="%.2f"))
        whole = table[table.group == "all"]
        part = whole if len(whole) else table
        errors[f"{name}_median_pct"] = round(float(part["median"].median()), 2)
        errors[f"{name}_p90_pct"] = round(float(part["p90"].median()), 2)
    return errors


def dense_points(data: Path) -> pd.DataFrame:
    """Return the 783 calibrated serving points of dense models, with their deployment."""
    table = pd.read_csv(data / "perf/inference/e2e_dense_components.csv.gz")
    table["deployment"] = [_deployment(r, r.tp, 1, 1) for r in table.itertuples()]
    return table


def moe_points(data: Path) -> pd.DataFrame:
    """Return the 1,134 serving points of MoE models, with their deployment.

    The source's parallel sizes are read as its run names show them: ``tp`` above 8 is the true
    one times ``ep`` (its rows repeat those of tp 8, ep 8 digit for digit); with attention data
    parallelism ``tp`` (or ``dp`` if tp = 1) is the number of GPUs, each a data-parallel and an
    expert-parallel rank, and the concurrency is per rank.
    """
    table = pd.read_csv(data / "perf/inference/e2e_moe_components.csv.gz")
    deployments, concurrency = [], []
    for r in table.itertuples():
        tp, dp, ep = r.tp, 1, r.ep
        if r.dp == 1:
            tp = r.tp // r.ep if r.tp > 8 else r.tp
        elif r.tp > 1:
            tp, dp, ep = 1, r.tp, r.tp
        else:
            dp = r.dp // r.ep if r.dp > r.ep > 1 else r.dp
        deployments.append(_deployment(r, tp, dp, ep))
        concurrency.append(r.C * r.dp)
    return table.assign(deployment=deployments, C=concurrency)


def _deployment(row, tp: int, dp: int, ep: int) -> Deployment:
    name = row.model.removesuffix("-FP8").removesuffix("-Instruct")
    dtype = "mxfp4" if name == "gpt-oss-120b" else PRECISIONS[row.prec]
    return Deployment(
        gpu(SYSTEMS[row.sys]),
        model(name),
        tp=tp,
        dp=dp,
        ep=ep,
        dtype=dtype,
        max_num_seqs=4096,
        max_num_batched_tokens=BUDGET,
        engine="vllm-0.12" if row.be == "vllm" else row.be,
    )


def tpot_s(d: Deployment, sequences: int, prompt: int, output: int) -> float:
    """Return the time per output token of a closed loop of ``sequences`` clients.

    A decode step, and per output token the share of prompt chunks that other clients add to it::

        step(B) + (B - 1)/output * sum over chunks of (step(B + chunk) - step(B))
    """
    prompt_tokens, outputs = LENGTHS * prompt, LENGTHS * output
    table = tabulate(d)
    context = round(sequences * (prompt_tokens + outputs / 2))
    alone = step_s(table, sequences, context)
    extra, left, cached = 0.0, math.ceil(prompt_tokens), 0
    while left:
        chunk = min(left, BUDGET - sequences)
        left -= chunk
        samples = sequences + (left == 0)
        extra += step_s(table, sequences, context, [(chunk, cached)], samples) - alone
        cached += chunk
    return alone + (sequences - 1) / outputs * extra


def tpot(table: pd.DataFrame) -> pd.DataFrame:
    """Return errors of all points and by GPU, stack, model and precision."""
    predicted = np.array([tpot_s(r.deployment, r.C, r.isl, r.osl) for r in table.itertuples()])
    measured = table.y.to_numpy()
    rows = [scores("all", predicted, measured)]
    keys = table[["sys", "be", "model", "prec"]].agg(" ".join, axis=1)
    for group in sorted(keys.unique()):
        here = (keys == group).to_numpy()
        rows.append(scores(group, predicted[here], measured[here]))
    return pd.DataFrame(rows)


def splitwise(data: Path) -> pd.DataFrame:
    """Splitwise's table of 2023, from the legacy constants."""
    table = pd.read_csv(data / "perf/inference/splitwise_median.csv.gz")
    names = {"llama2-70b": "Llama-2-70B", "bloom-176b": "BLOOM-176B"}
    rows = []
    for (name, hardware, tp), part in table.groupby(["model", "hardware", "tensor_parallel"]):
        where = (names[name], "A100-80" if hardware.startswith("a100") else "H100-SXM", tp)
        capped = hardware.endswith("pcap")
        prefill = legacy.prefill_s(*where, part.prompt_size * part.batch_size, capped)
        decode = legacy.decode_s(*where, part.batch_size)
        group = f"{name} {hardware} tp={tp}"
        rows.append(scores(f"{group} prefill", prefill, part.prompt_time * 1e-3))
        rows.append(scores(f"{group} decode", decode, part.token_time * 1e-3))
    return pd.DataFrame(rows)


def capacity(data: Path) -> pd.DataFrame:
    """KV tokens of one GPU set: a vLLM 0.19 server, and DistServe's A100 figures.

    DistServe's engine does not say how much of the memory it may use; 0.95 is assumed.
    """
    llama = Deployment(gpu("RTX-4090"), model("Llama-3.1-8B"), engine="vllm-0.19")
    rows = [scores("RTX-4090 Llama-3.1-8B, vLLM", [kv_blocks(llama)], [2588])]
    known = pd.read_csv(data / "perf/distserve/max_num_tokens.csv")
    for row in known[(known.pp == 1) & known.tp.isin([1, 2, 4, 8])].itertuples():
        name = row.model.removeprefix("facebook/").replace("opt-", "OPT-").upper()
        if name not in ("OPT-13B", "OPT-66B") or model(name).heads % row.tp:
            continue
        d = Deployment(
            gpu("A100-80"),
            model(name),
            tp=row.tp,
            dtype="fp16",
            gpu_memory_utilization=0.95,
            max_num_seqs=256,
            max_num_batched_tokens=8192,
            engine="vllm-0.12",
        )
        try:
            tokens = kv_blocks(d) * d.block_size
        except ValueError:
            tokens = 0
        rows.append(scores(f"{name} tp={row.tp}, DistServe", [tokens], [row.max_num_tokens]))
    return pd.DataFrame(rows)
