"""Where a decoding request stands, which stores nothing between events."""

from __future__ import annotations

from ..core.compile import kernel
from .growth import computed_at
from .records import CONTINUOUS
from .reservation import decoding_blocks


@kernel
def length_of(request, replica, spec):
    """Return prompt and output tokens of a sequence, or what its batch as a whole is padded to."""
    if spec.batching != CONTINUOUS:
        return replica.padded
    return request.prompt_tokens + request.output_tokens


@kernel
def store_progress(request, finish_step, step_count, replica, spec):
    """Write down where a decoding request stands between steps."""
    if spec.batching != CONTINUOUS:  # as far as it is padded no further
        more = replica.padded - int(finish_step - step_count) - 1 - request.computed
        request.generated = min(request.generated + more, request.output_tokens - 1)
        return
    request.computed = computed_at(request, finish_step, step_count)
    request.generated = request.computed + 1 - request.prompt_tokens
    request.blocks = decoding_blocks(request, request.computed, spec)
