"""New weights: every replica ends the step under way and begins none until they are there.

Then its requests are either where they were, with the KV cache of the old weights, or all have to
be computed again: those that ran are preempted and nothing is cached any more. Source: vLLM's
``pause_generation`` in mode ``keep``, and ``reset_prefix_cache`` with ``reset_running_requests``;
PipelineRL (arXiv:2509.19128) keeps the cache. KV tiers are emptied with it: an engine that takes
new weights empties its host memory and the store that it shares, as vLLM's connectors do
(github.com/vllm-project/vllm/pull/42695, pull/41956).
"""

from __future__ import annotations

from ..core.compile import kernel
from .fetching import give_up_fetches
from .prefixes import drop_all
from .runs import run_s, steps_until
from .tiers import forget_all


@kernel
def interrupt(w, e, r, now_s, resume_s, replica, router):
    """Let a replica take new weights when its step under way ends, and rest until ``resume_s``."""
    replica.outdated, replica.resume_s = 1, resume_s
    if replica.busy == 0:
        take_weights(w, e, r, replica, router)
    elif replica.steps > 1:
        steps = max(steps_until(replica, now_s), replica.steps_with_blocks)
        replica.steps = min(replica.steps, steps)
        replica.end_s = replica.start_s + run_s(replica, replica.steps)


@kernel(inline=False)
def take_weights(w, e, r, replica, router):
    """Note that a replica has new weights, and forget what old ones have cached unless it is kept.

    Nobody holds any of it: a replica that does not keep its cache runs nothing then, and those that
    fetch begin anew.
    """
    replica.outdated = 0
    if router.keeps_cache == 0:
        if len(w.replica_tiers) > 0:
            give_up_fetches(w, e, r, replica, w.replica_specs[r])
            forget_tiers(w, e, w.replica_tiers[r])
        drop_all(w, e, r)
        replica.lru_head = replica.lru_tail = -1
        replica.tail_blocks = replica.free_blocks


@kernel
def forget_tiers(w, e, own):
    """Empty the tiers of a replica, the one that it shares, too."""
    if own.host >= 0:
        forget_all(w, e, own.host)
    if own.store >= 0:
        forget_all(w, e, own.store)


@kernel
def rest(now_s, replica):
    """Begin no step before the new weights are there.

    Where requests run on it is a step that computes nothing, in which all of them wait.
    """
    if replica.running == 0:
        replica.busy, replica.start_s = 0, replica.resume_s
        return
    replica.busy, replica.stalled, replica.drafted = 1, 1, 0
    replica.steps, replica.steps_with_blocks, replica.tokens = 1, 1, 0
    replica.start_s, replica.end_s = now_s, replica.resume_s
    replica.first_step_s, replica.step_growth_s = replica.end_s - now_s, 0.0
    replica.busy_s -= replica.end_s - now_s  # it is no step
