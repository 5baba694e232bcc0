"""Number formats of weights, activations and KV cache, off against on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from technique_row import Row, near, unvalidated  # noqa: E402

from gpuyard.envs.hardware.catalogue import gpu, model  # noqa: E402
from gpuyard.envs.perf import Deployment, capability, kv_tokens, tabulate  # noqa: E402
from gpuyard.envs.perf.serving.gemm import gemm_s, kernel_s  # noqa: E402
from gpuyard.envs.perf.serving.iteration import decode_s, step_s  # noqa: E402
from gpuyard.envs.perf.serving.kv_capacity import rank_weight_bytes  # noqa: E402

WEIGHTS, KV = "Quantised weights", "Quantised KV cache"
MODELS = {
    WEIGHTS: """
`dtype` of a replica: bf16, fp16, fp8, int8, nvfp4 (weights and activations), int4, mxfp4 (weights
only, in models with experts the experts only). Bytes count with their scales
(`hardware/dtypes.py`) and decide memory, so KV capacity, and the time to read; the arithmetic runs
at the format's peak, weight-only formats at that of 16 bits. Efficiencies are fitted to kernel
tables of each GPU and format (`gemm.py`, `moe.py`, `constants.toml`); int8 has none and takes
fp8's, int4 of vLLM on Ampere is Marlin.""",
    KV: """
`kv_dtype` of a replica: bf16, fp16 or fp8. It halves the bytes of a token, so twice as many fit and
decode attention reads half, at the efficiency of the fp8 kernel; each layer quantises its queries,
so short contexts lose a little. Calibrated on an H100 by the first two slopes below.""",
}
MODELOPT = "modelopt 0.15, TensorRT-LLM 0.11"


def marlin() -> list[Row]:
    """Return rows of int4 weights against 16 bits, one large matrix multiplication."""
    device = gpu("A100-80")
    published = {1: 3.12, 16: 3.19, 32: 2.28, 64: 1.47, 128: 1.01, 4000: 0.61}
    found = []
    for tokens, ratio in published.items():
        plain, few = (
            float(kernel_s(tokens, 32_768, 16_384, device, dtype, stack="vllm"))
            for dtype in ("bf16", "int4")
        )
        what = f"int4 weights (Marlin) on A100, GEMM of {tokens:,} tokens: speed"
        source = "vLLM pull request 2497"
        found.append(near(WEIGHTS, what, source, ratio, 0.15, plain / few))
    return found


def blackwell() -> list[Row]:
    """Return rows of fp8 against bf16 on a B200, one matrix multiplication."""
    device = gpu("B200-SXM")
    published = {1: 1.51, 16: 1.73, 64: 1.68, 256: 1.54}
    found = []
    for tokens, ratio in published.items():
        plain, few = (
            float(gemm_s(tokens, 28_672, 4_096, device, dtype)) for dtype in ("bf16", "fp8")
        )
        what = f"fp8 on B200, GEMM of {tokens} tokens: speed"
        note = "as inside an engine, activations quantised by a kernel of its own"
        found.append(near(WEIGHTS, what, "vLLM pull request 20071", ratio, 0.25, plain / few, note))
    return found


def static_rate(deployment: Deployment, batch: int, prompt: int, output: int) -> float:
    """Return output tokens/s of a GPU for a batch that starts and ends together."""
    table, budget = tabulate(deployment), deployment.max_num_batched_tokens
    at_once = max(1, min(batch, budget // prompt))
    prefill_s = batch / at_once * step_s(table, 0, 0, [(prompt, 0)] * at_once)
    decoding_s = output * step_s(table, batch, round(batch * (prompt + output / 2)))
    return batch * output / (prefill_s + decoding_s) / deployment.gpus


def whole_models() -> list[Row]:
    """Return rows of whole models on H100 under TensorRT-LLM, static batches."""
    h100, small, large = gpu("H100-SXM"), model("Llama-3-8B"), model("Llama-3-70B")
    plain = Deployment(h100, small, engine="trtllm", max_num_batched_tokens=16_384)
    fp8 = replace(plain, dtype="fp8", kv_dtype="fp8")
    plain_70 = replace(plain, model=large, tp=4)
    fp8_70 = replace(plain_70, tp=2, dtype="fp8", kv_dtype="fp8")
    lengths = "lengths not stated: 2,048/512, whose fp16 rate at batch 1 is the published one"
    layouts = "per GPU: 16 bits on four, fp8 on two, which is what holds 64"
    found = []
    for on, off, name, published, note in (
        (fp8, plain, "Llama-3-8B", (1.26, 1.49, 1.34), lengths),
        (fp8_70, plain_70, "Llama-3-70B", (1.87, 1.82, 1.91), layouts),
    ):
        for batch, ratio in zip((1, 32, 64), published, strict=True):
            ours = static_rate(on, batch, 2048, 512) / static_rate(off, batch, 2048, 512)
            what = f"fp8 {name} on H100, batch {batch}: rate"
            found.append(near(WEIGHTS, what, MODELOPT, ratio, 0.15, ours, note, gain=True))
    awq = replace(plain, dtype="int4")
    for batch, low, high in ((1, 1.53, 1.61), (32, 1.11, 1.43), (64, 1.37, 1.39)):
        ours = static_rate(awq, batch, 2048, 512) / static_rate(plain, batch, 2048, 512)
        what = f"int4 (AWQ) Llama-3-8B on H100, batch {batch}: rate"
        two = "two versions of one table, 15 % around both"
        if batch == 64:
            two += "; both rise again at 64, which no kernel data show"
        source = "modelopt 0.11 and 0.15"
        found.append(Row(WEIGHTS, what, source, 0.85 * low, 1.15 * high, ours, two))
    old = Deployment(h100, model("Llama-2-7B"), engine="trtllm", max_num_batched_tokens=8192)
    for dtype, batch, ratio in (
        ("fp8", 1, 1.51),
        ("fp8", 8, 1.40),
        ("int8", 1, 1.47),
        ("int8", 8, 1.32),
    ):
        ours = static_rate(replace(old, dtype=dtype), batch, 1024, 128)
        ours /= static_rate(old, batch, 1024, 128)
        what = f"{dtype} Llama-2-7B on H100, batch {batch}, 1,024/128: rate"
        found.append(near(WEIGHTS, what, "TensorRT-LLM 0.5", ratio, 0.25, ours, gain=True))
    return found


def blackwell_over_hopper() -> list[Row]:
    """Return rows of fp4 on a B200 over fp8 on an H200: format and GPU together."""
    one, other = gpu("B200-SXM"), gpu("H200-SXM")
    llama, r1, oss = model("Llama-3.3-70B"), model("DeepSeek-R1"), model("gpt-oss-120b")
    trt = {"engine": "trtllm"}
    pairs = (
        (
            "nvfp4 Llama-3.3-70B, TP1 on B200, over fp8, TP2 on H200, 1,000/1,000",
            Deployment(one, llama, dtype="nvfp4", kv_dtype="fp8", **trt),
            Deployment(other, llama, tp=2, dtype="fp8", kv_dtype="fp8", **trt),
            2.67,
        ),
        (
            "nvfp4 DeepSeek-R1, DEP4 on B200, over fp8, DEP8 on H200, 1,024/1,024",
            Deployment(one, r1, dp=4, ep=4, dtype="nvfp4", kv_dtype="fp8", **trt),
            Deployment(other, r1, dp=8, ep=8, dtype="fp8", kv_dtype="fp8", **trt),
            3.97,
        ),
        (
            "mxfp4 gpt-oss-120b, DEP2 on B200, over TP1 on H200, 1,024/1,024",
            Deployment(one, oss, dp=2, ep=2, dtype="mxfp4", kv_dtype="fp8", **trt),
            Deployment(other, oss, dtype="mxfp4", kv_dtype="fp8", **trt),
            3.81,
        ),
    )
    found = []
    for what, on, off, ratio in pairs:
        ours, base = (capability(d).throughput(1000, 1000) / d.gpus for d in (on, off))
        note = "highest rate of each, estimated by `Capability.throughput`"
        source = "TensorRT-LLM 1.2 overview"
        found.append(
            near(WEIGHTS, f"{what}: rate a GPU", source, ratio, 0.25, ours / base, note, gain=True)
        )
    return found


def memory() -> list[Row]:
    """Return rows of what formats leave of memory; nothing was published against 16 bits."""
    plain = Deployment(gpu("B200-SXM"), model("Llama-3.3-70B"))
    found = []
    for dtype in ("fp8", "int8", "int4", "nvfp4", "mxfp4"):
        few = replace(plain, dtype=dtype)
        share = rank_weight_bytes(few) / rank_weight_bytes(plain)
        what = f"{dtype} Llama-3.3-70B on B200: bytes of the weights"
        more = kv_tokens(few) / kv_tokens(plain)
        step = step_s(tabulate(plain), 32, 64_000) / step_s(tabulate(few), 32, 64_000)
        note = f"{more:.1f} times the KV tokens; a decode step of 32 is {step:.2f} times as fast"
        found.append(unvalidated(WEIGHTS, what, share, note))
    return found


def slope(name: str, dtype: str, device: str, kv_dtype: str) -> float:
    """Return seconds that a cached token more adds to a decode step of one sequence."""
    d = Deployment(gpu(device), model(name), dtype=dtype, kv_dtype=kv_dtype, engine="vllm-0.19")
    c, few, many = tabulate(d).coefficients, 256, 125_000
    return float(decode_s(c, 1, many) - decode_s(c, 1, few)) / (many - few)


def kv_cache() -> list[Row]:
    """Return rows of FP8 caches: slope of ITL over context, where they begin to pay, bytes."""
    blog = "vLLM blog, 2026-04-22"
    found = []
    for name, dtype, device, ratio, note in (
        ("Llama-3.1-8B", "bf16", "H100-SXM", 0.542, "sets a factor"),
        ("gpt-oss-20b", "mxfp4", "H100-SXM", 0.799, "sets a factor"),
        ("Llama-3.1-8B", "bf16", "B200-SXM", 0.54, ""),
        ("gpt-oss-20b", "mxfp4", "B200-SXM", 0.579, "small heads are calibrated on the H100 alone"),
    ):
        ours = slope(name, dtype, device, "fp8") / slope(name, dtype, device, "bf16")
        what = f"fp8 cache, {name} on {device[:4]}: slope of ITL over context"
        found.append(near(KV, what, blog, ratio, 0.05, ours, note, gain=True))
    bf16, fp8 = (
        Deployment(gpu("H100-SXM"), model("Llama-3.1-8B"), kv_dtype=kv, engine="vllm-0.19")
        for kv in ("bf16", "fp8")
    )
    gain_s = slope("Llama-3.1-8B", "bf16", "H100-SXM", "bf16")
    gain_s -= slope("Llama-3.1-8B", "bf16", "H100-SXM", "fp8")
    lost_s = step_s(tabulate(fp8), 1, 256) - step_s(tabulate(bf16), 1, 256)
    break_even = 256 + lost_s / gain_s
    what = "fp8 cache, Llama-3.1-8B on H100: context from which it pays, tokens"
    found.append(near(KV, what, blog, 7010, 0.4, break_even))
    for name, kilobytes in (
        ("DeepSeek-V3", 70.272),
        ("Qwen2.5-72B", 327.68),
        ("Llama-3.1-405B", 516.096),
    ):
        ours = model(name).kv_bytes_per_token() / 1000
        found.append(
            near(
                KV, f"{name}: KB a token, 16 bits", "DeepSeek, arXiv 2505.09343", kilobytes, 0, ours
            )
        )
    return found


def rows() -> list[Row]:
    """Return all rows of this module."""
    weights = marlin() + blackwell() + whole_models() + blackwell_over_hopper() + memory()
    return weights + kv_cache()
