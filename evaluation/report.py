"""Compare policies on scenarios: run all, print tables, save CSV, Markdown and plots."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gpuyard.baselines import Policy
from gpuyard.envs.scenario.provenance import provenance
from gpuyard.ids import IDS, check_decisions

from . import tables
from .rollout import Rollout, rollout

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

FIRST_SEED = 1_000_000
"""Held-out seeds count up from here; training seeds from the run's seed."""

COMPARED = (
    *("reward", "ttft_mean_s", "ttft_p99_s", "tpot_mean_s", "slo_attainment", "goodput"),
    *("jct_mean_s", "jct_p99_s", "jrt_mean_s", "jwt_mean_s", "slowdown_mean", "utilisation"),
)
"""Metrics by which learned policies are set against the others, if they were measured."""


def compare(
    policies: dict[str, Policy],
    scenarios: Sequence[Scenario],
    seeds: int,
    env_id: str = "",
    quiet: bool = False,
    optional: Collection[str] = (),
) -> list[Rollout]:
    """Run every policy on every scenario, all on the same held-out seeds.

    Args:
        policies: by the name to show.
        scenarios: the worlds.
        seeds: episodes per policy and scenario.
        env_id: the environment; empty: for each scenario the one for its decisions.
        quiet: do not report progress on stderr.
        optional: names of policies that are left out where they do not take the scenario's
            decisions and, with a message on stderr, where they refuse it: some are made for one
            kind of fabric.

    Raises:
        ValueError: another policy, or the environment, refuses a scenario.
    """
    check(policies, scenarios, env_id, optional)
    held_out = FIRST_SEED + np.arange(seeds)
    rollouts = []
    for scenario in scenarios:
        for name, policy in policies.items():
            if not scenario.decisions <= policy.decides:
                continue
            start = time.perf_counter()
            try:
                rollouts.append(rollout(name, policy, scenario, held_out, env_id))
            except ValueError as error:
                if name not in optional:
                    raise
                print(f"{scenario.name}: {name} left out: {error}", file=sys.stderr)
                continue
            if not quiet:
                seconds = time.perf_counter() - start
                print(
                    f"{scenario.name}: {name}, {seeds} episodes, {seconds:.1f} s", file=sys.stderr
                )
    warn(rollouts)
    return rollouts


def check(
    policies: dict[str, Policy],
    scenarios: Sequence[Scenario],
    env_id: str = "",
    optional: Collection[str] = (),
) -> None:
    """Refuse what :func:`compare` would, before anything is played.

    Raises:
        ValueError: a policy that is not optional, or the environment, refuses a scenario.
    """
    for scenario in scenarios:
        if env_id in IDS:
            check_decisions(scenario, IDS[env_id].decisions)
        for name, policy in policies.items():
            if name not in optional:
                policy.check(scenario)


def warn(rollouts: Sequence[Rollout]) -> None:
    """Say on stderr where all policies end alike."""
    for group in by_scenario(rollouts).values():
        if warning := nothing_to_decide(group):
            print(warning, file=sys.stderr)


def nothing_to_decide(group: Sequence[Rollout]) -> str:
    """Return a warning if all policies end alike on a scenario whose gangs hardly wait; else ""."""
    rewards = np.array([rollout.metrics["reward"] for rollout in group])
    used = group[0].metrics.get("utilisation")
    if len(group) < 2 or used is None or not np.allclose(rewards, rewards[0], rtol=1e-3):
        return ""
    return (
        f"{group[0].scenario}: all {len(group)} policies end within 0.1 % of each other, at a "
        f"utilisation of {np.nanmean(used):.0%}: nobody waits, so there is nothing to compare; "
        "raise jobs.load or rate_scale, or begin windows of a job list with jobs.warm = true"
    )


EQUAL_SIGHT = (
    "Agents, rules and planners on equal sight: planners read the whole queue, the window that the "
    "others choose from holds whom any queue order would name first (docs/placement.md)."
)


def by_scenario(rollouts: Sequence[Rollout]) -> dict[str, list[Rollout]]:
    """Group rollouts by scenario, in order."""
    groups: dict[str, list[Rollout]] = {}
    for entry in rollouts:
        groups.setdefault(entry.scenario, []).append(entry)
    return groups


def report(
    rollouts: Sequence[Rollout],
    learned: Sequence[str],
    folder: Path,
    curve: Sequence[dict[str, float]] = (),
    scenarios: Sequence[Scenario] = (),
) -> str:
    """Save ``results.csv``, ``results.md`` and plots in ``folder``; return the text to print.

    Args:
        rollouts: from :func:`compare`.
        learned: names of the policies to set against all others.
        folder: created if missing.
        curve: the learning curve of the run, if there was one.
        scenarios: whose sources to list in ``results.md``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_csv(rollouts, folder / "results.csv")
    printed, written = [], []
    for scenario, group in by_scenario(rollouts).items():
        keys = [key for key in COMPARED if key in group[0].metrics]
        seeds = len(group[0].seeds)
        heading = f"{scenario}: mean over {seeds} held-out seeds ± 95 % confidence interval"
        parts = [(heading, tables.summary(group))]
        classes = tables.by_class(group)
        if len(classes) > 1:
            parts.append((f"{scenario}: by class", classes))
        for name in learned:
            against = tables.comparison(group, name, keys)
            if len(against) > 1:
                parts.append((f"{name}: paired gain (+ is better, * beyond the interval)", against))
        for title, table in parts:
            printed.append(f"{title}\n\n{tables.text(table)}\n")
            written.append(f"## {title}\n\n{tables.markdown(table)}\n")
        if "jct_mean_s" in group[0].metrics:
            printed.append(f"{EQUAL_SIGHT}\n")
            written.append(f"{EQUAL_SIGHT}\n")
    for world in scenarios:
        title = f"{world.name}: what it is computed from"
        written.append(f"## {title}\n\n{tables.markdown(sources(world))}\n")
    (folder / "results.md").write_text("\n".join(written), encoding="utf-8")
    plots = _plots(rollouts, learned, folder, curve)
    return "\n".join([*printed, plots])


def sources(*scenarios: Scenario) -> tables.Table:
    """Return one row per constant of the scenarios, those that were not measured first."""
    trust = ("analogy", "scaled")
    found = {fact for scenario in scenarios for fact in provenance(scenario)}
    facts = sorted(sorted(found), key=lambda fact: fact.confidence not in trust)
    rows = [[fact.subject, fact.what, fact.of, fact.confidence, fact.source] for fact in facts]
    return [["about", "what", "figures of", "confidence", "source"], *rows]


def _plots(
    rollouts: Sequence[Rollout],
    learned: Sequence[str],
    folder: Path,
    curve: Sequence[dict[str, float]],
) -> str:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return f"saved {folder}/results.csv; for plots: pip install gpuyard[plot]"
    from . import plots

    groups = by_scenario(rollouts)
    for scenario, group in groups.items():
        plots.bars(group, learned, folder / f"metrics-{scenario}.png")
        for name in group[0].times_s:
            plots.distribution(group, learned, name, folder / f"{name}-{scenario}.png")
        shown = next((r for r in group if r.policy in learned), group[0])
        jobs = shown.first.get("jobs")
        if jobs is not None:
            title = f"{scenario}: {shown.policy}, seed {shown.seeds[0]}"
            plots.gantt(jobs, title, folder / f"gantt-{scenario}.png")
    if curve:
        first = next(iter(groups.values()))
        levels = [entry for entry in first if entry.policy not in learned]
        plots.learning_curve(curve, levels, folder / "learning_curve.png")
    return f"saved results.csv, results.md and plots in {folder}"
