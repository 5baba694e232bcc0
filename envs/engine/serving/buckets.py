"""Token buckets: a client sends so many tokens per second through the router, and bursts.

A request takes its prompt and its estimated output from its client's bucket, which refills at
``tokens_per_s`` up to ``burst_tokens``. What finds too few is refused, or waits: the bucket then
owes, and the request comes under decision when the debt is paid, so that requests of one client
keep their order. Sources: RFC 2697, with one rate and one size, which polices; the same as a
shaper, ITU-T I.371 (continuous-state leaky bucket).
"""

from __future__ import annotations

from ..core.compile import kernel

REFUSED_S = -1.0


@kernel
def passes_s(state, client, request, now_s):
    """Return when a request that has just come may pass its client's bucket, or REFUSED_S."""
    if client.tokens_per_s == 0.0:
        return now_s
    filled = state.level + client.tokens_per_s * (now_s - state.level_s)
    state.level, state.level_s = min(filled, client.burst_tokens), now_s
    tokens = request.prompt_tokens + request.estimate_tokens
    if client.is_rejected == 1 and tokens > state.level:
        return REFUSED_S
    state.level -= tokens
    return now_s + max(-state.level, 0.0) / client.tokens_per_s
