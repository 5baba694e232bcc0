"""Mooncake (Kimi) JSONL: timestamp (ms), input_length, output_length, hash_ids; session_id if any.

Source: github.com/kvcache-ai/Mooncake, FAST25-release/traces (Qin et al., FAST 2025, Apache-2.0).
A hash id stands for the whole prefix up to the end of its block of 512 prompt tokens; the last
block may be partial and is dropped. Conversation stamps lie on a grid of about 3 s.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...trace_file import drop_zero_output, read_jsonl
from ..assemble import Blocks, assemble
from ..stream import RequestStream

BLOCK_TOKENS = 512
_STAMP, _PROMPT, _OUTPUT, _IDS = _FIELDS = (
    "timestamp",
    "input_length",
    "output_length",
    "hash_ids",
)


def detect(names: set[str]) -> bool:
    """Tell whether these keys are of this format."""
    return names >= set(_FIELDS) and "chat_id" not in names


def read(
    path: Path, *, sort: bool = False, drop_failed: bool = False, spread: bool = True
) -> RequestStream:
    """Read a Mooncake trace.

    Args:
        path: the file.
        sort: bring rows into order of arrival instead of refusing a file out of order.
        drop_failed: leave out requests without output.
        spread: where stamps lie on a grid, spread the requests of a stamp over the time until the
            next one (:func:`spread_grid`); False keeps the stamps.
    """
    table = read_jsonl(path, _FIELDS, ("session_id",), packed=_IDS)
    if drop_failed:
        table = drop_zero_output(table, _OUTPUT)
    arrival_s = table.numbers(_STAMP) / 1000.0
    if sort or np.all(np.diff(arrival_s) >= 0):
        table = table.take(np.argsort(arrival_s, kind="stable"))
        arrival_s = np.sort(arrival_s)
        if spread:
            arrival_s = spread_grid(arrival_s)
    blocks = Blocks(_IDS, table.column(_IDS), BLOCK_TOKENS)
    session = table.column("session_id")
    return assemble(
        table, _STAMP, _PROMPT, _OUTPUT, arrival_s=arrival_s, session=session, blocks=blocks
    )


def spread_grid(arrival_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spread the requests of each grid stamp over its bucket, order kept.

    A bucket reaches from its stamp to the next one, but not further than the median step. Inside it
    the times are sorted uniform draws from a fixed seed, as for Poisson arrivals of which only the
    number per bucket is known. A trace with fewer than two requests a stamp has no grid and stays.

    Args:
        arrival_s: (N,), non-decreasing.
    """
    stamps, counts = np.unique(arrival_s, return_counts=True)
    if len(stamps) < 2 or len(arrival_s) < 2 * len(stamps):
        return arrival_s
    step = np.diff(stamps)
    width = np.minimum(np.append(step, np.median(step)), np.median(step))
    bucket = np.repeat(np.arange(len(stamps)), counts)
    share = np.random.Generator(np.random.PCG64(0)).random(len(arrival_s))
    return stamps[bucket] + width[bucket] * share[np.lexsort((share, bucket))]
