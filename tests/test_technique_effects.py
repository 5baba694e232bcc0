"""Effects of techniques that other tests do not hold: the right way, and of a plausible size.

Those of kernels, quantisation, layouts, vision, drafts and of every switch stand in
``test_techniques_*.py``, ``test_speculation_engine.py`` and ``test_technique_examples.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import technique_batching
import technique_prefix
from technique_batching import OPT, STATIC


def test_continuous_and_paged_over_static_and_contiguous() -> None:
    """2 to 20 times the rate of static batching; 2 to 4 times the batch in a cache of one size."""
    requests = technique_batching.sharegpt(200)
    rate, used = {}, {}
    for name, replica in (
        ("paged", OPT),
        ("contiguous", {**OPT, "kv_reservation": "contiguous"}),
        ("static", {**OPT, **STATIC}),
    ):
        shares: list[float] = []
        rate[name] = technique_batching.rate_per_s(
            technique_batching.play(replica, requests, shares)
        )
        used[name] = float(np.mean(shares))
    assert 2.0 < rate["contiguous"] / rate["static"] < rate["paged"] / rate["static"] < 20.0
    assert 2.0 < used["paged"] / used["contiguous"] < 4.5


def test_prefix_hits_of_mooncakes_conversations_by_the_size_of_the_cache() -> None:
    """A third of all blocks if nothing is forgotten, and less the less the cache holds."""
    if not technique_prefix.TRACE.exists():
        pytest.skip("the trace is not at hand")
    stream = technique_prefix.one_by_one()
    known = technique_prefix.ideal(stream)
    hits = [technique_prefix.hit_ratio(stream, blocks) for blocks in (1_000, 10_000, 500_000)]
    assert known == pytest.approx(0.35, abs=0.005)
    assert hits[2] == pytest.approx(known, rel=0.01)
    assert hits[0] < 0.5 * hits[1] < 0.5 * hits[2]
