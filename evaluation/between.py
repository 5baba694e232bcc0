"""Two results side by side: what changed between them, paired by seed.

Both have played the same seeds, so what a seed makes hard for both cancels out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .metrics import METRICS, metric
from .report import COMPARED, by_scenario
from .rollout import Rollout
from .tables import Table, gain, read_csv


def between(
    before: Path, after: Path, policy: str = "", metrics: Sequence[str] = ()
) -> Iterator[tuple[str, Table]]:
    """Yield for each scenario of both results how much better its policies are in the second.

    Args:
        before: a ``results.csv``.
        after: another one.
        policy: compare this one of ``after`` with all of ``before``; "": each with itself.
        metrics: keys; by default those that matter.

    Raises:
        ValueError: nothing is in both: no scenario, policy or seed; or there is no such metric.
    """
    first, second = by_scenario(read_csv(before)), by_scenario(read_csv(after))
    for name in metrics:
        if name not in {known.key for known in METRICS}:
            raise ValueError(f"--metrics {name}: no such metric; see {before} for those there are")
    shared = [name for name in first if name in second]
    if not shared:
        raise ValueError(f"no scenario is in both: {', '.join(first)} and {', '.join(second)}")
    for scenario in shared:
        pairs = list(_pairs(first[scenario], second[scenario], policy))
        if not pairs:
            wanted = policy or ", ".join(rollout.policy for rollout in first[scenario])
            there = ", ".join(rollout.policy for rollout in second[scenario])
            raise ValueError(f"{scenario}: {after} has {there}; none of {wanted}")
        seeds = np.intersect1d(pairs[0][0].seeds, pairs[0][1].seeds)
        if not len(seeds):
            raise ValueError(f"{scenario}: {before} and {after} have no seed in common")
        yield f"{scenario}: {len(seeds)} seeds in both", _table(pairs, seeds, metrics)


def _pairs(
    first: Sequence[Rollout], second: Sequence[Rollout], policy: str
) -> Iterator[tuple[Rollout, Rollout]]:
    """Yield who is compared with whom: before and after."""
    later = {rollout.policy: rollout for rollout in second}
    for rollout in first:
        other = policy or rollout.policy
        if other in later:
            yield rollout, later[other]


def _table(
    pairs: Sequence[tuple[Rollout, Rollout]], seeds: np.ndarray, metrics: Sequence[str]
) -> Table:
    keys = metrics or [key for key in COMPARED if all(key in r.metrics for p in pairs for r in p)]
    rows = [["policy", *(metric(key).label for key in keys)]]
    for before, after in pairs:
        a, b = _on(before, seeds), _on(after, seeds)
        same = before.policy == after.policy
        name = before.policy if same else f"{after.policy} against {before.policy}"
        rows.append([name, *(gain(b, a, key) for key in keys)])
    return rows


def _on(rollout: Rollout, seeds: np.ndarray) -> Rollout:
    """Return the episodes of some seeds, in their order."""
    at = {int(seed): i for i, seed in enumerate(rollout.seeds)}
    rows = [at[int(seed)] for seed in seeds if int(seed) in at]
    metrics = {key: values[rows] for key, values in rollout.metrics.items()}
    return replace(rollout, seeds=rollout.seeds[rows], metrics=metrics)
