"""The signs of public reports on routing in rollouts that show here, each in a world of its kind.

``benchmarks/rollout_signs.py`` has the sources, and all signs with their intervals.
"""

from __future__ import annotations

from typing import Any

import calls
import numpy as np
import pytest
import rollout_signs as signs


@pytest.fixture(autouse=True)
def fewer_steps(monkeypatch) -> None:
    """Play some of the steps only; their rules meet the same sessions."""
    worlds = {name: (make, min(count, 3)) for name, (make, count) in signs.WORLDS.items()}
    monkeypatch.setattr(signs, "WORLDS", worlds)
    monkeypatch.setattr(calls, "_results", {})


def changes(name: str, new: str, old: str, **options: Any) -> np.ndarray:
    """Return by how much the makespan of each step changes from an old rule to a new one."""
    return signs.makespans(name, new, **options) / signs.makespans(name, old) - 1.0


def test_hashing_spirals_where_kv_is_full() -> None:
    """At the fullest engine nearly nothing is found in its worst minutes, elsewhere all is."""
    for episode in signs.play("four-80", "consistent-hash"):
        hits = [episode.hits(replica) for replica in range(4)]
        full, free = int(np.argmin(hits)), int(np.argmax(hits))
        assert episode.least_hits(full) < 0.2 < 0.8 < episode.least_hits(free)
        assert episode.token_s(full) > 2.0 * episode.token_s(free)


def test_a_gate_at_four_hurts_with_long_contexts_and_many_sessions() -> None:
    """verl 6533: 18 to 20 % slower, as contexts are computed again and load is hardly more even."""
    assert (changes("crowd", "session-gate", "sticky-least-loaded") > 0.05).all()
    stays, gate = signs.play("crowd", "sticky-least-loaded"), signs.play("crowd", "session-gate")
    assert np.mean([e.hits() for e in gate]) < np.mean([e.hits() for e in stays]) - 0.03


def test_a_margin_of_two_helps_where_few_sessions_are_long() -> None:
    """verl 7435: long ones no longer stay together while other engines go idle."""
    assert (changes("tail", "session-margin", "sticky-least-loaded", margin=2) < 0.0).all()
    stays = signs.play("tail", "sticky-least-loaded")
    moves = signs.play("tail", "session-margin", (("margin", 2),))
    assert np.mean([e.info["imbalance"] for e in moves]) < np.mean(
        [e.info["imbalance"] for e in stays]
    )


def test_cache_aware_routing_beats_hashing_at_equal_hits(monkeypatch) -> None:
    """NeMo-RL 3663: by 10.9 %; hashing leaves the number of sessions on an engine to chance."""
    monkeypatch.setitem(signs.WORLDS, "replay", (signs.replay, 2))
    assert -0.2 < changes("replay", "cache-aware", "consistent-hash").mean() < -0.03
    hashed, aware = signs.play("replay", "consistent-hash"), signs.play("replay", "cache-aware")
    hits = [np.mean([e.hits() for e in steps]) for steps in (hashed, aware)]
    assert hits[1] == pytest.approx(hits[0], abs=0.01)
    assert np.mean([e.info["imbalance"] for e in aware]) < np.mean(
        [e.info["imbalance"] for e in hashed]
    )


def test_counting_requests_leaves_a_good_part_of_the_makespan() -> None:
    """torchtitan 3755, vllm-omni 5135: 18 to 34 %; who counts nothing else moves sessions."""
    saved = -changes("four-64", "kv-aware", "least-requests")
    assert 0.1 < saved.mean() < 0.35


def test_sticky_sessions_end_sooner_than_hashed_ones_at_middle_load() -> None:
    """SkyRL 1791: the mean group by 41.8 %; here by less."""
    sticky, hashed = (
        signs.groups_s("four-80", rule) for rule in ("sticky-least-loaded", "consistent-hash")
    )
    assert (sticky < hashed).mean() > 0.5 and sticky.mean() < 0.95 * hashed.mean()
