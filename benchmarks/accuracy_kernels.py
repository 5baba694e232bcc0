"""Kernels timed alone, against the formulas of ``gpuyard.envs.perf``.

Each function returns one row per group: the group, how many points, median and 90th percentile of
|predicted/measured - 1| in % and the median ratio.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gpuyard.envs.hardware.catalogue import GPU, gpu, model
from gpuyard.envs.perf import Deployment
from gpuyard.envs.perf.serving import iteration as step
from gpuyard.envs.perf.serving.attention import decode_gqa, decode_mla, prefill_gqa, prefill_mla
from gpuyard.envs.perf.serving.collectives import all_reduce_s, has_nvlink
from gpuyard.envs.perf.serving.cost_table import COST
from gpuyard.envs.perf.serving.gemm import kernel_s
from gpuyard.envs.perf.serving.host import host_s
from gpuyard.envs.perf.serving.tokenwise import linear_s

GPUS = {
    "a100_sxm": "A100-80",
    "l40s": "L40S",
    "h100_sxm": "H100-SXM",
    "h200_sxm": "H200-SXM",
    "b200_sxm": "B200-SXM",
    "gb200": "GB200-NVL72",
    "rtx_pro_6000_server": "RTX-PRO-6000",
}
HOST_ROWS = Path(__file__).with_name("host_all_reduce.csv")
DTYPES = {"bfloat16": "bf16", "fp8": "fp8", "nvfp4": "nvfp4", "int4_wo": "int4"}
L2_BYTES = {"a100_sxm": 40e6, "h100_sxm": 50e6, "h200_sxm": 50e6, "l40s": 96e6}  # others 126 MB


def scores(group: str, predicted: np.ndarray, measured: np.ndarray) -> dict[str, object]:
    """Return the row of one group."""
    ratio = np.asarray(predicted) / np.asarray(measured)
    error = 100 * np.abs(ratio - 1)
    return {
        "group": group,
        "points": len(ratio),
        "median": float(np.median(error)),
        "p90": float(np.quantile(error, 0.9)),
        "ratio": float(np.median(ratio)),
    }


def gemm(data: Path) -> pd.DataFrame:
    """Matrix multiplications with n, k >= 1024 and m <= 16384, on the stack that was fitted."""
    table = pd.read_csv(data / "perf/inference/gemm.csv.gz")
    table = table[(table.n >= 1024) & (table.k >= 1024) & (table.m <= 16384)]
    rows = []
    for (name, dtype), stack in {
        ("a100_sxm", "bfloat16"): "vllm",
        ("a100_sxm", "int4_wo"): "trtllm",
        ("l40s", "bfloat16"): "vllm",
        ("l40s", "fp8"): "vllm",
        ("h100_sxm", "bfloat16"): "vllm",
        ("h100_sxm", "fp8"): "trtllm",
        ("h200_sxm", "bfloat16"): "vllm",
        ("h200_sxm", "fp8"): "trtllm",
        ("b200_sxm", "bfloat16"): "vllm",
        ("b200_sxm", "fp8"): "trtllm",
        ("b200_sxm", "nvfp4"): "vllm",
        ("gb200", "bfloat16"): "vllm",
        ("gb200", "fp8"): "trtllm",
        ("gb200", "nvfp4"): "vllm",
    }.items():
        part = table[(table.gpu == name) & (table.dtype == dtype) & (table.backend == stack)]
        device = gpu(GPUS[name])
        shapes = [s for _, s in part.groupby(["n", "k"])]
        predicted = [
            kernel_s(s.m.to_numpy(), int(s.n.iloc[0]), int(s.k.iloc[0]), device, DTYPES[dtype])
            for s in shapes
        ]
        measured = pd.concat(shapes).ms.to_numpy() * 1e-3
        group = f"{device.name} {DTYPES[dtype]} {stack}"
        rows.append(scores(group, np.concatenate(predicted), measured))
    return pd.DataFrame(rows)


def prefill(data: Path) -> pd.DataFrame:
    """Causal attention, bf16, 8 heads and more, up to 8 prompts of at least 128 tokens."""
    table = pd.read_csv(data / "perf/inference/attn_prefill.csv.gz")
    table = table[
        (table.attn_dtype == "bfloat16")
        & (table.kv_cache_dtype == "bfloat16")
        & (table.num_heads >= 8)
        & (table.batch_size <= 8)
        & (table.isl >= 128)
    ]
    rows = []
    for name in list(GPUS)[:6]:
        stack = "trtllm" if name == "gb200" else "vllm"
        part = table[(table.gpu == name) & (table.backend == stack)]
        predicted = np.array([_prefill_s(gpu(GPUS[name]), r) for r in part.itertuples()])
        measured = part.ms.to_numpy() * 1e-3
        long = (part.isl >= 1024).to_numpy()
        rows.append(scores(f"{GPUS[name]} {stack}", predicted, measured))
        group = f"{GPUS[name]} {stack}, 1024 tokens and more"
        rows.append(scores(group, predicted[long], measured[long]))
    return pd.DataFrame(rows)


def _prefill_s(device: GPU, row) -> float:
    """Return seconds of a batch of equal prompts: work adds up, tiles run side by side."""
    c = prefill_gqa(device, row.num_heads, row.num_key_value_heads, row.head_dim, "bf16")
    n, q = row.batch_size, row.isl
    flop = n * c["pre_flop_s"] * q * (q + c["pre_pad"]) / 2
    tile = c["pre_tile_s"] * (q + c["pre_pad"])
    memory = n * (c["pre_query_s"] + c["pre_cache_s"]) * q
    return c["pre_fixed_s"] + float(np.cbrt(flop**3 + tile**3 + memory**3))


def decode(data: Path) -> pd.DataFrame:
    """Paged decode attention of vLLM, contexts of 128 tokens and more.

    The benchmark re-reads one cache, so shapes between an eighth of and twice the L2 are left out.
    """
    table = pd.read_csv(data / "perf/inference/attn_decode.csv.gz")
    table = table[(table.ctx >= 128) & (table.backend == "vllm")]
    rows = []
    for (name, kv_dtype), part in table.groupby(["gpu", "kv_cache_dtype"]):
        device, dtype = gpu(GPUS[name]), DTYPES[kv_dtype]
        predicted = np.array(
            [
                step.decode_s(
                    _record(
                        decode_gqa(device, r.num_heads, r.num_key_value_heads, r.head_dim, dtype)
                    ),
                    r.batch_size,
                    r.batch_size * r.ctx,
                )
                for r in part.itertuples()
            ]
        )
        size = 2 if dtype == "bf16" else 1
        heads = part.num_key_value_heads * part.head_dim
        cache = (2 * part.batch_size * part.ctx * heads * size).to_numpy()
        limit = L2_BYTES.get(name, 126e6)
        measured = part.ms.to_numpy() * 1e-3
        for label, keep in (
            ("", (cache < limit / 8) | (cache > 2 * limit)),
            (", beyond twice L2", cache > 2 * limit),
        ):
            rows.append(scores(f"{device.name} {dtype}{label}", predicted[keep], measured[keep]))
    return pd.DataFrame(rows)


def mla(data: Path) -> pd.DataFrame:
    """Multi-head latent attention of TensorRT-LLM, 128 tokens and more."""
    table = pd.read_csv(data / "perf/inference/mla.csv.gz")
    table = table[(table.backend == "trtllm") & (table.len >= 128)]
    rows = []
    for name in ("h100_sxm", "h200_sxm", "b200_sxm", "gb200"):
        device = gpu(GPUS[name])
        for phase, kv_dtype in (("decode", "bfloat16"), ("decode", "fp8"), ("prefill", "bfloat16")):
            part = table[
                (table.gpu == name) & (table.phase == phase) & (table.kv_cache_dtype == kv_dtype)
            ]
            if phase == "decode":
                predicted = [
                    step.decode_s(
                        _record(decode_mla(device, r.num_heads, DTYPES[kv_dtype])),
                        r.batch_size,
                        r.batch_size * r.len,
                    )
                    for r in part.itertuples()
                ]
            else:
                predicted = [_mla_prefill_s(device, r) for r in part.itertuples()]
            group = f"{device.name} {phase} {DTYPES[kv_dtype]}"
            rows.append(scores(group, np.array(predicted), part.ms.to_numpy() * 1e-3))
    return pd.DataFrame(rows)


def _mla_prefill_s(device: GPU, row) -> float:
    c = prefill_mla(device, row.num_heads)
    flop = c["pre_flop_s"] * row.len * (row.len + c["pre_pad"]) / 2
    memory = c["pre_query_s"] * row.len
    return c["pre_fixed_s"] + row.batch_size * float(np.cbrt(flop**3 + memory**3))


def collectives(data: Path) -> pd.DataFrame:
    """All-reduce inside a node, 0.5 KB to 512 MB, as the fitted stack launches it.

    Last the public rows of GPUs that talk through the host (``host_all_reduce.csv``).
    """
    table = pd.read_csv(data / "perf/inference/collectives_intranode.csv.gz")
    table = table[table.op == "all_reduce"]
    rows = []
    for name, library, version in (
        ("a100_sxm", "vLLM_custom_graph", "0.14.0"),
        ("h100_sxm", "vLLM_custom_graph", "0.24.0"),
        ("h200_sxm", "vLLM_custom_graph", "0.24.0"),
        ("b200_sxm", "TRTLLM", "1.3.0rc20"),
        ("gb200", "TRTLLM", "1.3.0rc20"),
        ("rtx_pro_6000_server", "nccl", "2.29.2"),
    ):
        part = table[(table.gpu == name) & (table.lib == library) & (table.lib_version == version)]
        for ranks, sizes in part.groupby("num_gpus"):
            device = gpu(GPUS[name])
            links = "nvlink" if has_nvlink(device) else "pcie"  # timed with peer-to-peer
            size = sizes.bytes.to_numpy()
            predicted = all_reduce_s(size, ranks, device, fused=False, links=links)
            group = f"{GPUS[name]} {library} n={ranks}"
            rows.append(scores(group, predicted, sizes.ms.to_numpy() * 1e-3))
    for (name, ranks), sizes in pd.read_csv(HOST_ROWS).groupby(["gpu", "ranks"]):
        size = sizes.bytes.to_numpy()
        predicted = all_reduce_s(size, ranks, gpu(name), fused=False, links="host")
        rows.append(scores(f"{name} through the host n={ranks}", predicted, sizes.us * 1e-6))
    return pd.DataFrame(rows)


def linear_layers(data: Path) -> pd.DataFrame:
    """Vidur: the four linear ops of a Llama layer, 2024 kernels, not used in any fit."""
    table = pd.read_csv(data / "perf/inference/vidur_layer_ops.csv.gz")
    names = {"llama2-7b": "Llama-2-7B", "llama2-70b": "Llama-2-70B", "llama3-8b": "Llama-3-8B"}
    rows = []
    for name, device in (("a40", "A40"), ("a100", "A100-80"), ("h100", "H100-SXM")):
        part = table[(table.gpu == name) & table.model.isin(names)]
        predicted, measured = [], []
        for (shape, tp), ops in part.groupby(["model", "tp"]):
            m, tokens = model(names[shape]), ops.num_tokens.to_numpy()
            heads, kv, ffn = m.heads // tp, max(1, m.kv_heads // tp), m.ffn // tp
            shapes = [
                ((heads + 2 * kv) * m.head_dim, m.hidden),
                (m.hidden, heads * m.head_dim),
                (2 * ffn, m.hidden),
                (m.hidden, ffn),
            ]
            predicted.append(sum(kernel_s(tokens, n, k, gpu(device), "fp16") for n, k in shapes))
            measured.append((ops.qkv_ms + ops.o_ms + ops.up_ms + ops.down_ms).to_numpy() * 1e-3)
        rows.append(scores(device, np.concatenate(predicted), np.concatenate(measured)))
    return pd.DataFrame(rows)


def whole_layers(data: Path) -> pd.DataFrame:
    """Helix: one layer of Llama-1-30B and Llama-2-70B; prompts of 763 tokens, context 880.

    Rounded to 0.1 or 1 ms in the source. The GEMM efficiencies of these GPUs were adjusted to it.
    """
    folder = data / "perf/helix"
    rows = []
    for device, short in (("V100-16", "v100"), ("T4", "t4"), ("L4", "l4"), ("A100-40", "a100")):
        for phase, file in (("prefill", "prompt"), ("decode", "decode")):
            predicted, measured = [], []
            for name, source in (("Llama-1-30B", "llama1_30b"), ("Llama-2-70B", "llama2_70b")):
                d = Deployment(gpu(device), model(name), dtype="fp16")
                path = folder / source / short / f"{file}_bs2time.csv"
                points = pd.read_csv(path, header=None, names=["size", "ms"])
                points = points[points["size"] >= (250 if phase == "prefill" else 2)]
                for size, ms in points.itertuples(index=False):
                    predicted.append(_layer_s(d, phase, size))
                    measured.append(ms * 1e-3)
            rows.append(scores(f"{device} {phase}", np.array(predicted), np.array(measured)))
    return pd.DataFrame(rows)


def _layer_s(d: Deployment, phase: str, size: int) -> float:
    c = step.coefficients(d)
    if phase == "prefill":
        attention = step.prefill_s(c, [(763, 0)] * max(1, round(size / 763)))
    else:
        attention = float(step.decode_s(c, size, 880 * size))
    return (float(linear_s(d, size)) - host_s(d) + attention) / d.model.layers


def _record(values: dict[str, float]) -> np.void:
    record = np.zeros(1, COST)[0]
    for name, value in values.items():
        record[name] = value
    return record
