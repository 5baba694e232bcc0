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
from .speculation import drafter


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
    token_bytes, state_bytes = _rank_bytes(d)
    groups = window_blocks = 0
    if _is_grouped(d):
        groups = math.ceil(token_bytes["window"] / token_bytes["full"])
        window_blocks = math.ceil(d.model.window / d.block_size) + 1
    state_blocks = math.ceil(state_bytes / block_bytes(d))
    return KVGroups(d.block_size, groups, window_blocks, state_blocks, state_bytes == 0)


def block_bytes(deployment: Deployment) -> float:
    """Return the bytes of one block on one GPU: split over KV heads, an MLA cache is copied.

    A drafting model caches the same tokens in its own layers.
    """
    token_bytes, _ = _rank_bytes(deployment)
    spanned = ("full",) if _is_grouped(deployment) else ("full", "window")
    own = deployment.block_size * sum(token_bytes[kind] for kind in spanned)
    draft = drafter(deployment)
    return own + block_bytes(draft) if draft else own


def _is_grouped(d: Deployment) -> bool:
    """Tell whether layers with a window and layers without it are cached apart."""
    return d.rules.windowed_kv and d.model.window_layers > 0 and d.model.full_layers > 0


def _rank_bytes(d: Deployment) -> tuple[dict[str, float], float]:
    """Return the bytes on one GPU of a token in all layers of a kind, and of a sequence's states.

    Ranks divide the KV heads of a layer, and copy them where there are more ranks than heads;
    stages divide the layers.
    """
    token_bytes, state_bytes = {"full": 0.0, "window": 0.0}, 0.0
    for group in d.model.kv_groups(d.kv_dtype):
        if group.kind == "linear":
            state_bytes = group.layers * group.state_bytes / d.tp / d.pp
            continue
        share = max(1, group.kv_heads // d.tp) / group.kv_heads
        token_bytes[group.kind] = group.layers * group.token_bytes * share / d.pp
    return token_bytes, state_bytes
