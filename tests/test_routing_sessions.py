"""Routers that keep a session where it is until that costs too much."""

from __future__ import annotations

import pytest
from routing_observations import choice, observe

from gpuyard import baselines


def at(place: int, load: list[int], **columns):
    return observe(session_last=[int(r == place) for r in range(3)], in_flight=load, **columns)


def test_session_margin_asks_about_its_own_replica():
    """verl 7435: pinned while within the margin of the least loaded, else re-pinned there."""
    load = [6, 4, 1]
    assert choice("session-margin", at(0, load), 3, margin=5) == 0
    assert choice("session-margin", at(0, load), 3, margin=4) == 2
    assert choice("session-margin", at(1, load), 3, margin=3) == 1
    assert choice("session-margin", at(1, load), 3) == 2  # 2 by default
    assert choice("session-margin", at(0, load, mask=[1, 1, 0]), 3) == 0  # 4 is the least left
    new = observe(in_flight=[2, 1, 1], session_home=[1, 0, 1])
    assert choice("session-margin", new, 3) == 2


def test_session_gate_asks_about_all_replicas():
    """verl 6533: one crowded replica lets a session leave another; at the threshold it does not."""
    assert choice("session-gate", at(1, [6, 4, 1]), 3) == 2
    assert choice("session-gate", at(1, [5, 4, 1]), 3) == 1
    strict = {"balance_abs_threshold": 4, "balance_rel_threshold": 1.5}
    assert choice("session-gate", at(1, [16, 14, 11]), 3, **strict) == 1  # 16 is not above 16.5
    assert choice("session-gate", at(1, [17, 14, 11]), 3, **strict) == 2


def test_length_aware_moves_where_that_pays():
    columns = {"work_s": [3.0, 1.0, 1.5], "prefill_s": [0.1, 1.2, 1.2]}
    stays = at(0, [1, 9, 9], **columns)
    assert choice("length-aware", stays, 3, margin_s=1.0) == 0
    assert choice("length-aware", stays, 3, margin_s=0.5) == 1
    assert choice("length-aware", observe(**columns), 3) == 1


@pytest.mark.parametrize(
    ("name", "option"),
    [("session-margin", "margin"), ("session-gate", "balance_abs_threshold")],
)
def test_negative_thresholds_are_refused(name, option):
    with pytest.raises(ValueError, match=f"{name}: {option} = -1 must be a finite number, 0 or"):
        baselines.make(f"routing/{name}", **{option: -1})
