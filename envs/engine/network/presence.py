"""Whether a periodic sender communicates now, by its own clock.

In FLUID nobody follows its phases, but how many iterations are left says where in the present one
it is: it computes first, then sends phase by phase, the last ``hidden_s`` of the compute beside
that. One-shot senders are short against an iteration, so they meet it with all its flows or with
none, which a share of time could not say: a transfer over several links waits for the worst.
"""

from __future__ import annotations

import math

from ..core.compile import kernel


@kernel
def window(sender, step):
    """Return when in an iteration a phase begins and how long it lasts, as shares of it."""
    stretch = sender.comm_s / sender.comm_alone_s
    begin_s = sender.compute_s - sender.hidden_s + step.after_s * stretch
    phase_s = step.bytes / step.rate * stretch
    return begin_s / sender.iteration_s, phase_s / sender.iteration_s


@kernel
def iterations_done(sender, now_s):
    """Return the iterations done by now, less a whole number."""
    return sender.rate * (now_s - sender.since_s) - sender.left


@kernel
def presence(sender, step, now_s, span_s):
    """Return 1 where a phase is under way now, else 0.

    For who stays longer than an iteration, the share of time in which it is.
    """
    begin, length = window(sender, step)
    if span_s > sender.iteration_s:
        return length
    done = iterations_done(sender, now_s)
    at = done - math.floor(done)
    return 1.0 if begin <= at < begin + length else 0.0


@kernel
def phase_done(iterations, begin, length):
    """Return how much of a phase is done in so many iterations, in iterations."""
    whole = math.floor(iterations)
    return whole * length + min(max(iterations - whole - begin, 0.0), length)


@kernel
def seconds_in(sender, step, since_s, now_s):
    """Return for how long a phase was under way between two moments."""
    begin, length = window(sender, step)
    before = phase_done(iterations_done(sender, since_s), begin, length)
    after = phase_done(iterations_done(sender, now_s), begin, length)
    return (after - before) * sender.iteration_s
