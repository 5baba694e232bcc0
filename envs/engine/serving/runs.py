"""Runs of equal decode steps, in closed form.

Between two events the batch of a replica is constant. A run of its decode steps is planned up to
the next event and takes ``start + k * first + growth * k (k - 1) / 2`` for its first k steps, exact
where the step cost is affine in the context and a chord of it otherwise. Integer divisions are done
in floats: the operands are far below 2**52, and a 64-bit integer division takes four times as long.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .kvcache import allocate

NEVER = (1 << 31) - 1
LONGEST_RUN = 1024  # steps: bounds the error of the run's chord where the cost is not affine


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
def phase_of(computed, step_count, size):
    """Return when a sequence takes its next block: at steps that are 0 modulo ``size`` with it."""
    offset = computed - step_count
    return int(offset - size * math.floor(offset / size))


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
    filling = computed < spec.window_blocks * spec.block_size
    return 1 + spec.window_groups if filling else 1


@kernel
def run_s(replica, steps):
    """Return the seconds that the first ``steps`` steps of the current run take."""
    growth = 0.5 * replica.step_growth_s * steps * (steps - 1)
    return steps * replica.first_step_s + growth


@kernel
def steps_done(replica, now_s):
    """Return how many steps of the current run have ended by ``now_s``."""
    if replica.steps == 1 or now_s < replica.start_s + replica.first_step_s:
        return 1 if now_s >= replica.end_s else 0
    elapsed = now_s - replica.start_s
    linear = replica.first_step_s - 0.5 * replica.step_growth_s
    root = math.sqrt(max(0.0, linear * linear + 2.0 * replica.step_growth_s * elapsed))
    steps = min(int(2.0 * elapsed / (linear + root)), replica.steps)
    while steps < replica.steps and replica.start_s + run_s(replica, steps + 1) <= now_s:
        steps += 1
    while steps > 0 and replica.start_s + run_s(replica, steps) > now_s:
        steps -= 1
    return steps


@kernel
def steps_until(replica, moment_s):
    """Return after how many steps of the current run it is ``moment_s`` or later, at least 0.

    More than the steps of the run if it ends before that.
    """
    if moment_s <= replica.start_s:
        return 0
    steps = steps_done(replica, moment_s)
    return steps if replica.start_s + run_s(replica, steps) >= moment_s else steps + 1


@kernel
def blocks_needed(w, e, r, first_step, steps, size):
    """Return the blocks that the decoding sequences take in ``steps`` steps from ``first_step``.

    A sequence takes some every ``size`` steps; ``decode_phases`` adds them up by when it does.
    """
    if steps <= 0:
        return 0
    cycles = floor_div(steps, size)
    rest = steps - cycles * size
    first = phase_of(0, first_step, size)
    count = 0
    for phase in range(size):
        ahead = first - phase  # steps until the sequences of this phase take a block
        ahead += size if ahead < 0 else 0
        count += w.decode_phases[e, r, phase] * (cycles + (1 if ahead < rest else 0))
    return count


@kernel
def run_blocks(w, e, r, steps, replica, spec):
    """Take the KV blocks of the first ``steps`` steps of the current run."""
    more = steps - replica.steps_with_blocks
    if more > 0:
        first_step = replica.step_count + replica.steps_with_blocks
        need = blocks_needed(w, e, r, first_step, more, spec.block_size)
        allocate(w, e, r, need, replica, spec)
        replica.steps_with_blocks = steps
