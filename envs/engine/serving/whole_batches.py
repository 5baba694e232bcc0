"""Batches as wholes: static and dynamic batching.

A batch is formed from the head of the queue when the replica is empty: as many requests as there
are seats, as their prompts, padded to the longest, fit the token budget, and as their KV chunks,
each as large as the longest needs, fit the cache. It computes all prompts in one step and then
decodes, padded, until its longest output is there. First tokens are streamed; a request ends, and
its place and chunk are free, when the batch ends. A dynamic batch starts when ``max_num_seqs``
requests are there, or the oldest has waited ``batch_wait_s``. Sources: request-level scheduling as
Yu et al., "Orca", OSDI 2022, 2 describe it; Triton's dynamic batcher (``max_queue_delay``).
"""

from __future__ import annotations

from ..core.compile import kernel
from .costs import alone_s, prefill_attention_s, prompts_step_s
from .kvcache import allocate
from .queue import leave_queue
from .reservation import chunk_blocks, reserved_tokens
from .runs import plan_run, run_s


@kernel(inline=False)
def begin_batch_step(w, e, r, now_s, seen_s, replica, spec, cost):
    """Form a batch and let it compute its prompts, or let the batch there is decode."""
    replica.busy, replica.start_s = 1, now_s
    replica.steps, replica.steps_with_blocks, replica.step_growth_s = 1, 1, 0.0
    if replica.running == 0:
        prompt = form_batch(w, e, r, seen_s, replica, spec)
        count = replica.running
        replica.tokens = count * prompt
        each_s = prefill_attention_s(cost, prompt, 0)
        longest_s = alone_s(cost, prompt, each_s)
        waits_s = replica.waits_s * replica.tokens
        replica.first_step_s = prompts_step_s(
            *(w, cost, replica.kind, replica.tokens, 0, 1),
            *(0, count, count * each_s, longest_s, waits_s),
        )
    else:
        replica.tokens = replica.running
        plan_run(w, e, r, replica, spec, cost, False)
    replica.end_s = now_s + run_s(replica, replica.steps)


@kernel
def form_batch(w, e, r, seen_s, replica, spec):
    """Take the batch from the queue; returns the tokens to which its prompts are padded."""
    count, prompt, output, blocks = measure_batch(w, e, seen_s, replica, spec)
    allocate(w, e, r, count * blocks, replica, spec)
    for _ in range(count):
        index = int(replica.head)
        request = w.requests[e, index]
        replica.queued_tokens -= request.prompt_tokens + request.generated
        leave_queue(w, e, r, index, -1, replica)
        request.blocks, request.computed = blocks, prompt
        request.cached_tokens = max(request.cached_tokens, 0)
    replica.padded = prompt + output
    return prompt


@kernel
def measure_batch(w, e, seen_s, replica, spec):
    """Return how many requests go together, their longest prompt and output, and a chunk's blocks.

    The first one always fits: the router sends it nowhere else.
    """
    count, prompt, output, reserved, blocks = 0, 0, 0, 0, 0
    at = int(replica.head)
    while at >= 0 and count < spec.max_num_seqs and w.requests[e, at].queued_s <= seen_s:
        request = w.requests[e, at]
        known = request.prompt_tokens + request.generated
        longest, kept = max(prompt, known), max(reserved, reserved_tokens(request, spec) - known)
        chunk = chunk_blocks(longest + kept, spec)
        if count > 0 and (count + 1) * chunk > replica.free_blocks:
            break
        if count > 0 and (count + 1) * longest > spec.max_num_batched_tokens:
            break
        count, prompt, reserved, blocks = count + 1, longest, kept, chunk
        output = max(output, request.output_tokens - request.generated)
        at = int(request.next)
    return count, prompt, output, blocks
