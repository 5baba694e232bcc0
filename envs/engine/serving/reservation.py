"""Contiguous KV reservation: one chunk for all tokens of a request, taken when it is admitted.

Chunks are powers of two, as a buddy allocator gives them (Knowlton, 1965); that free blocks may lie
apart is left out, so the waste is a lower bound. Source: the three variants of Orca of Kwon et al.,
"Efficient memory management for large language model serving with PagedAttention", SOSP 2023, 6.1.
"""

from __future__ import annotations

from ..core.compile import kernel
from .growth import blocks_of, ceil_div
from .records import ORACLE, POWER_OF_TWO


@kernel
def power_of_two(number):
    """Return the smallest power of two that is no less than ``number`` >= 1."""
    size = 1
    while size < number:
        size *= 2
    return size


@kernel
def chunk_blocks(tokens, spec):
    """Return the blocks of a chunk for ``tokens``."""
    return power_of_two(ceil_div(tokens, spec.block_size))


@kernel
def reserved_tokens(request, spec):
    """Return the tokens that a request reserves: prompt and output as far as that is known."""
    output = request.max_tokens
    if spec.reserves == ORACLE:
        output = request.output_tokens
    elif spec.reserves == POWER_OF_TWO:
        output = min(output, power_of_two(request.output_tokens))
    return request.prompt_tokens + output


@kernel
def held_blocks(request, tokens, spec):
    """Return the blocks that an admitted request holds with ``tokens`` computed tokens."""
    return request.blocks if spec.reserves > 0 else blocks_of(tokens, spec)


@kernel
def decoding_blocks(request, tokens, spec):
    """Return the blocks of a request that decodes; where it speculates they stand in it."""
    return request.blocks if spec.draft_length > 0 else held_blocks(request, tokens, spec)


@kernel
def most_blocks(request, output, spec):
    """Return the blocks that a request needs at most, whose output is taken to be ``output``."""
    if spec.reserves > 0:
        return chunk_blocks(request.prompt_tokens + request.max_tokens, spec)
    return blocks_of(request.prompt_tokens + output, spec)
