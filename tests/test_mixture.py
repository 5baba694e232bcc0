"""Requests of several services in one stream: none lost, none mixed up."""

from __future__ import annotations

from itertools import chain

import numpy as np
from cluster_worlds import service, small
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.envs.workload.requests.mixture import merged
from gpuyard.envs.workload.requests.stream import RequestStream

DISTINCT = 5
"""Prefix ids of a service lie below this."""


def stream(size: int, seed: int) -> RequestStream:
    """Return a stream of requests, some of sessions and some with prefixes."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 4, size)
    tokens = rng.integers(1, 99, size).astype(np.int32)
    return RequestStream(
        arrival_s=np.sort(rng.integers(0, 10, size)).astype(float),
        prompt_tokens=tokens,
        output_tokens=tokens + 100,
        max_tokens=tokens + 200,
        session=rng.integers(-1, 3, size).astype(np.int32),
        prefix_offsets=np.cumsum([0, *lengths]).astype(np.int64),
        prefix_ids=rng.integers(0, DISTINCT, lengths.sum()).astype(np.int32),
        prefix_block_tokens=16,
        priority=tokens.astype(np.float32) / 100,
    )


SEEDS = st.tuples(st.integers(0, 6), st.integers(0, 2**32 - 1))
"""Arguments of :func:`stream`; drawing it itself takes so long that hypothesis complains."""


def prefixes(stream: RequestStream) -> list[list[int]]:
    """Return the prefix ids of every request."""
    pairs = zip(stream.prefix_offsets, stream.prefix_offsets[1:], strict=False)
    return [stream.prefix_ids[begin:end].tolist() for begin, end in pairs]


def renamed(names: list) -> list[int]:
    """Return each name's place of first appearance: equal where names are, whatever they are."""
    known: dict = {}
    return [known.setdefault(name, len(known)) for name in names]


@settings(max_examples=60, deadline=None)
@given(st.lists(SEEDS, min_size=1, max_size=4))
def test_a_mixture_is_its_parts_in_order_of_arrival(seeds):
    parts = [stream(*each) for each in seeds]
    mixed = merged(parts)
    assert len(mixed) == sum(len(part) for part in parts)
    assert mixed.prefix_offsets[-1] == len(mixed.prefix_ids)
    order = list(zip(mixed.arrival_s.tolist(), mixed.service.tolist(), strict=True))
    assert order == sorted(order), "by arrival, of equal ones the first service's"
    for number, part in enumerate(parts):
        mine = mixed.service == number
        for name in ("arrival_s", "prompt_tokens", "output_tokens", "max_tokens", "priority"):
            assert np.array_equal(getattr(mixed, name)[mine], getattr(part, name)), name
        mine_sessions = mixed.session[mine]
        assert ((mine_sessions < 0) == (part.session < 0)).all()
        assert renamed(mine_sessions.tolist()) == renamed(part.session.tolist())
        ids = [ids for ids, is_mine in zip(prefixes(mixed), mine, strict=True) if is_mine]
        assert renamed(list(chain(*ids))) == renamed(list(chain(*prefixes(part))))
        assert [len(each) for each in ids] == [len(each) for each in prefixes(part)]


@settings(max_examples=60, deadline=None)
@given(st.lists(SEEDS, min_size=2, max_size=4))
def test_services_share_neither_sessions_nor_prefixes(seeds):
    parts = [stream(*each) for each in seeds]
    mixed = merged(parts)
    sessions: dict[int, set[int]] = {}
    nodes: dict[int, set[int]] = {}
    for service_of, session, ids in zip(mixed.service, mixed.session, prefixes(mixed), strict=True):
        if session >= 0:
            sessions.setdefault(int(session), set()).add(int(service_of))
        for node in ids:
            nodes.setdefault(node, set()).add(int(service_of))
    assert all(len(owners) == 1 for owners in (*sessions.values(), *nodes.values()))


def test_a_scenario_asks_each_service_as_often_as_it_says():
    workload = {"preset": "chat", "num_requests": 30, "rate_per_s": 1.0, "max_tokens": 2048}
    scenario = small(service("chat"), service("code", workload=workload))
    stream = scenario.workload.sample(np.random.default_rng(0))
    assert np.bincount(stream.service).tolist() == [60, 30] and scenario.workload.num_requests == 90
    ids, distinct = scenario.workload.room
    assert len(stream.prefix_ids) <= ids and stream.prefix_ids.max(initial=0) < distinct
    means = [part.workload.mean_lengths() for part in scenario.services]
    expected = (60 * np.array(means[0]) + 30 * np.array(means[1])) / 90
    assert np.allclose(scenario.workload.mean_lengths(), expected)
