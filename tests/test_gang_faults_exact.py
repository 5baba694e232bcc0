"""Nodes that fail under training gangs, against the naive reference: same work lost, same times."""

from __future__ import annotations

from collections import Counter

import cluster_sweep


def played(where: str, *seeds: int) -> Counter[str]:
    """Compare worlds; returns how many runs of gangs failed and were preempted in them."""
    total: Counter[str] = Counter()
    for seed in seeds:
        found = cluster_sweep.compare(seed, where)
        assert found["verdict"] == "equal", found
        total.update({name: found[name] for name in ("failed", "preempted")})
    return total


def test_nodes_fail_under_gangs_that_share_links_with_transfers() -> None:
    """Gangs run, start again, wait meanwhile; replicas are hit, scaled and change roles, too."""
    total = played("failing gangs", *range(2003, 2007), *range(2012, 2015))
    assert total["failed"] > 80 and total["preempted"] == 0


def test_gangs_and_replicas_are_preempted_where_nodes_fail() -> None:
    total = played("all at once", 2003)
    assert total["failed"] > 10 and total["preempted"] > 5


def test_a_run_that_saves_nothing_is_told_from_one_that_does(monkeypatch) -> None:
    """The reference would notice an engine that counts what is lost otherwise."""
    by_reference = cluster_sweep.by_reference

    def forgetful(case, world, changes, gangs, *given):
        for gang in gangs:
            gang.checkpoint_s = 0.0
        return by_reference(case, world, changes, gangs, *given)

    assert cluster_sweep.drawn(2005, "failing gangs")[0].checkpoint_s > 0.0
    monkeypatch.setattr(cluster_sweep, "by_reference", forgetful)
    assert cluster_sweep.compare(2005, "failing gangs")["verdict"] == "different"
