"""The KV blocks that sequences hold, and those that a batch takes as it decodes.

A decoding sequence takes blocks every ``block_size`` steps: one for all layers of full attention,
and until its window is full one for each group of layers with a window. ``decode_phases`` adds up
what the sequences take by the step, modulo ``block_size``, at which they do. Integer divisions are
done in floats: the operands are far below 2**52, and a 64-bit integer division takes four times as
long.
"""

from __future__ import annotations

import math

from ..core.compile import kernel

NEVER = (1 << 31) - 1  # as a step count


@kernel
def floor_div(a, b):
    """Return a / b rounded down, for 0 <= a < 2**52 and b > 0.

    The quotient of two such integers as floats never rounds up to the next integer, and a float
    division takes a quarter of the time of a 64-bit integer one.
    """
    return int(a / b)


@kernel
def ceil_div(a, b):
    """Return a / b rounded up, for 0 <= a < 2**52 and b > 0."""
    return int((a + b - 1) / b)


@kernel
def blocks_of(tokens, spec):
    """Return the KV blocks that a sequence with ``tokens`` >= 1 computed tokens holds.

    One per ``block_size`` tokens for all layers of full attention; as many for each group of
    layers with a window, until that is full; and those of the state of linear layers.
    """
    blocks = ceil_div(tokens, spec.block_size)
    if spec.window_groups + spec.state_blocks > 0:
        blocks += spec.window_groups * min(blocks, spec.window_blocks) + spec.state_blocks
    return blocks


@kernel
def next_blocks(computed, spec):
    """Return the blocks that a sequence takes for the token after ``computed``, if it takes any."""
    if spec.reserves > 0:
        return 0
    filling = computed < spec.window_blocks * spec.block_size
    return 1 + spec.window_groups if filling else 1


@kernel
def computed_at(request, finish_step, step_count):
    """Return the computed tokens of a decoding request between two steps."""
    return request.prompt_tokens + request.output_tokens - int(finish_step - step_count) - 1


@kernel
def phase_of(computed, step_count, size):
    """Return when a sequence takes its next block: at steps that are 0 modulo ``size`` with it."""
    offset = computed - step_count
    return int(offset - size * math.floor(offset / size))


@kernel
def count_growth(w, e, r, computed, sign, replica, spec):
    """Let a sequence with ``computed`` tokens take part in the growth of the batch, or no more.

    Where it speculates its blocks stand in its request.
    """
    if spec.draft_length > 0:
        return
    phase = phase_of(computed, replica.step_count, spec.block_size)
    w.decode_phases[e, r, phase] += sign * next_blocks(computed, spec)


@kernel(inline=False)
def fill_windows(w, e, r, replica, spec):
    """Let the sequences whose window is full now grow by full-attention blocks only."""
    window = spec.window_blocks * spec.block_size
    soonest = NEVER
    for at in range(replica.running - replica.prefilling):
        request = w.requests[e, w.slots[e, r, at].request]
        computed = computed_at(request, w.slots[e, r, at].finish_step, replica.step_count)
        if computed == window:
            phase = phase_of(computed, replica.step_count, spec.block_size)
            w.decode_phases[e, r, phase] -= spec.window_groups
        elif computed < window:
            soonest = min(soonest, replica.step_count + window - computed)
    replica.next_window = soonest


@kernel
def blocks_needed(w, e, r, first_step, steps, size):
    """Return the blocks that the decoding sequences take in ``steps`` steps from ``first_step``.

    A sequence takes some every ``size`` steps; ``decode_phases`` adds them up by when it does.
    """
    if steps <= 0:
        return 0
    cycles = floor_div(steps, size)
    first = phase_of(0, first_step, size)
    count = 0
    for ahead in range(steps - cycles * size):
        phase = first - ahead  # of the sequences that take blocks so many steps later
        count += w.decode_phases[e, r, phase + size if phase < 0 else phase]
    if cycles > 0:
        for phase in range(size):
            count += cycles * w.decode_phases[e, r, phase]
    return count
