"""CUDA graphs, attention kernels and scheduling ahead, off against on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from technique_row import Row, near  # noqa: E402

from gpuyard.envs.hardware.catalogue import gpu, model  # noqa: E402
from gpuyard.envs.perf import Deployment, capability, kv_tokens, tabulate  # noqa: E402
from gpuyard.envs.perf.serving.iteration import prefill_s, step_s  # noqa: E402
from gpuyard.envs.perf.serving.kv_capacity import buffer_bytes  # noqa: E402

GRAPHS, FLASH, AHEAD = "CUDA graphs", "Attention kernel", "Scheduling ahead"
MODELS = {
    GRAPHS: """
`cuda_graphs` of a replica: how many batch sizes are captured (memory for each, `kv_capacity.py`;
time to start, `startup.py`), or 0 for none. A step then takes the longer of the GPU, whose
kernels stand further apart, and of the host that launches layer after layer (`launches_us` in
`host.py`, times in `constants.toml`, `[eager]`; `layer_launch_us` for a host of one's own). So
the gain is large where a step is short: small models, small batches, many GPUs. Padding to the
next captured size is not modelled.""",
    FLASH: """
`attention = "naive"`: a chunk's scores go to memory, in six passes of 16 bits over all `q (c +
q)` pairs of each head, the masked ones too, beside two matrix multiplications that do not overlap
with them (`naive` in `attention.py`); the scores of a full token budget take memory. `flash`, the
usual, is the measured kernel of each GPU. Models with a latent cache are refused.""",
    AHEAD: """
`scheduling = "async"` or `"sync"` of a replica, by default what its engine does. A synchronous
host adds to the GPU's time; one that plans a step while the one before runs hides behind it but
for a gap, and a request that arrives waits for one step more (`host.py`; lag in
[engine.md](engine.md)). So the gain grows with the host's share of a step. Host times were
calibrated on other runs.""",
}


def step_ms(deployment: Deployment, sequences: int, context: int) -> float:
    """Return ms of a decode step of ``sequences`` with ``context`` cached tokens each."""
    return 1e3 * step_s(tabulate(deployment), sequences, sequences * context)


def graphs() -> list[Row]:
    """Return rows of CUDA graphs: speed-ups of a decode step, their memory."""
    small = Deployment(gpu("A100-80"), model("Qwen3-0.6B"), engine="trtllm")
    eager = replace(small, cuda_graphs=0, layer_launch_us=140.0)
    source = "xLLM pull request 713"
    assumed = (
        "GPU not stated: A100; C++ host as TensorRT-LLM's, 140 us a layer set by the first row"
    )
    found = []
    for clients, off_ms, on_ms in ((1, 4.20, 2.72), (30, 9.85, 9.11)):
        off, on = (step_ms(d, clients, 3250) for d in (eager, small))
        load = f"Qwen3-0.6B, {clients} client{'s'[: clients > 1]}"
        for what, published, ours in (
            (f"{load}: TPOT without, ms", off_ms, off),
            (f"{load}: TPOT with, ms", on_ms, on),
            (f"{load}: without over with", off_ms / on_ms, off / on),
        ):
            found.append(near(GRAPHS, what, source, published, 0.25, ours, assumed))
    single = (
        (
            "DeepSeek-R1 on 8 B200",
            "B200-SXM",
            "DeepSeek-R1",
            8,
            "nvfp4",
            "trtllm",
            7.22,
            "TensorRT-LLM blog 2",
        ),
        (
            "Qwen2.5-7B on A800",
            "A100-80",
            "Qwen2.5-7B",
            1,
            "bf16",
            "vllm-0.15",
            22 / 13,
            "vllm-omni issue 7960",
        ),
        (
            "Qwen2.5-3B on H200",
            "H200-SXM",
            "Qwen2.5-3B",
            1,
            "bf16",
            "vllm-0.15",
            4.3,
            "vllm-omni issue 7960",
        ),
    )
    for name, device, kind, tp, dtype, stack, published, where in single:
        d = Deployment(
            gpu(device), model(kind), tp=tp, ep=2 if tp == 8 else 1, dtype=dtype, engine=stack
        )
        ours = step_ms(replace(d, cuda_graphs=0), 1, 2000) / step_ms(d, 1, 2000)
        found.append(
            near(GRAPHS, f"{name}, one client: without over with", where, published, 0.25, ours)
        )
    return found + graph_memory()


def graph_memory() -> list[Row]:
    """Return rows of the memory of CUDA graphs."""
    blog = "TensorRT-LLM blog 20"
    r1 = Deployment(
        gpu("GB200-NVL72"),
        model("DeepSeek-R1"),
        tp=4,
        dtype="nvfp4",
        engine="trtllm",
    )
    more, fewer = (buffer_bytes(replace(r1, cuda_graphs=n)) for n in (49, 23))
    few, many = (
        kv_tokens(replace(r1, model=model("DeepSeek-V3.2"), kv_dtype="fp8", cuda_graphs=n))
        for n in (49, 259)
    )
    return [
        near(
            GRAPHS,
            "DeepSeek-R1 on 4 GB200: MB a graph",
            blog,
            10.0,
            0.25,
            (more - fewer) / 26e6,
            "sets the constant",
        ),
        near(
            GRAPHS,
            "DeepSeek-V3.2 on 4 GB200: KV tokens with 259 graphs over those with 49",
            blog,
            0.828,
            0.25,
            many / few,
            "its graphs take 23 MB each, twice those of R1",
            gain=True,
        ),
    ]


def attention() -> list[Row]:
    """Return rows of naive attention over FlashAttention, prefill time of whole prompts."""
    medium = replace(
        model("GPT-2"), layers=24, dense_layers=24, hidden=1024, heads=16, kv_heads=16, ffn=4096
    )
    first = Deployment(gpu("A100-40"), medium, max_num_batched_tokens=8192)
    second = Deployment(gpu("A100-80"), model("Llama-2-7B"), max_num_batched_tokens=16384)
    both = "published forward and backward, here forward"
    return [
        near(
            FLASH,
            "GPT-2 medium, 1,024 tokens, A100: naive over flash",
            "FlashAttention, figure 2",
            41.7 / 7.3,
            0.5,
            _naive_ratio(first, 1024),
            both,
            gain=True,
        ),
        near(
            FLASH,
            "128 elements a head, causal, 2,048 tokens, A100: naive over flash",
            "FlashAttention-2, figure 5",
            165 / 29,
            0.5,
            _naive_ratio(second, 2048),
            both,
            gain=True,
        ),
        near(
            FLASH,
            "the same, 16,384 tokens",
            "FlashAttention-2, figure 5",
            189 / 34,
            0.5,
            _naive_ratio(second, 16384),
            both,
            gain=True,
        ),
    ]


def _naive_ratio(d: Deployment, tokens: int) -> float:
    naive, flash = (
        prefill_s(tabulate(replace(d, attention=kind)).coefficients, [(tokens, 0)] * 8)
        for kind in ("naive", "flash")
    )
    return naive / flash


def ahead() -> list[Row]:
    """Return rows of scheduling ahead: throughput with over without, in the order published."""
    r1 = Deployment(
        gpu("B200-SXM"), model("DeepSeek-R1"), tp=8, ep=2, dtype="nvfp4", engine="trtllm"
    )
    small = Deployment(gpu("H100-SXM"), model("Llama-3.2-3B"), engine="sglang")
    eight = Deployment(gpu("H100-SXM"), model("Llama-3-8B"), engine="sglang")
    v3 = Deployment(gpu("H200-SXM"), model("DeepSeek-V3"), tp=8, dtype="fp8", engine="sglang")
    stages = Deployment(
        gpu("H100-SXM"),
        model("Qwen3-30B-A3B"),
        pp=4,
        dtype="fp8",
        engine="vllm-0.15",
        max_num_seqs=128,
    )
    return [
        near(
            AHEAD,
            "DeepSeek-R1 on 8 B200, one client",
            "TensorRT-LLM blog 2",
            1.03,
            0.2,
            _ahead_step(r1, 1, 2000),
            gain=True,
        ),
        near(
            AHEAD,
            "Llama-3.2-3B on H100, random up to 4,096/2,048",
            "LMSYS, SGLang 0.4",
            1.10,
            0.2,
            _ahead_rate(small, 2048, 1024),
            gain=True,
        ),
        near(
            AHEAD,
            "Llama-3.1-8B on H100, ShareGPT",
            "SGLang pull request 1738",
            1.10,
            0.2,
            _ahead_rate(eight, 224, 194),
            gain=True,
        ),
        near(
            AHEAD,
            "DeepSeek-V3 decode",
            "not stated",
            1.18,
            0.2,
            _ahead_step(v3, 256, 2000),
            "nor its set-up: taken as 8 H200, 256 requests of 2,000 tokens",
            gain=True,
        ),
        near(
            AHEAD,
            "Qwen3-30B-A3B in four stages, 128 of 2/512",
            "vLLM pull request 32618",
            1.308,
            0.2,
            _ahead_step(stages, 128, 258),
            "GPU not stated: H100",
            gain=True,
        ),
    ]


def _both(d: Deployment) -> tuple[Deployment, Deployment]:
    return replace(d, scheduling="sync"), replace(d, scheduling="async")


def _ahead_step(d: Deployment, sequences: int, context: int) -> float:
    off, on = (step_ms(each, sequences, context) for each in _both(d))
    return off / on


def _ahead_rate(d: Deployment, prompt_tokens: int, output_tokens: int) -> float:
    off, on = (capability(each).throughput(prompt_tokens, output_tokens) for each in _both(d))
    return on / off


def rows() -> list[Row]:
    """Return all rows of this module."""
    return graphs() + attention() + ahead()
