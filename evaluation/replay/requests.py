"""Records in which phase each request is, from its arrival to its last token.

Arrivals, first and last tokens, moments of routing and arrivals of KV caches are exact. When a
request leaves the queue of its replica the engine does not note: it is taken to do so when it was
last seen there, or, if it is only seen again with its first token, no earlier than the step that
ended with the first token before it on that replica. That it was preempted is noted when it is
seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.scene import REQUEST_PHASES

from .episode import STAY

if TYPE_CHECKING:
    from gpuyard.envs.scene import Scene

ROUTER, QUEUE, PREFILL, TRANSFER, DECODE, DONE = range(len(REQUEST_PHASES))


class RequestRecorder:
    """Follows requests from scene to scene; give it those in which replicas are up to date.

    Args:
        num_requests: of the episode.
        num_replicas: that there may be.
    """

    def __init__(self, num_requests: int, num_replicas: int) -> None:
        self._phase = np.full(num_requests, -1, np.int32)  # -1: has not been seen
        self._replica = np.full(num_requests, -1, np.int32)
        self._since_s = np.full(num_requests, np.nan)
        self._has_token = np.zeros(num_requests, np.bool_)
        self._tokens_s = [(-np.inf, -np.inf)] * num_replicas  # last first tokens of each
        self._before_s = 0.0
        self._rows: list[tuple[int, int, int, float, float]] = []
        self.first = 0
        """The first request that has not been seen finished."""

    def look(self, scene: Scene) -> None:
        """Note what has happened since the last scene."""
        rows, first = scene.requests, scene.first_request
        here = slice(first, first + len(rows))
        has_token = np.isfinite(rows["first_token_s"])
        moved = (rows["phase"] != self._phase[here]) | (rows["replica"] != self._replica[here])
        moved |= has_token & ~self._has_token[here]
        self._has_token[here] = has_token
        changed = np.flatnonzero(moved & (self._phase[here] != DONE))
        for at in changed[np.argsort(rows["first_token_s"][changed], kind="stable")].tolist():
            self._follow(first + at, rows[at], scene.now_s)
        self._before_s = scene.now_s
        while self.first < len(self._phase) and self._phase[self.first] == DONE:
            self.first += 1

    def all(self, end_s: float) -> NDArray[np.void]:
        """Return STAY records by request and time; what is open lasts to the end of the episode."""
        for number in np.flatnonzero((self._phase >= 0) & (self._phase != DONE)).tolist():
            self._enter(number, DONE, -1, end_s)
        return np.array(sorted(self._rows, key=lambda row: (row[0], row[3])), STAY)

    def _follow(self, number: int, row: np.void, now_s: float) -> None:
        """Let a request go through the phases that it has entered since it was seen."""
        if self._phase[number] < 0:
            self._phase[number], self._since_s[number] = ROUTER, row["arrival_s"]
        to, last, moves_on = int(row["phase"]), int(self._phase[number]), row["source"] >= 0
        way = [phase for phase in range(last + 1, to + 1) if phase != TRANSFER or moves_on]
        if ROUTER < last < DECODE > to and row["first_token_s"] > self._since_s[number]:
            way = [DECODE, to]  # it was decoded for a while and thrown out, both unseen
        for phase in way or (to,):  # back, or from one replica to another
            replica = row["source"] if moves_on and phase < TRANSFER else row["replica"]
            if phase == DECODE > to:
                replica = self._replica[number]
            begin_s = self._begin_s(number, phase, to, row, now_s)
            self._enter(number, phase, int(replica), begin_s)
        self._replica[number] = row["replica"]
        self._note_token(int(row["replica"]), float(row["first_token_s"]))

    def _note_token(self, replica: int, token_s: float) -> None:
        """Remember when the last first tokens came of a replica, two different moments."""
        if replica >= 0 and token_s > self._tokens_s[replica][1]:
            self._tokens_s[replica] = self._tokens_s[replica][1], token_s

    def _begin_s(self, number: int, phase: int, to: int, row: np.void, now_s: float) -> float:
        """Return when a phase on a request's way to phase ``to`` began."""
        token_s, moves_on = float(row["first_token_s"]), row["source"] >= 0
        if phase == DONE:
            return float(row["finish_s"])
        if phase == DECODE:
            exact_s = float(row["landed_s"]) if moves_on else token_s
            return exact_s if exact_s > self._since_s[number] else self._before_s
        if phase == ROUTER or (phase == TRANSFER and row["replica"] < 0):
            return now_s  # its prompt is computed, or its replica lost: it is decided at once
        if phase == QUEUE and self._phase[number] > QUEUE:
            return now_s  # it was preempted
        if phase == PREFILL and to > PREFILL and not moves_on:
            before_s, last_s = self._tokens_s[row["replica"]]
            return max(self._before_s, last_s if last_s < token_s else before_s)
        return self._before_s

    def _enter(self, number: int, phase: int, replica: int, begin_s: float) -> None:
        """Let a phase begin, no earlier than the one before, and note that one."""
        since_s = float(self._since_s[number])
        begin_s = max(begin_s, since_s)
        if begin_s > since_s:
            last, where = int(self._phase[number]), int(self._replica[number])
            self._rows.append((number, last, where, since_s, begin_s))
        self._phase[number], self._replica[number] = phase, replica
        self._since_s[number] = begin_s
