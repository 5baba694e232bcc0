"""NVIDIA's feature stack of Kimi-K2.5: each step beats the one before, as published."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import technique_ladder


def test_the_ladder_is_in_order(monkeypatch) -> None:
    """Its total of 3.18 within 25 %; a shorter hour than that of the page, of one seed."""
    for name, value in (("WARM_S", 300.0), ("END_S", 1200.0), ("SESSIONS", 8)):
        monkeypatch.setattr(technique_ladder, name, value)
    rates = [
        technique_ladder.tokens_per_gpu_s(make(), policy, seed=0)
        for make, policy, _ in technique_ladder.STACK.values()
    ]
    assert all(later > before for before, later in pairwise(rates))
    assert rates[-1] / rates[0] == pytest.approx(5_400 / 1_700, rel=0.25)
