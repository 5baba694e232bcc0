"""The naive reference with images: a set of users per cached image, as vLLM's manager keeps it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reference_engine import Replica
from reference_kv import Request, Served
from reference_serving import validate
from reference_steps import ReplicaSpec, Result

from gpuyard.envs.perf.serving.cost_table import CostTable


@dataclass(frozen=True)
class Picture:
    """The image of a request: the first tokens of its prompt."""

    id: int
    tokens: int
    encode_s: float
    prepare_s: float


class EncoderCache:
    """Encoded images and who needs them; those that nobody does in order of their last need."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.users: dict[int, set[int]] = {}
        self.sizes: dict[int, int] = {}
        self.idle: OrderedDict[int, None] = OrderedDict()

    def room_for(self, tokens: int) -> bool:
        needed = sum(self.sizes[image] for image, users in self.users.items() if users)
        return needed + tokens <= self.tokens

    def put(self, picture: Picture) -> None:
        while sum(self.sizes.values()) + picture.tokens > self.tokens:
            image, _ = self.idle.popitem(last=False)
            del self.users[image], self.sizes[image]
        self.users[picture.id], self.sizes[picture.id] = set(), picture.tokens

    def take(self, image: int, user: int) -> None:
        self.users[image].add(user)
        self.idle.pop(image, None)

    def leave(self, image: int, user: int) -> None:
        if user in self.users.get(image, ()):
            self.users[image].remove(user)
            if not self.users[image]:
                self.idle[image] = None


class SeeingReplica(Replica):
    """A replica whose steps encode the images of the requests that they admit."""

    def __init__(
        self,
        spec: ReplicaSpec,
        cost: CostTable,
        result: Result,
        pictures: Sequence[Picture | None],
        step_tokens: int,
        cache_tokens: int,
    ) -> None:
        super().__init__(spec, cost, result)
        self.pictures, self.step_tokens = pictures, step_tokens
        self.images = EncoderCache(cache_tokens)
        self.encoded = [0] * len(pictures)
        self.prepared_s: dict[int, float] = {}
        self.refusals = 0

    def try_to_admit(self, now: float, seq: Served, budget: int) -> int:
        picture = self.pictures[seq.index]
        missing = picture is not None and picture.id not in self.images.users
        if picture and missing:
            lacks_budget = self.encoding + picture.tokens > self.step_tokens
            if lacks_budget or not self.images.room_for(picture.tokens):
                self.refusals += 1
                return 0
        new = super().try_to_admit(now, seq, budget)
        if new > 0 and picture:
            if missing:
                self.images.put(picture)
                self.encoding += picture.tokens
                self.encode_s += picture.encode_s
                self.encoded[seq.index] += picture.tokens
            self.images.take(picture.id, seq.index)
        return new

    def preempt(self, now: float) -> Served:
        seq = super().preempt(now)
        if picture := self.pictures[seq.index]:
            self.images.leave(picture.id, seq.index)
        return seq

    def begin_step(self, start: float, seen: float) -> float:
        self.encoding, self.encode_s = 0, 0.0
        end = super().begin_step(start, seen) + self.encode_s
        self.under_way = replace(self.under_way, end_s=end)
        return end

    def end_step(self) -> None:
        prompts = [seq for seq in self.running if not self.decodes(seq)]
        super().end_step()
        for seq in prompts:
            picture = self.pictures[seq.index]
            if picture and seq.computed >= picture.tokens:
                self.images.leave(picture.id, seq.index)

    def run(self, arrivals: list[Served]) -> None:
        """Serve everything; the front end prepares one image after another."""
        prepared_s = -math.inf
        for seq in arrivals:
            prepared_s = max(prepared_s, seq.request.arrival_s)
            if picture := self.pictures[seq.index]:
                prepared_s += picture.prepare_s
            self.prepared_s[seq.index] = prepared_s
        super().run(arrivals)

    def ready_s(self, seq: Served) -> float:
        return self.prepared_s[seq.index] + self.spec.frontend_s


def simulate_images(
    spec: ReplicaSpec,
    cost: CostTable,
    pictures: Sequence[Picture | None],
    step_tokens: int,
    cache_tokens: int,
    requests: Sequence[Request],
) -> tuple[Result, SeeingReplica]:
    """Serve ``requests`` on one replica as :func:`reference_serving.simulate` does, with images."""
    n = len(requests)
    result = Result([math.nan] * n, [math.nan] * n, [-1] * n, [0] * n, [], [])
    validate([spec], requests, [0] * n)
    replica = SeeingReplica(spec, cost, result, pictures, step_tokens, cache_tokens)
    replica.run([Served(i, request) for i, request in enumerate(requests)])
    return result, replica
