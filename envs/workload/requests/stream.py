"""A stream of requests as plain arrays: what every reader and generator returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RequestStream:
    """Requests in order of arrival.

    Attributes:
        arrival_s: float64 (N,), seconds, non-decreasing, first >= 0.
        prompt_tokens: int32 (N,), >= 1.
        output_tokens: int32 (N,), >= 1.
        max_tokens: int32 (N,), >= output_tokens: the bound on the output that the request states.
        session: int32 (N,), id of the conversation, -1 where unknown.
        prefix_offsets: int64 (N + 1,); request i owns ``prefix_ids[offsets[i]:offsets[i + 1]]``.
        prefix_ids: int32 (M,); the j-th id of a request stands for its first
            ``(j + 1) * prefix_block_tokens`` tokens (prompt first, then output): equal ids mean an
            equal prefix. Only whole blocks have ids.
        prefix_block_tokens: tokens per id; 0 if the stream has no prefix information.
        priority: float32 (N,), in [0, 1].
        service: int32 (N,), whose each one is, or 0 for all.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    max_tokens: NDArray[np.int32]
    session: NDArray[np.int32]
    prefix_offsets: NDArray[np.int64]
    prefix_ids: NDArray[np.int32]
    prefix_block_tokens: int
    priority: NDArray[np.float32]
    service: NDArray[np.int32] | int = 0

    def __len__(self) -> int:
        return len(self.arrival_s)
