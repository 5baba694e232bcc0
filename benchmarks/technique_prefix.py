"""Prefix caching on Mooncake's conversations: what an LRU cache of a size hits.

    python benchmarks/technique_prefix.py

The Mooncake paper (arXiv 2407.00079) counts hits of blocks of 512 tokens by the size of the cache
on 23,000 requests. The 8,292 conversations here (FAST'25 release, first 70 %) are of the same
service. Each is answered before the next one comes, with a single token, so that nothing but the
prompts stands in the cache. The trace is not part of the repository.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from technique_kv import serve  # noqa: E402
from technique_row import Row, near, unvalidated  # noqa: E402

from gpuyard.envs.workload.requests.readers import read  # noqa: E402
from gpuyard.envs.workload.requests.stream import RequestStream  # noqa: E402

PREFIX = "Prefix caching"
PAPER = "arXiv 2407.00079"
MODELS = {
    PREFIX: """
`prefix_caching` of a replica: blocks of a prompt whose prefix is cached are not computed, the block
used longest ago goes first (`prefixes.py`, `kvcache.py`). Hits of blocks of 512 tokens over all
blocks of Mooncake's conversations, one after the other."""
}
TRACE = ROOT.parent / "shared/data/traces/mooncake-fast25/conversation_trace_first70pct.jsonl.gz"
UNIT, GAP_S = 512, 60.0


def one_by_one() -> RequestStream:
    """Return the conversations, each alone."""
    stream = read(TRACE)
    ones = np.ones(len(stream), np.int32)
    return replace(
        stream,
        arrival_s=GAP_S * np.arange(len(stream)),
        output_tokens=ones,
        max_tokens=ones,
    )


def hit_ratio(stream: RequestStream, blocks: int) -> float:
    """Return the hits of blocks of 512 tokens in a cache of so many."""
    replica = {"gpu": "H200-SXM", "model": "Llama-3-70B", "tp": 8, "kv_blocks": 32 * blocks}
    table = serve(stream, replica)
    return float((table["cached_tokens"] // UNIT).sum() / _blocks(stream))


def ideal(stream: RequestStream) -> float:
    """Return the hits of a cache that forgets nothing: blocks that were there before."""
    seen: set[int] = set()
    hits = 0
    for begin, end in zip(stream.prefix_offsets[:-1], stream.prefix_offsets[1:], strict=True):
        ids = stream.prefix_ids[begin:end].tolist()
        hits += sum(block in seen for block in ids)
        seen.update(ids)
    return hits / _blocks(stream)


def _blocks(stream: RequestStream) -> int:
    """Return the blocks of all prompts, begun ones among them, as the trace numbers them."""
    return int(np.ceil(stream.prompt_tokens / UNIT).sum())


def rows() -> list[Row]:
    """Return the rows of the cache's sizes.

    Raises:
        FileNotFoundError: the trace is not there.
    """
    stream = one_by_one()
    small, large, all_of_it = (hit_ratio(stream, blocks) for blocks in (1_000, 50_000, 500_000))
    known = ideal(stream)
    note = "0.6 on the trace of the paper, whose ideal is 0.50 and which is not at hand"
    return [
        near(PREFIX, "hits, nothing forgotten", "count of the trace", known, 0.01, all_of_it),
        near(
            PREFIX, "hits, 50,000 blocks over nothing forgotten", PAPER, 1, 0.05, large / all_of_it
        ),
        unvalidated(PREFIX, "hits, 1,000 over 50,000 blocks", small / large, note),
    ]


if __name__ == "__main__":
    for row in rows():
        print(f"{row.target}: {row.published:.4g}, here {row.simulated:.4g}, inside: {row.inside}")
