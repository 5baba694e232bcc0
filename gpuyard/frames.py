"""Evaluation from Python, as pandas frames: ``gpuyard.evaluate`` and ``gpuyard.compare``.

>>> import gpuyard
>>> frame = gpuyard.evaluate(["routing/llm-d", "routing/random"], "routing-default", seeds=8)
>>> gpuyard.compare(frame, "routing/llm-d")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuyard.baselines import Policy
from gpuyard.commands.choosing import policy as policy_of
from gpuyard.commands.choosing import told_apart
from gpuyard.envs.scenario import Scenario, load
from gpuyard.evaluation.metrics import METRICS, metric
from gpuyard.evaluation.report import FIRST_SEED
from gpuyard.evaluation.rollout import Rollout, rollout
from gpuyard.evaluation.statistics import paired_interval

if TYPE_CHECKING:
    import pandas as pd

KEYS = ["scenario", "policy", "seed"]
"""Columns that say whose numbers a row has."""

Policies = str | Policy | Sequence[str | Policy] | Mapping[str, str | Policy]


def evaluate(
    policies: Policies,
    scenarios: str | Path | Scenario | Sequence[str | Path | Scenario] = "routing-default",
    seeds: int | Iterable[int] = 32,
    progress: bool = True,
) -> pd.DataFrame:
    """Play policies on scenarios, all on the same held-out seeds.

    Args:
        policies: names, files or objects; a mapping gives each a name to show.
        scenarios: names, files or scenarios.
        seeds: how many held-out ones, or which.
        progress: show a bar; a notebook shows one of its own.

    Returns:
        One row per scenario, policy and seed: columns ``scenario``, ``policy``, ``seed``, then
        every metric under its key, with its unit (see :mod:`gpuyard.evaluation.metrics`).

    Raises:
        ImportError: pandas is not installed.
        ValueError: a policy or scenario is unknown, or one does not fit the other.
    """
    pandas = _pandas()
    players = _named(policies)
    several = isinstance(scenarios, Sequence) and not isinstance(scenarios, str)
    given: Any = scenarios if several else [scenarios]
    worlds = told_apart([load(each) for each in given], [str(_name(each)) for each in given])
    chosen = FIRST_SEED + np.arange(seeds) if isinstance(seeds, int) else np.array(list(seeds))
    if not len(chosen):
        raise ValueError(f"seeds = {seeds!r}: give at least one")
    for world in worlds:  # all of them before any is played
        for player in players.values():
            player.check(world)
    pairs = [(name, player, world) for world in worlds for name, player in players.items()]
    bar = _bar(pairs, progress)
    parts = [_frame(pandas, rollout(name, player, world, chosen)) for name, player, world in bar]
    return pandas.concat(parts, ignore_index=True)


def compare(frame: pd.DataFrame, policy: str, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """Return how much better one policy is than each other one, paired seed by seed.

    Args:
        frame: of :func:`evaluate`, or a ``results.csv``.
        policy: the one to set against the others.
        metrics: keys; by default all that have a better direction.

    Returns:
        One row per scenario, other policy and metric: ``gain`` (above 0 is better, whatever the
        metric's direction), ``low`` and ``high`` of its 95 % interval, ``seeds``, and ``beyond``:
        whether the interval excludes 0.

    Raises:
        ValueError: the policy or a metric is not in the frame, or two policies share no seed.
    """
    pandas = _pandas()
    if policy not in set(frame["policy"]):
        known = ", ".join(dict.fromkeys(frame["policy"]))
        raise ValueError(f"policy {policy!r} is not in the frame; it has {known}")
    keys = list(metrics) or [
        m.key for m in METRICS if m.key in frame and m.higher_is_better is not None
    ]
    for key in keys:
        if key not in frame or metric(key).higher_is_better is None:
            raise ValueError(f"metric {key!r} is not in the frame, or has no better direction")
    rows = []
    for scenario, group in frame.groupby("scenario", sort=False):
        by_policy = {
            name: part.set_index("seed") for name, part in group.groupby("policy", sort=False)
        }
        ours = by_policy.pop(policy, None)
        for other, theirs in by_policy.items() if ours is not None else ():
            shared = ours.index.intersection(theirs.index)
            if not len(shared):
                raise ValueError(f"{scenario}: {policy} and {other} have no seed in common")
            for key in keys:
                sign = 1.0 if metric(key).higher_is_better else -1.0
                a, b = sign * ours.loc[shared, key], sign * theirs.loc[shared, key]
                if (a - b).notna().any():
                    gain = paired_interval(a.to_numpy(), b.to_numpy())
                    beyond = gain.excludes_zero
                    rows.append(
                        [scenario, other, key, gain.mean, gain.low, gain.high, len(shared), beyond]
                    )
    columns = ["scenario", "against", "metric", "gain", "low", "high", "seeds", "beyond"]
    return pandas.DataFrame(rows, columns=columns)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise ImportError("frames need pandas: pip install 'gpuyard[frames]'") from None
    return pandas


def _named(policies: Policies) -> dict[str, Policy]:
    """Return policies by the name to show."""
    if isinstance(policies, (str, Policy)):
        policies = [policies]
    if not isinstance(policies, Mapping):
        names = [p if isinstance(p, str) else type(p).__name__ for p in policies]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"policies: {twice!r} is given twice; give a mapping with two names")
        policies = dict(zip(names, policies, strict=True))
    if not policies:
        raise ValueError("policies: give at least one (gpuyard list baselines)")
    return {name: policy_of(p) if isinstance(p, str) else p for name, p in policies.items()}


def _name(scenario: str | Path | Scenario) -> str | Path:
    return scenario if isinstance(scenario, (str, Path)) else scenario.name


def _bar(pairs: list[tuple[str, Policy, Scenario]], progress: bool) -> Iterable[Any]:
    """Return the pairs behind a progress bar, if there is one."""
    if not progress:
        return pairs
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return pairs
    return tqdm(pairs, desc="evaluate", unit="policy")


def _frame(pandas: Any, played: Rollout) -> pd.DataFrame:
    """Return the episodes of a policy, a row each."""
    whose = {"scenario": played.scenario, "policy": played.policy, "seed": played.seeds}
    return pandas.DataFrame({**whose, **played.metrics})
