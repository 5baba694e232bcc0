"""Layouts over several GPUs, latent attention, and Kimi-K2: published effects and ours."""

from __future__ import annotations

import math
import statistics
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import accuracy_wide_ep  # noqa: E402
from technique_row import Row, near, unvalidated  # noqa: E402

from gpuyard.envs.hardware.catalogue import gpu, model  # noqa: E402
from gpuyard.envs.perf import Deployment, capability, kv_tokens, tabulate  # noqa: E402
from gpuyard.envs.perf.serving.iteration import step_s  # noqa: E402

STAGES, TENSOR, EXPERTS, LATENT, KIMI = (
    "Pipeline stages",
    "Tensor and data-parallel layouts",
    "Experts over many ranks",
    "Latent attention (MLA)",
    "Kimi-K2",
)
MODELS = {
    STAGES: """
`pp` of a replica: stages of as many layers, a micro-batch in each, and what they hand on over links
or NICs (`across_nodes.py`). `pipeline_bubble` is what each stage after the first adds to a round,
as micro-batches are never alike: 0.14 by TensorRT-LLM's rows of ten pairs of lengths, of which
three stand here; without it stages are ideal.""",
    TENSOR: """
`tp`, `dp` and `ep` of a replica: matrix multiplications in parts, all-reduces over the links of the
GPU (`collectives.py`), heads and KV heads divided, or copied beyond their number; with `dp`
sequences and caches are divided and tokens meet in the experts.""",
    EXPERTS: """
`ep` with `all_to_all = "deepep"`, `redundant_experts`, `expert_imbalance` and `two_batch_overlap`
(`expert_parallel.py`); more rows in [accuracy_replicas.md](accuracy_replicas.md).""",
    LATENT: """
Models with a `kv_lora_rank` cache one latent vector a token and layer, on every rank alike;
attention decodes over it with all query heads (`decode_mla` and `prefill_mla` in
`attention.py`).""",
    KIMI: """
The model `Kimi-K2` (also Kimi-K2.5), int4 experts, on eight GPUs (`tp = 8, dtype = "int4"`): one
user's tokens/s among so many, a decode step and the prompts of the others between two tokens
(the closed form of a closed loop, InferenceX's random lengths of 0.9 of 8,192/1,024).""",
}
OVERVIEW = "TensorRT-LLM 1.0 overview"
BLOG = "LMSYS, large-scale EP"


def full_rate(deployment: Deployment, prompt: int, output: int) -> float:
    """Return output tokens/s while as many requests run as fit.

    Each step decodes them and computes the prompts that take the place of those that end:
    ``prompt / output`` tokens for each token of output, on all ranks and stages alike.
    """
    d = deployment
    batch = capability(d).max_batch(prompt, output)
    chunks = min(d.shards, batch)
    share = [(round(batch * prompt / output / chunks), prompt // 2)] * chunks
    context = round(batch * (prompt + output / 2))
    return batch / step_s(tabulate(d), batch, context, share, sampling=batch)


def stages() -> list[Row]:
    """Return rows of pipeline stages: rate over that of one GPU."""
    one = Deployment(
        gpu("RTX-PRO-6000"), model("Llama-3.3-70B"), dtype="nvfp4", kv_dtype="fp8", engine="trtllm"
    )
    published = {
        (1000, 1000): {1: 1787, 2: 3707, 4: 5961, 8: 8166},
        (500, 2000): {1: 1856, 2: 4114, 4: 6939, 8: 9435},
        (5000, 500): {1: 401, 2: 812, 4: 1511, 8: 2491},
    }
    found = []
    for (prompt, output), rates in published.items():
        base = full_rate(one, prompt, output)
        for pp in (2, 4, 8):
            piped = replace(
                one, pp=pp, pipeline_bubble=0.14, max_num_seqs=0, max_num_batched_tokens=0
            )
            what = f"Llama-3.3-70B nvfp4, RTX PRO 6000, {prompt:,}/{output:,}: {pp} stages over one"
            ours = full_rate(piped, prompt, output) / base
            note = "long prompts fill the stages evenly" if prompt > 2 * output and pp > 2 else ""
            found.append(
                near(STAGES, what, OVERVIEW, rates[pp] / rates[1], 0.2, ours, note, gain=True)
            )
    return found


def tensor() -> list[Row]:
    """Return rows of tensor parallelism and attention data parallelism."""
    one = Deployment(
        gpu("RTX-PRO-6000"),
        model("Qwen3-30B-A3B"),
        dtype="nvfp4",
        kv_dtype="fp8",
        engine="trtllm",
        links="pcie",
    )
    base = full_rate(one, 1000, 1000)
    note = (
        "its TP8 has the rate of DEP8 in version 1.2 (31,880): taken as DEP, GPU to GPU over PCIe"
    )
    found = []
    for ranks, rate in ((2, 16_431), (4, 24_046), (8, 31_785)):
        spread = replace(one, dp=ranks, ep=ranks, max_num_seqs=0, max_num_batched_tokens=0)
        what = f"Qwen3-30B-A3B nvfp4, RTX PRO 6000, 1,000/1,000: {ranks} GPUs over one"
        ours = full_rate(spread, 1000, 1000) / base
        found.append(near(TENSOR, what, OVERVIEW, rate / 9910, 0.2, ours, note, gain=True))
    llama = Deployment(
        gpu("H200-SXM"), model("Llama-3.3-70B"), dtype="fp8", kv_dtype="fp8", engine="trtllm"
    )
    two = replace(llama, tp=2)
    ours = full_rate(two, 1000, 1000) / 2 / full_rate(llama, 1000, 1000)
    what = "Llama-3.3-70B fp8, H200, 1,000/1,000: a GPU of TP2 over TP1"
    found.append(near(TENSOR, what, "TensorRT-LLM overviews", 0.889, 0.2, ours, gain=True))
    coder = Deployment(
        gpu("H100-SXM"),
        model("DeepSeek-V2"),
        tp=8,
        dtype="fp8",
        engine="sglang",
        max_num_seqs=10_000,
    )
    apart = replace(coder, tp=1, dp=8, ep=8)
    ours = full_rate(apart, 1, 512) / full_rate(coder, 1, 512)
    what = "DeepSeek-Coder-V2 fp8, 8 H100, 1/512: DP attention over TP8"
    note = "as many as memory holds run here, 8 times as many with DP; the real limit is not stated"
    found.append(near(TENSOR, what, "LMSYS, SGLang 0.4", 1.9, 0.2, ours, note, gain=True))
    return found


def experts() -> list[Row]:
    """Return rows of DeepSeek-V3 with experts over many ranks, as in ``accuracy_wide_ep.py``."""
    table = accuracy_wide_ep.rows()
    ours = {(r.row, r.quantity, r.length): r.ours for r in table.itertuples()}

    def ratio(on: str, off: str, quantity: str, length: int, off_length: int = 0) -> float:
        return ours[on, quantity, length] / ours[off, quantity, off_length or length]

    d = Deployment(
        gpu("H100-SXM"),
        model("DeepSeek-V3"),
        dp=32,
        ep=32,
        dtype="fp8",
        engine="sglang",
        all_to_all="deepep",
        expert_imbalance=accuracy_wide_ep.IMBALANCE,
    )
    overlapped = replace(d, two_batch_overlap=True)
    step = accuracy_wide_ep.prefill_step_s
    prompts = step(d, 8192, 4096) / step(overlapped, 8192, 4096)
    return [
        near(
            EXPERTS,
            "balanced over EPLB's, 32 H100, prompts of 4,096: rate",
            BLOG,
            1.18,
            0.05,
            ratio("SGLang EP32, perfect EPLB", "SGLang EP32", "prefill", 4096),
            "sets the imbalance",
            gain=True,
        ),
        near(
            EXPERTS,
            "two-batch overlap, 72 H100, decode: rate",
            BLOG,
            22_282 / 17_777,
            0.2,
            ratio("SGLang EP72", "SGLang EP72, no overlap", "decode", 2000),
            gain=True,
        ),
        near(
            EXPERTS,
            "two-batch overlap, 72 H100, decode with drafts: rate",
            BLOG,
            17_373 / 12_929,
            0.2,
            ratio("SGLang EP72, MTP simulated", "SGLang EP72, MTP, no overlap", "decode", 4000),
            gain=True,
        ),
        Row(
            EXPERTS,
            "two-batch overlap, 32 H100, prompts of 4,096: rate",
            BLOG,
            1.27,
            1.35,
            prompts,
            "exchange and matrix multiplications overlap wholly here",
        ),
        near(
            EXPERTS,
            "EP72 over six TP16, decode: rate of a node",
            BLOG,
            5.2,
            0.2,
            ratio("SGLang EP72", "SGLang TP16, DP attention", "decode", 2000),
            "the TP16 row is guessed from the ratio; that engine's grouped GEMMs were slow",
            gain=True,
        ),
    ]


def latent() -> list[Row]:
    """Return rows of latent attention against grouped queries and whole heads."""
    v2, v3, dense = model("DeepSeek-V2"), model("DeepSeek-V3"), model("DeepSeek-67B")
    report = "DeepSeek-V2, arXiv 2405.04434"
    groups = v3.kv_bytes_per_token() / v3.layers / (2 * v3.head_dim * 2)
    saved = 1 - v2.kv_bytes_per_token() * 6 / 16 / dense.kv_bytes_per_token()
    whole = replace(v3, kv_lora_rank=0, q_lora_rank=0, rope_dim=0)
    mla = Deployment(gpu("H200-SXM"), v3, tp=8, dtype="fp8")
    mha = replace(mla, model=whole)
    tokens = kv_tokens(mla) / kv_tokens(mha)
    rate = full_rate(mla, 2000, 500) / full_rate(mha, 2000, 500)
    latent_v2 = Deployment(
        gpu("H800-SXM"), v2, dp=8, ep=8, dtype="fp8", kv_dtype="fp8", engine="sglang"
    )
    grouped = Deployment(gpu("H800-SXM"), dense, tp=8, engine="sglang")
    return [
        near(LATENT, "cache of a layer in groups of grouped queries", report, 2.25, 0, groups),
        near(
            LATENT,
            "DeepSeek-V2, cache in 6 bits, over DeepSeek-67B: share saved",
            report,
            0.933,
            0.001,
            saved,
        ),
        near(
            LATENT,
            "DeepSeek-V2 over DeepSeek-67B, 8 H800, 1,000/1,000: highest rate",
            report,
            5.76,
            0.5,
            full_rate(latent_v2, 1000, 1000) / full_rate(grouped, 1000, 1000),
            "lengths and layout not stated: DP8 fp8 against TP8; experts and FP8 gain, too",
            gain=True,
        ),
        unvalidated(
            LATENT,
            "DeepSeek-V3 over itself with 128 whole heads, 8 H200 fp8: KV tokens",
            tokens,
            f"highest rate at 2,000/500: {rate:.1f} times",
        ),
    ]


def user_rate(deployment: Deployment, clients: int, prompt: float, output: float) -> float:
    """Return tokens/s of one of so many users who ask again when they are answered.

    Between two of its tokens lies a decode step, and in ``(clients - 1) / output`` of them a prompt
    of another user, in chunks of the token budget (perf_models 3.8).
    """
    table, context = tabulate(deployment), prompt + output / 2
    chunk = int(min(prompt, deployment.max_num_batched_tokens - clients))
    others = clients - 1
    decode_s = step_s(table, clients, round(clients * context))
    mixed_s = step_s(table, others, round(others * context), [(chunk, 0)])
    return 1 / (decode_s + others / output * prompt / chunk * (mixed_s - decode_s))


def kimi() -> list[Row]:
    """Return rows of Kimi-K2 in int4 on eight GPUs."""
    published = {
        "H200-SXM": (91.2, 70.3, 46.6, 28.9, 16.7),
        "B200-SXM": (104.4, 81.1, 59.2, 40.5, 26.0),
        "B300-SXM": (111.1, 84.4, 60.6, 42.0, 26.8),
        "MI355X": (41.7, 34.7, 21.9, 16.3, 10.7),
        "MI300X": (43.8, 31.7, 22.7, 12.9, 8.6),
    }
    notes = {
        "B300-SXM": "its kernels by analogy with the B200",
        "MI355X": "no int4 kernel of AMD was measured: the H200's, scaled as mxfp4 on MI300X",
        "MI300X": "no int4 kernel of AMD was measured: the H200's, scaled as mxfp4 on MI300X",
    }
    found = []
    for device, rates in published.items():
        d = Deployment(gpu(device), model("Kimi-K2"), tp=8, dtype="int4", engine="vllm-0.15")
        for clients, rate in zip((4, 8, 16, 32, 64), rates, strict=True):
            if device.startswith("MI") and clients != 16:
                continue
            ours = user_rate(d, clients, 0.9 * 8192, 0.9 * 1024)
            what = f"8 {device.split('-')[0]}, {clients} users: tokens/s each"
            note = notes.get(device, "")
            found.append(near(KIMI, what, "secondary, of InferenceX", rate, 0.15, ours, note))
    errors = [abs(row.error) for row in found if row.target.startswith(("8 H200", "8 B200"))]
    what = f"median of the {len(errors)} errors of 8 H200 and 8 B200, either way"
    middle = statistics.median(errors)
    return [*found, Row(KIMI, what, "issue 11", math.nan, 0.15, middle)]


def rows() -> list[Row]:
    """Return all rows of this module."""
    return stages() + tensor() + experts() + latent() + kimi()
