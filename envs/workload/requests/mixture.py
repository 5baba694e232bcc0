"""Requests of several services, merged in order of arrival."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .source import Workload
from .stream import RequestStream


@dataclass(frozen=True)
class Mixture:
    """What several services are asked, as one workload.

    Sessions and prefixes of different services differ.

    Attributes:
        parts: the workload of each service.
        begin_s: seconds into the episode at which each of them begins.
    """

    parts: tuple[Workload, ...]
    begin_s: tuple[float, ...]

    @property
    def num_requests(self) -> int:
        """Requests per episode."""
        return sum(part.num_requests for part in self.parts)

    @property
    def num_sessions(self) -> int:
        """Sessions of an episode that answer back at most."""
        return sum(part.num_sessions for part in self.parts)

    @property
    def num_steps(self) -> int:
        """Steps of rollouts in an episode: services have one."""
        return 1

    def sample(self, rng: np.random.Generator) -> RequestStream:
        """Return the requests of one episode; ``service`` says whose each one is."""
        streams = [part.sample(rng) for part in self.parts]
        return merged(
            [
                replace(stream, arrival_s=stream.arrival_s + begin_s)
                for stream, begin_s in zip(streams, self.begin_s, strict=True)
            ]
        )

    @property
    def compiled(self) -> tuple[Any, ...]:
        """Compiled functions that :meth:`sample` runs."""
        return tuple(dict.fromkeys(f for part in self.parts for f in part.compiled))

    def rehearse(self) -> None:
        """Draw a few requests, to have everything compiled that draws them."""
        for part in self.parts:
            part.rehearse()

    @property
    def room(self) -> tuple[int, int]:
        """Bounds on the prefix ids of an episode: all of its requests', and distinct ones."""
        rooms = [part.room for part in self.parts]
        return sum(ids for ids, _ in rooms), sum(distinct for _, distinct in rooms)

    def mean_lengths(self) -> tuple[float, float]:
        """Return the mean prompt and output tokens over all requests."""
        return self._mean_lengths

    @cached_property
    def _mean_lengths(self) -> tuple[float, float]:
        counts = np.array([part.num_requests for part in self.parts], float)
        lengths = np.array([part.mean_lengths() for part in self.parts])
        prompt, output = counts @ lengths / counts.sum()
        return float(prompt), float(output)


def merged(streams: list[RequestStream]) -> RequestStream:
    """Return the requests of several services' streams in order of arrival, then of services.

    Turns that wait for an answer stand last, those of a session in their order.
    """
    counts = [len(stream) for stream in streams]
    order = np.argsort(np.concatenate([s.arrival_s for s in streams]), kind="stable")

    def joined(name: str) -> Any:
        return np.concatenate([getattr(stream, name) for stream in streams])[order]

    first_id = np.cumsum([0, *(int(s.prefix_ids.max(initial=-1)) + 1 for s in streams[:-1])])
    first_session = np.cumsum([0, *(int(s.session.max(initial=-1)) + 1 for s in streams[:-1])])
    ids = np.concatenate([s.prefix_ids + i for s, i in zip(streams, first_id, strict=True)])
    sessions = [
        np.where(s.session >= 0, s.session + first, -1)
        for s, first in zip(streams, first_session, strict=True)
    ]
    begin = np.cumsum([0, *(len(s.prefix_ids) for s in streams[:-1])])
    starts = np.concatenate([s.prefix_begin + b for s, b in zip(streams, begin, strict=True)])
    lengths = np.concatenate([np.diff(s.prefix_offsets) for s in streams])[order]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    answers: dict[str, Any] = {}
    if any(stream.think_s is not None for stream in streams):  # whose ids stay where they are
        waits = [np.full(len(s), np.nan) if s.think_s is None else s.think_s for s in streams]
        answers = {"think_s": np.concatenate(waits)[order], "prefix_at": starts[order]}
    else:
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        ids = ids[np.repeat(starts[order], lengths) + within]
    images: dict[str, Any] = {}
    if any(stream.image is not None for stream in streams):  # ids are each service's own
        for name, none in (("image", -1), ("image_size", 0)):
            parts = [getattr(s, name) for s in streams]
            parts = [
                np.full(n, none) if p is None else p for n, p in zip(counts, parts, strict=True)
            ]
            images[name] = np.concatenate(parts)[order].astype(np.int32)
    return RequestStream(
        arrival_s=joined("arrival_s"),
        prompt_tokens=joined("prompt_tokens"),
        output_tokens=joined("output_tokens"),
        max_tokens=joined("max_tokens"),
        session=np.concatenate(sessions)[order].astype(np.int32),
        prefix_offsets=offsets.astype(np.int64),
        prefix_ids=ids.astype(np.int32),
        prefix_block_tokens=0,  # each service has its own
        priority=joined("priority"),
        service=np.repeat(np.arange(len(streams)), counts)[order].astype(np.int32),
        **answers,
        **images,
    )
