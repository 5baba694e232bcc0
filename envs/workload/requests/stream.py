"""A stream of requests as plain arrays: what every reader and generator returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .steps import Steps


@dataclass(frozen=True)
class RequestStream:
    """Requests in order of arrival; turns that wait for an answer stand behind all others.

    Attributes:
        arrival_s: float64 (N,), seconds, non-decreasing, first >= 0; NaN for turns that wait.
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
        think_s: float64 (N,), seconds from the answer to the request before in the same session to
            the arrival of this one, NaN: it arrives by the clock. None: all do. For the first turn
            of a session the seconds from the begin of its step, or from the answer that starts it.
        prefix_at: int64 (N,), where each one's ids begin, if turns of a session, which never
            overlap, have them in one place; ``prefix_offsets`` then says only how many there are.
        client: int32 (N,), number of who sent it, or 0 for all.
        client_names: of the clients by number, if a trace tells them.
        deadline_s: float64 (N,), seconds from its arrival until it expires, NaN: it states none.
            None: none states any.
        image: int32 (N,), id of the image that each one brings, -1: none. None: nobody does.
        image_size: int32 (N,), which of its workload's sizes that has.
        steps: of rollouts; each has as many sessions, whose first turns stand first, step by step.
        forks: FORK (K,), turns that start sub-sessions; None: none does.
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
    think_s: NDArray[np.float64] | None = None
    prefix_at: NDArray[np.int64] | None = None
    client: NDArray[np.int32] | int = 0
    client_names: tuple[str, ...] = ()
    deadline_s: NDArray[np.float64] | None = None
    image: NDArray[np.int32] | None = None
    image_size: NDArray[np.int32] | None = None
    steps: Steps | None = None
    forks: NDArray[np.void] | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)

    def expires_s(self, default_s: float) -> NDArray[np.float64]:
        """Return when each request expires, float64 (N,), inf: never; of turns, after how long.

        Args:
            default_s: seconds from its arrival for those that state none, 0: they never do.
        """
        left_s = np.full(len(self), default_s if default_s > 0 else np.inf)
        if self.deadline_s is not None:
            left_s = np.where(np.isnan(self.deadline_s), left_s, self.deadline_s)
        begin_s = np.where(np.isnan(self.arrival_s), 0.0, self.arrival_s)
        return np.where(np.isinf(left_s), np.inf, begin_s + left_s)

    @property
    def prefix_begin(self) -> NDArray[np.int64]:
        """Where the ids of each request begin in ``prefix_ids``, int64 (N,)."""
        return self.prefix_offsets[:-1] if self.prefix_at is None else self.prefix_at
