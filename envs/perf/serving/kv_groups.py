"""What a sequence holds of the KV cache where layers keep different parts of it.

A block is the cache of ``block_size`` tokens in all layers that keep everything. Layers with a
window form groups of as many layers, each of which takes a block of the same size for as many
tokens, but only until its window is full. A layer with linear attention keeps a state of fixed
size instead of tokens; a sequence's states take whole blocks. An engine without such groups keeps
every token in every layer with attention, and a block spans them all. Source: vLLM's hybrid KV
cache manager (``vllm/v1/core/kv_cache_utils.py``: groups of the size of the smallest kind, the last
one padded; ``single_type_kv_cache_manager.py``: one more block, as a window may begin inside one).

Left out: while a prompt chunk longer than the window is computed, vLLM holds blocks for all of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from .deployment import Deployment


@dataclass(frozen=True)
class KVGroups:
    """Blocks of a sequence besides one per ``block_size`` tokens; all 0 for ordinary models.

    Attributes:
        block_size: tokens of a block.
        window_groups: groups of layers with a window.
        window_blocks: blocks that each of them holds at most.
        state_blocks: blocks of the state of linear layers.
        reuses_prefix: whether cached prefixes are reused; no modelled engine does with such states.
    """

    block_size: int
    window_groups: int = 0
    window_blocks: int = 0
    state_blocks: int = 0
    reuses_prefix: bool = True

    def blocks_of(self, tokens: float) -> int:
        """Return the blocks of a sequence with ``tokens`` > 0 tokens in the cache."""
        blocks = math.ceil(tokens / self.block_size)
        return blocks + self.window_groups * min(blocks, self.window_blocks) + self.state_blocks

    def longest(self, kv_blocks: int) -> int:
        """Return the tokens of the longest sequence that a cache of ``kv_blocks`` holds."""
        left = max(kv_blocks - self.state_blocks, 0)
        in_window = min(left // (1 + self.window_groups), self.window_blocks)
        blocks = max(in_window, left - self.window_groups * self.window_blocks)
        return blocks * self.block_size


@lru_cache(maxsize=256)
def kv_groups(deployment: Deployment) -> KVGroups:
    """Return what a sequence holds on a replica."""
    d = deployment
    groups = window_blocks = state_blocks = 0
    if _is_grouped(d):
        groups = math.ceil(d.model.window_layers / _block_layers(d))
        window_blocks = math.ceil(d.model.window / d.block_size) + 1
    if LINEAR_LAYERS:
        state_blocks = math.ceil(LINEAR_LAYERS * STATE_BYTES / d.tp / block_bytes(d))
    return KVGroups(d.block_size, groups, window_blocks, state_blocks, not LINEAR_LAYERS)


def block_bytes(deployment: Deployment) -> float:
    """Return the bytes of one block on one GPU: split over KV heads, an MLA cache is copied."""
    d = deployment
    rank_share = 1.0 if d.model.mla else d.rank_kv_heads / d.model.kv_heads
    layers_share = _block_layers(d) / (d.model.layers - LINEAR_LAYERS)
    token_bytes = d.model.kv_bytes_per_token(d.kv_dtype) * rank_share * layers_share
    return token_bytes * d.block_size


LINEAR_LAYERS = STATE_BYTES = 0  # TO REPLACE by the model's linear_layers and state_bytes


def _is_grouped(d: Deployment) -> bool:
    """Tell whether layers with a window and layers without it are cached apart."""
    return d.rules.windowed_kv and 0 < d.model.window_layers < d.model.layers - LINEAR_LAYERS


def _block_layers(d: Deployment) -> int:
    """Return the layers whose cache one block holds."""
    layers = d.model.layers - LINEAR_LAYERS
    return layers - d.model.window_layers if _is_grouped(d) else layers
