"""Encode replicas once more: naive, event by event, one object per image on its way."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from reference_images import Picture
from reference_kv import Request
from reference_serving import simulate
from reference_steps import ReplicaSpec, Result

from gpuyard.envs.perf.serving.cost_table import CostTable


@dataclass
class Job:
    """An image that an encode replica is to encode, and the requests that wait for it."""

    picture: Picture
    requests: list[int]
    encoded_s: float = math.inf


class Line:
    """A server that takes one job after another."""

    def __init__(self, pool: Pool, seconds: str, then: Callable[[Job], None]) -> None:
        self.pool, self.seconds, self.then = pool, seconds, then
        self.jobs: deque[Job] = deque()

    def put(self, job: Job) -> None:
        self.jobs.append(job)
        if len(self.jobs) == 1:
            self.begin()

    def begin(self) -> None:
        self.pool.at(self.pool.now + getattr(self.jobs[0].picture, self.seconds), self.end)

    def end(self) -> None:
        job = self.jobs.popleft()
        if self.jobs:
            self.begin()
        self.then(job)


class Encoder:
    """One encode replica: a CPU that prepares, a GPU that encodes, and images kept by last use."""

    def __init__(self, pool: Pool, cache_tokens: int) -> None:
        self.pool, self.room = pool, cache_tokens
        self.gpu = Line(pool, "encode_s", self.encoded)
        self.cpu = Line(pool, "prepare_s", self.gpu.put)
        self.kept: OrderedDict[int, Job] = OrderedDict()
        self.unfinished = 0
        self.images = 0

    def take(self, picture: Picture, request: int) -> None:
        job = Job(picture, [request])
        if self.room:
            while (
                sum(kept.picture.tokens for kept in self.kept.values()) + picture.tokens > self.room
            ):
                self.kept.popitem(last=False)
            self.kept[picture.id] = job
        self.unfinished += 1
        self.images += 1
        self.cpu.put(job)

    def used(self) -> int:
        return sum(job.picture.tokens for job in self.kept.values())

    def show(self, picture: Picture, request: int) -> None:
        """Let a request have an image that is kept, or waited for."""
        self.kept.move_to_end(picture.id)
        job = self.kept[picture.id]
        if job.encoded_s <= self.pool.now:
            self.pool.encoded_s[request] = self.pool.now
        else:
            job.requests.append(request)

    def encoded(self, job: Job) -> None:
        self.unfinished -= 1
        job.encoded_s = self.pool.now
        for request in job.requests:
            self.pool.encoded_s[request] = self.pool.now


class Pool:
    """Encode replicas and the moments at which something ends on them."""

    def __init__(self, count: int, cache_tokens: int) -> None:
        self.now, self.events, self.number = 0.0, [], 0
        self.encoders = [Encoder(self, cache_tokens) for _ in range(count)]
        self.encoded_s: dict[int, float] = {}
        self.went: dict[int, int] = {}
        self.encoded: set[int] = set()

    def at(self, moment_s: float, event: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.events, (moment_s, self.number, event))

    def advance(self, until_s: float) -> None:
        while self.events and self.events[0][0] <= until_s:
            self.now, _, event = heapq.heappop(self.events)
            event()
        self.now = until_s

    def send(self, now: float, picture: Picture, request: int) -> None:
        self.advance(now)
        for p, encoder in enumerate(self.encoders):
            if picture.id in encoder.kept:
                self.went[request] = p
                encoder.show(picture, request)
                return
        encoder = min(self.encoders, key=lambda encoder: encoder.unfinished)  # the first of equals
        self.went[request] = self.encoders.index(encoder)
        self.encoded.add(request)
        encoder.take(picture, request)


def simulate_apart(
    pool: Pool,
    pictures: Sequence[Picture | None],
    link: tuple[float, float],
    specs: Sequence[ReplicaSpec],
    costs: Sequence[CostTable],
    requests: Sequence[Request],
    assignment: Sequence[int],
) -> tuple[Result, list[float]]:
    """Serve ``requests`` as :func:`reference_serving.simulate` does, images encoded apart.

    Args:
        pool: encode replicas that have nothing to do.
        pictures: of each request, None: it brings none.
        link: seconds to send embeddings, at first and for each visual token.
        specs: of the replicas.
        costs: of the replicas.
        requests: in order of arrival.
        assignment: the replica of each.

    Returns:
        What became of them, and when each one's embeddings were there.
    """
    for index, (request, picture) in enumerate(zip(requests, pictures, strict=True)):
        if picture:
            pool.send(request.arrival_s, picture, index)
    pool.advance(math.inf)
    here_s = [
        pool.encoded_s[index] + link[0] + link[1] * picture.tokens if picture else request.arrival_s
        for index, (request, picture) in enumerate(zip(requests, pictures, strict=True))
    ]
    order = sorted(range(len(requests)), key=lambda index: here_s[index])  # stable
    moved = [replace(requests[index], arrival_s=here_s[index]) for index in order]
    found = simulate(specs, costs, moved, [assignment[index] for index in order])
    back = sorted(range(len(order)), key=lambda place: order[place])
    by_request = {
        name: [getattr(found, name)[place] for place in back]
        for name in ("first_token_s", "finish_s", "cached_tokens", "preemptions")
    }
    return replace(found, **by_request), here_s
