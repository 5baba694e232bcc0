"""Sessions that a trace has, and which of them an episode has.

Files and what they say of sessions: :mod:`.session_files`, :mod:`.dynamo_turns`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .steps import ONE_STEP, Steps, check_concurrency, waiting_for_others
from .stream import RequestStream


@dataclass(frozen=True)
class RecordedSessions:
    """Sessions of a trace; an episode has some that follow each other in order of their begin.

    Attributes:
        stream: all requests, session by session, turn by turn, those that a session starts behind
            it; ``arrival_s`` is when a session begins, NaN for further turns and where another one
            starts it. The first of its ``forks`` are rows of it.
        sessions: of a step, without those that others start.
        starts: "trace": when they did in the trace, the first at 0; "waves": wave by wave.
        wave: sessions that begin together; 0: all do.
        wave_s: seconds between two waves.
        max_concurrency: sessions open at once, a further one begins when one ends; 0: any number.
        steps: of rollouts.
    """

    stream: RequestStream
    sessions: int
    starts: str = "waves"
    wave: int = 0
    wave_s: float = 0.0
    max_concurrency: int = 0
    steps: Steps = ONE_STEP

    def __post_init__(self) -> None:
        check_concurrency(self.max_concurrency, self.steps)

    @property
    def own_sessions(self) -> int:
        """Sessions of an episode, without those that others start."""
        return self.sessions * self.steps.count

    @property
    def num_sessions(self) -> int:
        """Sessions of an episode at most, those that others start among them."""
        begun = np.append(np.cumsum(self._begins)[self._first], self._begins.sum() + 1)
        return int((begun[self.own_sessions :] - begun[: -self.own_sessions]).max())

    @property
    def prefix_block_tokens(self) -> int:
        """Tokens per prefix id, 0 if there are none."""
        return self.stream.prefix_block_tokens

    @property
    def longest(self) -> int:
        """Most prompt and output tokens of a request."""
        return int((self.stream.prompt_tokens.astype(np.int64) + self.stream.max_tokens).max())

    @property
    def room(self) -> tuple[int, int, int]:
        """Bounds for one episode: its requests, their prefix ids, and distinct ones."""
        first = np.append(self._first, len(self.stream))
        ids = len(self.stream.prefix_ids)
        distinct = int(self.stream.prefix_ids.max(initial=-1)) + 1
        count = self.own_sessions
        return int((first[count:] - first[:-count]).max()), ids, distinct

    @property
    def _first(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.isnan(self._think_s))

    @property
    def _begins(self) -> NDArray[np.bool_]:
        return np.diff(self.stream.session, prepend=-1) != 0

    @property
    def _think_s(self) -> NDArray[np.float64]:
        assert self.stream.think_s is not None
        return self.stream.think_s

    def sample(self, rng: np.random.Generator) -> RequestStream:
        """Return the sessions of one episode, from a random one on."""
        roots = np.append(self._first, len(self.stream))
        begin = int(rng.integers(len(roots) - self.own_sessions))
        rows = np.arange(roots[begin], roots[begin + self.own_sessions])
        stream, begins, is_root = self.stream, self._begins[rows], np.isnan(self._think_s[rows])
        order = np.argsort(np.where(is_root, 0, np.where(begins, 1, 2)), kind="stable")
        place = np.argsort(order)
        session = place[begins][np.cumsum(begins) - 1]  # numbers are places of first turns
        counts = np.diff(stream.prefix_offsets)[rows[order]]
        arrival_s, think_s = waiting_for_others(
            self._think_s[rows[order]],
            self._begins_s(stream.arrival_s[rows[is_root]]),
            min(self.max_concurrency, self.sessions) or self.sessions,
        )
        forks = _moved(stream.forks, int(rows[0]), place)
        rows = rows[order]
        return replace(
            stream,
            arrival_s=arrival_s,
            prompt_tokens=stream.prompt_tokens[rows],
            output_tokens=stream.output_tokens[rows],
            max_tokens=stream.max_tokens[rows],
            session=session[order].astype(np.int32),
            prefix_offsets=np.concatenate([[0], np.cumsum(counts)]),
            priority=stream.priority[rows],
            think_s=think_s,
            prefix_at=stream.prefix_begin[rows],
            steps=self.steps,
            forks=forks,
        )

    def _begins_s(self, begins_s: NDArray[Any]) -> NDArray[Any]:
        """Return when sessions begin after the first of their step, or of their turn in the line.

        Args:
            begins_s: when they did in the trace (S,).
        """
        if self.starts == "waves":
            wave = np.arange(len(begins_s)) % self.sessions // (self.wave or len(begins_s))
            begins_s = wave * self.wave_s
        begins_s = begins_s - np.repeat(begins_s[:: self.sessions], self.sessions)
        if self.max_concurrency:
            begins_s[self.max_concurrency :] = 0.0
        return begins_s


def _moved(
    forks: NDArray[np.void] | None, begin: int, place: NDArray[np.int64]
) -> NDArray[np.void] | None:
    """Return the forks of a window of rows by the places that its rows have now; None: none."""
    if forks is None:
        return None
    inside = (forks["parent"] >= begin) & (forks["parent"] < begin + len(place))
    found = forks[inside].copy()
    for name in ("parent", "first"):
        found[name] = place[found[name] - begin]
    return found if len(found) else None
