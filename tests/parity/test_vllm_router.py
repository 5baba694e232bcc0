"""Our rules against the decisions of vllm-router 0.1.17, one by one.

What the router keeps to itself (its ring, the prompts it sent, its loads) is kept here a second
time and shown to our policies as the columns of an observation. Needs the extra ``parity``.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from parity.hash_ring import HashRing, furc_hash, murmur64a
from parity.loopback import WORKERS, InFlight, Router
from routing_observations import observe, router

DECISIONS = 700  # per policy

needs_router = pytest.mark.skipif(
    importlib.util.find_spec("vllm_router") is None,
    reason="vllm-router is not installed: pip install gpuyard[parity]",
)

Tokens = list[int]


def test_hashes():
    """MurmurHash64A of nothing with seed 0 is 0; furc_hash of one class is class 0, of 10 any."""
    assert murmur64a(b"", 0) == 0
    assert furc_hash(b"anything", 1) == 0
    assert {furc_hash(b"%d" % key, 10) for key in range(400)} == set(range(10))


@needs_router
def test_round_robin():
    """The router goes through its workers in an order of its own: the first round tells it."""
    ours = router("round-robin", WORKERS)
    order: list[int] = []
    with Router("round_robin") as theirs:
        for number in range(WORKERS + DECISIONS):
            request = theirs.send("a prompt")
            request.finish()
            turn = int(ours.act(observe(in_flight=[0.0] * WORKERS))[0])
            if number < WORKERS:
                order.append(request.worker)
            assert order[turn] == request.worker
        assert sorted(order) == list(range(WORKERS))


@needs_router
def test_consistent_hash():
    ours = router("consistent-hash", WORKERS)
    with Router("consistent_hash") as theirs:
        ring = HashRing(theirs.urls)
        for number in range(DECISIONS):
            session = f"session-{number * 7919 % 400}"
            request = theirs.send("a prompt", session)
            request.finish()
            home = np.eye(WORKERS)[ring.home(f"header:x-session-id:{session}")]
            assert ours.act(observe(session_home=home)) == request.worker


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the longest common prefix."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


class Mirror:
    """What a cache-aware router remembers, in the order in which it goes through its workers."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order = list(order)
        self.loads = dict.fromkeys(order, 0)
        self.sent: dict[int, list[Tokens]] = {worker: [] for worker in order}

    def observation(self, prompt: Tokens) -> dict[str, np.ndarray]:
        """Return what our policy sees of the workers, in their order."""
        longest = [max((common(prompt, s) for s in self.sent[w]), default=0) for w in self.order]
        return observe(
            in_flight=[self.loads[w] for w in self.order],
            prefix_sent=np.array(longest) / len(prompt),
        )


@contextmanager
def cache_aware(*options: str) -> Iterator[tuple[Router, Mirror]]:
    """Start a cache-aware router and learn the order of its workers: each idle one is asked once.

    It goes through them in an order of its own, which decides between equal loads.
    """
    with Router("cache_aware", *options) as theirs:
        first = [[-1 - worker + 10**6] * 64 for worker in range(WORKERS)]
        held = [theirs.send(prompt) for prompt in first]
        mirror = Mirror([request.worker for request in held])
        for request, prompt in zip(held, first, strict=True):
            mirror.sent[request.worker].append(prompt)
            request.finish()
        yield theirs, mirror


@needs_router
@pytest.mark.parametrize(("absolute", "relative"), [(4, 1.5), (32, 1.1)])
def test_cache_aware(absolute, relative):
    """Families of prompts with common beginnings, up to 24 of them in flight at once."""
    rng = random.Random(0)
    rule = {"balance_abs_threshold": absolute, "balance_rel_threshold": relative}
    ours = router("cache-aware", WORKERS, cache_threshold=0.5, **rule)
    options = [f"--{option.replace('_', '-')}={value}" for option, value in rule.items()]
    flying: list[InFlight] = []
    with cache_aware("--cache-threshold=0.5", *options) as (theirs, mirror):
        for number in range(DECISIONS):
            family, shared = rng.randrange(12), rng.choice((16, 32, 48))
            prompt = [1000 + family] * shared + [number] * (64 - shared)
            expected = mirror.order[int(ours.act(mirror.observation(prompt))[0])]
            request = theirs.send(prompt)
            assert request.worker == expected, f"decision {number}"
            mirror.loads[request.worker] += 1
            mirror.sent[request.worker].append(prompt)
            flying.append(request)
            while len(flying) > rng.randrange(1, 25):
                done = flying.pop(rng.randrange(len(flying)))
                done.finish()
                mirror.loads[done.worker] -= 1
        for request in flying:
            request.finish()
