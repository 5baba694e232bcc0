"""What each shipped scenario asks, and how far rules differ on it.

    python benchmarks/scenarios.py                   # all of them, 16 seeds
    python benchmarks/scenarios.py routing-mixed --seeds 64 --workers 2

Plays every registered baseline that takes the scenario's decisions on held-out seeds and prints the
mean of what the scenario's reward stands for (time to the first token of requests, completion time
of jobs, or their weighted waiting): the best, the median and the worst rule and the random one, the
spread from best to median with the 95 % interval of the paired difference, and where the time of
the median rule goes. ``docs/scenarios.md`` has the table. Joint scenarios have a command of their
own, ``cluster_scenarios.py``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard import baselines  # noqa: E402
from gpuyard.envs import scenario as scenarios  # noqa: E402
from gpuyard.evaluation.report import compare  # noqa: E402
from gpuyard.evaluation.rollout import Rollout  # noqa: E402
from gpuyard.evaluation.statistics import paired_interval  # noqa: E402

MEASURES = {
    "route": {
        "waiting": "ttft_mean_s",
        "in_system": "e2e_mean_s",
        "makespan": "makespan_s",
        "time_to_90": "time_to_90_s",
    },
    "place": {
        "in_system": "jct_mean_s",
        "waiting": "jwt_mean_s",
        "weighted_waiting": "jwt_weighted_s",
        "slowdown": "slowdown_mean",
    },
}
"""The metric that each term of a reward adds up to."""

RANDOM = {"route": "routing/random", "place": "gang/random"}


def measure(scenario: scenarios.Scenario) -> str:
    """Return the metric that the scenario's reward stands for, less is better.

    Raises:
        ValueError: the reward has no term, several terms, or one that is no time.
    """
    (kind,) = scenario.decisions
    given = [term for term, weight in scenario.reward[kind].items() if weight]
    if len(given) != 1 or given[0] not in MEASURES[kind]:
        raise ValueError(
            f"{scenario.name}: reward = {given} must be one of {list(MEASURES[kind])}, so that one "
            "metric says how good a rule is"
        )
    return MEASURES[kind][given[0]]


def play(name: str, seeds: int, rule: str) -> list[Rollout]:
    """Return a rule on a scenario; nothing where it refuses it."""
    policies = {rule: baselines.make(rule)}
    return compare(policies, [scenarios.load(name)], seeds, quiet=True, optional=policies.keys())


def played(name: str, seeds: int, workers: int) -> list[Rollout]:
    """Return every rule on a scenario, the best first."""
    scenario = scenarios.load(name)
    rules = [rule for rule in baselines.names() if scenario.decisions == baselines.decides(rule)]
    if workers == 1:
        found = [play(name, seeds, rule) for rule in rules]
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            found = list(pool.map(partial(play, name, seeds), rules))
    rollouts = [rollout for of_rule in found for rollout in of_rule]
    return sorted(rollouts, key=lambda rollout: float(rollout.metrics[measure(scenario)].mean()))


def row(name: str, rules: Sequence[Rollout]) -> list[str]:
    """Return the scenario's line of the table.

    Args:
        name: of the scenario.
        rules: on the same seeds, the best first.
    """
    scenario = scenarios.load(name)
    (kind,), metric = scenario.decisions, measure(scenario)
    best, median, worst = rules[0], rules[len(rules) // 2], rules[-1]
    chance = next(r for r in rules if r.policy == RANDOM[kind])
    gap = paired_interval(median.metrics[metric], best.metrics[metric])
    unit = float(best.metrics[metric].mean())
    spread = f"{100 * gap.mean / unit:.0f} ± {100 * gap.half_width / unit:.0f} %"
    shown = (best, median, worst, chance)
    named = [f"{r.policy} {float(r.metrics[metric].mean()):,.4g}" for r in shown]
    return [name, metric, str(len(rules)), *named, spread, _shares(median, kind)]


def _shares(rollout: Rollout, kind: str) -> str:
    """Say where the time of a policy goes, in % of the whole; and free GPUs beside busy ones."""
    mean = {key: float(np.mean(value)) for key, value in rollout.metrics.items()}
    if kind == "route":
        first = 100 * mean["ttft_mean_s"] / mean["e2e_mean_s"]
        return f"to the first token {first:.0f}, prefixes found {100 * mean['prefix_hit_rate']:.0f}"
    waits = mean["jwt_mean_s"] / mean["jct_mean_s"]
    network = (1 - waits) * (1 - 1 / mean["contention_mean"])
    broken = 100 * mean["fragmentation"]
    return f"waiting {100 * waits:.0f}, network {100 * network:.1f}; free in fragments {broken:.1f}"


def main() -> None:
    """Print a row per scenario."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "names", nargs="*", help="scenarios; all shipped of one kind of decision by default"
    )
    parser.add_argument("--seeds", type=int, default=16, help="held-out episodes per rule")
    parser.add_argument("--workers", type=int, default=1, help="processes, a rule each")
    options = parser.parse_args()
    head = ["scenario", "measure", "rules", "best", "median", "worst", "random", "spread", "%"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    shipped = [name for name in scenarios.names() if len(scenarios.load(name).decisions) == 1]
    for name in options.names or shipped:
        cells = row(name, played(name, options.seeds, options.workers))
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
