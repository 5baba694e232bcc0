"""Runs of equal decode steps, in closed form.

Between two events the batch of a replica is constant. A run of its decode steps is planned up to
the next event and takes ``start + k * first + growth * k (k - 1) / 2`` for its first k steps, exact
where the step cost is affine in the context and a chord of it otherwise.
"""

from __future__ import annotations

import math

import numpy as np

from ..core.compile import kernel
from .costs import decode_gpu_s, host_step_s
from .growth import blocks_needed
from .kvcache import allocate
from .order import unseen_s
from .records import CONTINUOUS
from .speculation import verify_step_s

LONGEST_RUN = 1024  # steps: bounds the error of the run's chord where the cost is not affine


@kernel
def run_s(replica, steps):
    """Return the seconds that the first ``steps`` steps of the current run take."""
    growth = 0.5 * replica.step_growth_s * steps * (steps - 1)
    return steps * replica.first_step_s + growth


@kernel
def next_step_s(replica):
    """Return when a replica does something next, inf if it has nothing to do."""
    if replica.busy == 1:
        return replica.end_s
    # an idle one starts once the clock has moved on
    return np.nextafter(replica.start_s, math.inf) if replica.waiting > 0 else math.inf


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
def run_blocks(w, e, r, steps, replica, spec):
    """Take the KV blocks of the first ``steps`` steps of the current run."""
    more = steps - replica.steps_with_blocks
    if more > 0:
        first_step = replica.step_count + replica.steps_with_blocks
        need = blocks_needed(w, e, r, first_step, more, spec.block_size)
        allocate(w, e, r, need, replica, spec)
        replica.steps_with_blocks = steps


@kernel(inline=False)
def cut_run(w, e, r, now_s, replica, spec):
    """End the run at the step under way, whose blocks are taken now: the rest is planned anew."""
    if replica.busy == 1 and replica.steps > 1:
        steps = steps_done(replica, now_s) + 1
        run_blocks(w, e, r, min(steps, replica.steps), replica, spec)
        replica.steps = min(replica.steps, max(steps, replica.steps_with_blocks))
        replica.end_s = replica.start_s + run_s(replica, replica.steps)


@kernel
def plan_run(w, e, r, replica, spec, cost, single):
    """Plan a run of decode steps; the blocks of its first step are allocated already."""
    sequences = replica.running
    context = replica.context_tokens
    if spec.draft_length > 0:  # what it accepts is drawn step by step
        step_s = verify_step_s(w, replica.kind, sequences, context, replica.drafted, spec, cost)
        tokens = sequences * (1 + replica.drafted)
        replica.first_step_s = step_s + replica.waits_s * tokens
        return
    waits_s = replica.waits_s * sequences
    first_s = decode_gpu_s(cost, w.linear_s, w.head_s, replica.kind, sequences, context) + waits_s
    host_s = host_step_s(cost, sequences)
    replica.first_step_s = max(first_s, host_s)
    steps = min(replica.next_finish, replica.next_window) - replica.step_count
    steps = min(steps, LONGEST_RUN)
    if single or steps <= 1:
        return
    free = replica.free_blocks
    after = replica.step_count + 1
    if blocks_needed(w, e, r, after, steps - 1, spec.block_size) > free:
        steps = 1
        while True:
            need = blocks_needed(w, e, r, replica.step_count + steps, 1, spec.block_size)
            if need > free:
                break
            free -= need
            steps += 1
        if steps == 1:
            return
    last = context + (steps - 1) * sequences
    last_s = decode_gpu_s(cost, w.linear_s, w.head_s, replica.kind, sequences, last) + waits_s
    growth_s = (last_s - first_s) / (steps - 1)
    if first_s >= host_s:
        replica.step_growth_s = growth_s
    elif last_s > host_s:  # the run ends where the GPU overtakes the host
        steps = min(steps, int((host_s - first_s) / growth_s) + 1)
    replica.steps = steps


@kernel
def stop_for(queued_s, replica, spec):
    """Cut the run before the step that may admit a request which reaches the engine then.

    The step under way ends as planned, and so does one whose blocks are taken.
    """
    steps = steps_until(replica, queued_s) + spec.lag
    replica.steps = min(replica.steps, max(steps, replica.steps_with_blocks))


@kernel
def takes_more(replica, spec):
    """Tell whether a request may join the batch before one of it leaves."""
    return replica.running < spec.max_num_seqs and spec.batching == CONTINUOUS


@kernel
def stop_for_head(w, e, seen_s, replica, spec):
    """Cut a new run for the head of the queue, unless it was seen and has to wait for a finish."""
    queued_s = unseen_s(w, e, seen_s, replica, spec)
    if queued_s < math.inf and takes_more(replica, spec):
        stop_for(queued_s, replica, spec)
