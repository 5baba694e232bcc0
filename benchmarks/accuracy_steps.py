"""Whole steps against the sum of measured operator tables (LLMServingSim, vLLM 0.19).

Every row of an attention table is one batch, decodes, a prompt chunk or both. Its step is summed
from the tables: all layers of attention and of the token-wise operators at that number of tokens,
then LM head and sampler. The prediction leaves out host and all-reduce,
which the tables do not hold.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment, tabulate
from gpuyard.envs.perf.serving.collectives import all_reduce_s
from gpuyard.envs.perf.serving.host import host_s, launch_s
from gpuyard.envs.perf.serving.iteration import step_s

TABLES = (
    ("RTX-4090", "Llama-3.1-8B", 1, "RTX4090/meta-llama/Llama-3.1-8B"),
    ("RTX-PRO-6000", "Llama-3.1-8B", 1, "RTXPRO6000/meta-llama/Llama-3.1-8B"),
    ("RTX-PRO-6000", "Llama-3.1-8B", 2, "RTXPRO6000/meta-llama/Llama-3.1-8B"),
    ("RTX-PRO-6000", "Qwen3-32B", 1, "RTXPRO6000/Qwen/Qwen3-32B"),
    ("RTX-PRO-6000", "Qwen3-32B", 2, "RTXPRO6000/Qwen/Qwen3-32B"),
    ("RTX-PRO-6000", "Qwen3-30B-A3B", 1, "RTXPRO6000/Qwen/Qwen3-30B-A3B-Instruct-2507"),
)
ONCE = ["embedding", "final_layernorm"]  # the other token-wise operators run in every layer


def steps(data: Path) -> pd.DataFrame:
    """Return errors per GPU, model, tp and kind of batch, in %: median, p90 and mean (bias).

    Batches of serving size: at least 16 decodes of 256 to 4096 cached tokens, at most 300,000 of
    them in all, chunks of up to 2048 tokens.
    """
    rows = []
    for device, name, tp, folder in TABLES:
        deployment = Deployment(
            gpu(device),
            model(name),
            tp=tp,
            max_num_seqs=256,
            max_num_batched_tokens=4096,
            engine="vllm-0.19",
        )
        tables = data / "perf/llmservingsim/perf" / folder / f"bf16/tp{tp}"
        batches = _batches(tables)
        error = 100 * (
            _predicted_s(deployment, batches) / _summed_s(deployment, tables, batches) - 1
        )
        kind = np.where(
            batches.prefill_chunk == 0,
            "decode",
            np.where(batches.n_decode == 0, "prefill", "mixed"),
        )
        for group in ("decode", "mixed", "prefill"):
            part = error[kind == group]
            rows.append(
                {
                    "gpu": device,
                    "model": name,
                    "tp": tp,
                    "batch": group,
                    "points": len(part),
                    "median": np.median(np.abs(part)),
                    "p90": np.quantile(np.abs(part), 0.9),
                    "bias": part.mean(),
                }
            )
    return pd.DataFrame(rows)


def _batches(tables: Path) -> pd.DataFrame:
    table = pd.read_csv(tables / "attention.csv.gz")
    prompts = (table.prefill_chunk + table.n_decode <= 2048) & (table.kv_prefill <= 2048)
    decodes = (table.n_decode >= 16) & table.kv_decode.between(256, 4096)
    decodes &= table.n_decode * table.kv_decode <= 300_000
    return table[prompts & (decodes | (table.n_decode == 0))]


def _summed_s(d: Deployment, tables: Path, batches: pd.DataFrame) -> np.ndarray:
    """Return the measured seconds of each batch's step."""
    dense = pd.read_csv(tables / "dense.csv.gz")
    dense = dense.pivot(index="tokens", columns="layer", values="time_us")
    layer_us = dense.drop(columns=ONCE).sum(axis=1) + dense.layernorm  # two norms in a layer
    once_us = dense[ONCE].sum(axis=1)
    ends_us = pd.read_csv(tables / "per_sequence.csv.gz").groupby("sequences").time_us.sum()
    tokens = batches.prefill_chunk + batches.n_decode
    samples = batches.n_decode + (batches.prefill_chunk > 0)
    layer = np.interp(tokens, layer_us.index, layer_us) + batches.time_us
    if d.model.experts:
        layer = layer + np.interp(tokens, *_experts_us(d, tables))
    once = np.interp(tokens, once_us.index, once_us) + np.interp(samples, ends_us.index, ends_us)
    return 1e-6 * (d.model.layers * layer + once).to_numpy()


def _experts_us(d: Deployment, tables: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and measured time of the experts that random routing activates."""
    table = pd.read_csv(tables / "moe.csv.gz")
    tokens, times = [], []
    for count, rows in table.groupby("tokens"):
        share = 1 - d.model.active_experts / d.model.experts
        hit = d.model.experts * (1 - share**count)
        tokens.append(count)
        times.append(np.interp(hit, rows.activated_experts, rows.time_us))
    return np.array(tokens), np.array(times)


def _predicted_s(d: Deployment, batches: pd.DataFrame) -> np.ndarray:
    """Return the cost table's seconds without host and all-reduce."""
    table, layers = tabulate(d), d.model.layers
    seconds = []
    for row in batches.itertuples():
        chunks = [(row.prefill_chunk, row.kv_prefill)] if row.prefill_chunk else []
        step = step_s(table, row.n_decode, row.n_decode * row.kv_decode, chunks)
        tokens = row.n_decode + row.prefill_chunk
        other = host_s(d) + layers * 2 * all_reduce_s(
            2 * tokens * d.model.hidden, d.tp, d.gpu, links=d.links
        )
        seconds.append(step - other - bool(chunks) * layers * launch_s(d))
    return np.array(seconds, float)
