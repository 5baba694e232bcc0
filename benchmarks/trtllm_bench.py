"""What a run of ``trtllm-bench throughput`` is, and how long the model says that it takes.

All requests are queued at once, with prompts and outputs of fixed lengths, and the run ends with
the last of them: it fills up, runs, and drains. How many there are stands in TensorRT-LLM's
overviews; how many run at once, and the tokens of a step, in the tool's own heuristic, which the
overviews leave as it is. A step that only decodes is a CUDA graph, for the next larger of the
captured batch sizes, and computes the padding, too.

Sources (github.com/NVIDIA/TensorRT-LLM): ``docs/source/developer-guide/perf-overview.md`` (1.2) and
``docs/source/performance/perf-overview.md`` (1.0) for requests and captured sizes; for the limits
``tensorrt_llm/bench``, ``build/tuning.py``, ``build/build.py`` and ``benchmark/utils/general.py``;
``_fetch_new_requests`` of ``tensorrt_llm/_torch/pyexecutor`` (limits are each rank's with attention
data parallelism) and ``_filter_cuda_graph_batch_sizes`` of its ``model_engine.py``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from gpuyard.envs.perf import Deployment, capability, tabulate
from gpuyard.envs.perf.serving.cost_table import CostTable
from gpuyard.envs.perf.serving.iteration import decode_s, step_s

REQUESTS = {
    (128, 128): 30000,
    (128, 2048): 3000,
    (128, 4096): 1500,
    (500, 2000): 3000,
    (1000, 1000): 3000,
    (1000, 2000): 1500,
    (1024, 1024): 3000,
    (1024, 8192): 1500,
    (1024, 32768): 1000,
    (2048, 128): 3000,
    (2048, 2048): 1500,
    (5000, 500): 1500,
    (8192, 1024): 1500,
    (20000, 2000): 1000,
    (32768, 1024): 1000,
}
"""Requests of a run by lengths of prompt and output."""
GRAPHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512, 1024, 2048, 4096, 8192)
"""Batch sizes for which the overviews capture CUDA graphs."""
UNTUNED = (2048, 8192)
"""Requests and tokens where the heuristic does not know the format (mxfp4): the engine's own."""
WEIGHT_BYTES = {"fp8": 1.0, "nvfp4": 0.5 * (0.5 + 1 / 16)}
"""What the heuristic takes for a weight. NVFP4 checkpoints have two in an element and a scale for
every 16, and it gives each of these elements half a byte again."""
FREE_SHARE = 0.95
"""Of the memory beside the weights that the heuristic gives to the cache."""


@dataclass(frozen=True)
class Limits:
    """What a rank, or a micro-batch of a stage, runs at once: requests, and tokens of a step."""

    requests: int
    tokens: int


def limits(d: Deployment, prompt: int, output: int) -> Limits:
    """Return the limits that the tool chooses (``calc_engine_setting``, ``finetune_setting``).

    Its cache has 8 bits. It knows nothing of latent caches and takes KV heads as they stand in a
    configuration, 128 of 56 elements for DeepSeek's: 25 times as large, so that fewer requests run
    than fit.
    """
    if d.dtype not in WEIGHT_BYTES:
        requests, tokens = UNTUNED
        return Limits(requests, max(tokens, prompt + requests))
    model = d.model
    heads = max(model.heads if model.mla else model.kv_heads, d.gpus // d.pp)
    width = model.hidden // model.heads if model.mla else model.head_dim
    free = d.gpus * d.gpu.memory_bytes - model.params * WEIGHT_BYTES[d.dtype]
    fit = FREE_SHARE * free / (2 * model.layers * heads * width * (prompt + output))
    raw = min(fit, 4096) / d.pp
    raw_tokens = min(raw * (1 + prompt / output), 32768)
    requests = max(64, _up(raw, 32 if raw < 256 else 128 if raw < 1024 else 256))
    step = 256 if raw_tokens < 4096 else 512 if raw_tokens < 8192 else 1024
    tokens = max(2048, _up(raw_tokens, step))
    return Limits(requests, max(tokens, prompt + requests))


def _up(value: float, step: int) -> int:
    return step * math.ceil(value / step)


def captured(batch: int, most: int) -> int:
    """Return the batch that a decode step of ``batch`` requests computes, ``most`` the largest."""
    place = bisect_left(GRAPHS, batch)
    return max(batch, min(GRAPHS[place], most)) if place < len(GRAPHS) else batch


@dataclass(frozen=True)
class Run:
    """A run and its result: requests on all GPUs, how many at once, output tokens/s."""

    requests: int
    at_once: int
    tokens_per_s: float


def run(
    d: Deployment,
    prompt: int,
    output: int,
    requests: int = 0,
    tables: Callable[[Deployment], CostTable] = tabulate,
) -> Run:
    """Return the run of these lengths, of as many requests as the overviews' (0).

    Ranks and micro-batches are alike. A request is admitted when its whole prompt and output fit.
    """
    limit = limits(d, prompt, output)
    shards = d.shards
    each = max(1, round((requests or REQUESTS[prompt, output]) / shards))
    d = replace(d, max_num_batched_tokens=max(limit.tokens * shards, d.max_num_seqs))
    able = capability(d)
    fit = able.kv_blocks // able.groups.blocks_of(prompt + output) // shards
    at_once = max(1, min(fit, limit.requests, each))
    rows = captured(at_once, limit.requests) + limit.tokens // prompt
    most = max(limit.tokens, rows) * shards
    table = tables(replace(d, max_num_seqs=rows * shards, max_num_batched_tokens=most))
    seconds = _Batch(table, shards, prompt, output, limit).seconds(each, at_once)
    return Run(each * shards, at_once * shards, each * shards * output / seconds)


@dataclass(frozen=True)
class _Batch:
    """The batch of one rank or micro-batch; all are alike."""

    table: CostTable
    shards: int
    prompt: int
    output: int
    limit: Limits

    def seconds(self, waiting: int, at_once: int) -> float:
        """Return when the last of ``waiting`` requests ends."""
        running: deque[tuple[int, int]] = deque()  # step in which they began, how many
        total_s, step, batch = 0.0, 0, 0
        while waiting or running:
            while running and step - running[0][0] >= self.output:
                batch -= running.popleft()[1]
            fit = (self.limit.tokens - batch) // self.prompt
            new = min(waiting, at_once - batch, max(fit, 0))
            context = sum(many * (self.prompt + step - begun) for begun, many in running)
            if new:
                total_s += self._mixed_s(batch, context, new)
                running.append((step, new))
                waiting, batch, step = waiting - new, batch + new, step + 1
            elif running:  # nothing changes until the oldest end: time is straight in the context
                steps = running[0][0] + self.output - step
                first = self._decode_s(batch, context)
                last = self._decode_s(batch, context + batch * (steps - 1))
                total_s += steps * (first + last) / 2
                step += steps
        return total_s

    def _mixed_s(self, batch: int, context: int, new: int) -> float:
        chunks = [(self.prompt, 0)] * (new * self.shards)
        return step_s(self.table, batch * self.shards, context * self.shards, chunks)

    def _decode_s(self, batch: int, context: int) -> float:
        rows = captured(batch, self.limit.requests) * self.shards
        tokenwise = self.table.linear_s[rows] + self.table.head_s[rows]
        attention = decode_s(self.table.coefficients, batch * self.shards, context * self.shards)
        return float(tokenwise + attention)
