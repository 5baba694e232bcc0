"""Speculative decoding: drafted tokens, the step that verifies them, and how many are accepted.

A sequence that decodes has ``1 + draft_length`` tokens in a step while no more sequences decode
than ``most_drafting``; otherwise one. How many it gets is drawn per step: each drafted token is
accepted with the request's rate until the first that is not. The draw is a hash of the episode's
seed, the request and its tokens so far, so what a request accepts hangs on its own text, not on
batch, replica or order: equal seeds give equal bytes, and two ways to route see the same luck.

Such a replica is advanced step by step. A slot's ``finish_step`` is the step at which its request
would end with one token a step from here on; further accepted tokens bring it forward. The KV
blocks that a sequence holds are those of its tokens when the step began and of ``lookahead`` more,
rejected ones too, so they stand in its request (``blocks``) and not in ``decode_phases``. Source:
vLLM, ``vllm/v1/core/sched/scheduler.py`` (``num_lookahead_tokens``) and ``kv_cache_manager.py``.
"""

from __future__ import annotations

import numpy as np

from ..core.compile import kernel
from ..core.random import GAMMA, hash64, unit_float
from .costs import decode_attention_s, decode_gpu_s, host_step_s
from .growth import NEVER, blocks_needed, blocks_of, computed_at, next_blocks
from .kvcache import allocate


@kernel
def draft_tokens(spec, decoding):
    """Return the tokens that each of ``decoding`` sequences drafts in a step."""
    return spec.draft_length if 0 < decoding <= spec.most_drafting else 0


@kernel
def draw(seed, index, count):
    """Return the float in (0, 1) of a request at its ``count``-th token; -1: of the request."""
    key = hash64(seed + GAMMA * np.uint64(index + 1))
    return unit_float(hash64(key + GAMMA * np.uint64(count + 1)))


@kernel
def accepted_tokens(seed, index, generated, drafted, spec):
    """Return how many of its ``drafted`` tokens request ``index`` accepts after ``generated``."""
    span = spec.accept_high - spec.accept_low
    rate = spec.accept_low + span * draw(seed, index, -1)
    word, chance, count = draw(seed, index, generated), rate, 0
    while count < drafted and word < chance:
        chance *= rate
        count += 1
    return count


@kernel
def sequence_blocks(w, e, r, at, replica, spec):
    """Return the blocks that the decoding sequence in slot ``at`` lacks for its next step."""
    request = w.requests[e, w.slots[e, r, at].request]
    computed = computed_at(request, w.slots[e, r, at].finish_step, replica.step_count)
    if spec.draft_length == 0:
        return next_blocks(computed, spec) if computed % spec.block_size == 0 else 0
    ahead = spec.lookahead if replica.drafted > 0 else 0
    return max(blocks_of(computed + 1 + ahead, spec) - request.blocks, 0)


@kernel
def step_blocks(w, e, r, decoding, replica, spec):
    """Decide what the next step drafts, and return the blocks that its decodes lack."""
    if spec.draft_length == 0:
        return blocks_needed(w, e, r, replica.step_count, 1, spec.block_size)
    replica.drafted = draft_tokens(spec, decoding)
    need = 0
    for at in range(decoding):
        need += sequence_blocks(w, e, r, at, replica, spec)
    return need


@kernel
def take_step_blocks(w, e, r, need, decoding, replica, spec):
    """Let all decoding sequences hold the blocks of their next step, ``need`` in all."""
    if spec.draft_length > 0:
        for at in range(decoding):
            lacks = sequence_blocks(w, e, r, at, replica, spec)
            w.requests[e, w.slots[e, r, at].request].blocks += lacks
    allocate(w, e, r, need, replica, spec)


@kernel(inline=False)
def draft_s(w, kind, sequences, context, spec):
    """Return the seconds in which ``sequences`` draft, ``context`` of their tokens cached.

    The form stands in :mod:`gpuyard.envs.perf.serving.drafting`; the first pass is in the tables.
    """
    seconds = spec.draft_s + spec.draft_sequence_s * sequences
    if spec.draft_rows == 0:
        return seconds
    row = kind + spec.draft_rows
    mean = context + 0.5 * sequences * spec.draft_length
    pass_s = decode_gpu_s(w.costs[row], w.linear_s, w.head_s, row, sequences, mean)
    return seconds + w.head_s[row, sequences] + (spec.draft_length - 1) * pass_s


@kernel(inline=False)
def verify_step_s(w, kind, sequences, context, drafted, spec, cost):
    """Return the seconds of a step that only decodes, ``drafted`` tokens beside each one."""
    width = 1 + drafted
    seconds = w.linear_s[kind, sequences * width] + w.head_s[kind, sequences * width]
    seconds += decode_attention_s(cost, sequences, context, width)
    if drafted > 0:
        seconds += draft_s(w, kind, sequences, context, spec)
    return max(seconds, host_step_s(cost, sequences))


@kernel(inline=False)
def token_s(w, kind, sequences, context, spec, cost):
    """Return the mean seconds between the tokens of each of ``sequences`` that decode."""
    drafted = draft_tokens(spec, sequences)
    step_s = verify_step_s(w, kind, sequences, context, drafted, spec, cost)
    return step_s / spec.mean_accepted if drafted > 0 else step_s


@kernel(inline=False)
def accept(w, e, r, replica, spec):
    """Give the decoding sequences what they accepted in the step that has been counted."""
    seed, soonest = w.router[e].draft_seed, NEVER
    for at in range(replica.running - replica.prefilling):
        slot = w.slots[e, r, at]
        request = w.requests[e, slot.request]
        left = slot.finish_step - replica.step_count
        generated = request.output_tokens - left - 1
        more = accepted_tokens(seed, slot.request, generated, replica.drafted, spec)
        more = min(more, left)  # what follows its last token is thrown away
        slot.finish_step -= more
        replica.context_tokens += more
        soonest = min(soonest, slot.finish_step)
    replica.next_finish = soonest
