"""Prefix ids and stream transforms against slow references."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.envs.workload.requests.prefix import chain, densify, hit_tokens, shared_only
from gpuyard.envs.workload.requests.stream import RequestStream
from gpuyard.envs.workload.requests.transform import scale_rate, window

BLOCK = 4


def stream_of(paths):
    """Make a stream whose request i has the blocks paths[i] of 4 tokens each, and 2 more tokens."""
    n = len(paths)
    offsets = np.concatenate([[0], np.cumsum([len(path) for path in paths])]).astype(np.int64)
    blocks = np.array([block for path in paths for block in path], np.int64)
    lengths = np.diff(offsets).astype(np.int32) * BLOCK + 2
    return RequestStream(
        arrival_s=np.arange(n) * 0.5,
        prompt_tokens=lengths,
        output_tokens=np.ones(n, np.int32),
        max_tokens=np.ones(n, np.int32),
        session=np.arange(n, dtype=np.int32),
        prefix_offsets=offsets,
        prefix_ids=chain(offsets, blocks),
        prefix_block_tokens=BLOCK,
        priority=np.zeros(n, np.float32),
    )


def ids_of(stream):
    return [stream.prefix_ids[a:b].tolist() for a, b in pairwise(stream.prefix_offsets)]


paths_strategy = st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=12)


@given(paths_strategy)
@settings(deadline=None)
def test_chain_names_prefixes(paths):
    known = {}
    expected = [
        [known.setdefault(tuple(path[: j + 1]), len(known)) for j in range(len(path))]
        for path in paths
    ]
    assert ids_of(stream_of(paths)) == expected


@given(paths_strategy)
@settings(deadline=None)
def test_shared_only_keeps_what_can_hit_and_nothing_else(paths):
    stream = stream_of(paths)
    uses = Counter(stream.prefix_ids.tolist())
    shared = shared_only(stream)
    assert [len(ids) for ids in ids_of(shared)] == [
        sum(uses[name] > 1 for name in ids) for ids in ids_of(stream)
    ]
    assert all(count > 1 for count in Counter(shared.prefix_ids.tolist()).values())
    names = list(dict.fromkeys(shared.prefix_ids.tolist()))
    assert names == list(range(len(names)))
    assert hit_tokens(shared).tolist() == hit_tokens(stream).tolist()


def test_chain_keeps_ids_that_are_prefixes_already():
    offsets = np.array([0, 3, 5], np.int64)
    assert chain(offsets, np.array([900, 5, 6, 900, 7])).tolist() == [0, 1, 2, 0, 3]
    hashes = np.array([2**62, -5, 6, 2**62, 7])  # any 64-bit names
    assert chain(offsets, hashes).tolist() == [0, 1, 2, 0, 3]


def test_hit_tokens_by_hand():
    """A full hit leaves one block to compute where the prompt ends with it."""
    stream = stream_of([[1, 2], [1, 2, 3], [1, 9], [1, 2]])
    assert hit_tokens(stream).tolist() == [0, 8, 4, 8]
    exact = np.array([8, 12, 8, 8], np.int32)  # no tokens behind the last block
    assert hit_tokens(replace(stream, prompt_tokens=exact)).tolist() == [0, 8, 4, 4]


def test_densify():
    assert densify(np.array([7, 3, 7, 9], np.int32)).tolist() == [0, 1, 0, 2]


def test_window_rebases_time_and_ids():
    cut = window(stream_of([[0], [1, 2], [1, 3], [4]]), 1, 2)
    assert cut.arrival_s.tolist() == [0.0, 0.5]
    assert ids_of(cut) == [[0, 1], [0, 2]]
    assert cut.prompt_tokens.tolist() == [10, 10]


@pytest.mark.parametrize(("start", "n"), [(-1, 2), (0, 0), (2, 3)])
def test_window_outside(start, n):
    with pytest.raises(ValueError, match="does not lie inside a stream of 4"):
        window(stream_of([[0], [1], [2], [3]]), start, n)


def test_scale_rate():
    stream = stream_of([[0], [1], [2]])
    assert scale_rate(stream, 2.0).arrival_s.tolist() == [0.0, 0.25, 0.5]
    with pytest.raises(ValueError, match="factor = 0"):
        scale_rate(stream, 0)
