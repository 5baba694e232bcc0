"""What each shipped scenario asks, and how far rules differ on it.

    python benchmarks/scenarios.py                   # all of them, 16 seeds
    python benchmarks/scenarios.py routing-mixed --seeds 64

Plays every registered baseline that takes the scenario's decisions on held-out seeds and prints the
mean of what the reward stands for (TTFT of requests, completion time of jobs): the best, the
median and the worst rule and the random one, the spread from best to median with the 95 % interval
of the paired difference, and where the time of the median rule goes. ``docs/scenarios.md`` has the
table. Joint scenarios have a command of their own, ``cluster_scenarios.py``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard import baselines  # noqa: E402
from gpuyard.envs import scenario as scenarios  # noqa: E402
from gpuyard.evaluation.report import compare  # noqa: E402
from gpuyard.evaluation.rollout import Rollout  # noqa: E402
from gpuyard.evaluation.statistics import paired_interval  # noqa: E402

MEASURE = {"route": "ttft_mean_s", "place": "jct_mean_s"}
RANDOM = {"route": "routing/random", "place": "gang/random"}


def played(name: str, seeds: int) -> list[Rollout]:
    """Return every rule on a scenario, the best first."""
    scenario = scenarios.load(name)
    rules = [rule for rule in baselines.names() if scenario.decisions == baselines.decides(rule)]
    policies = {rule: baselines.make(rule) for rule in rules}
    found = compare(policies, [scenario], seeds, quiet=True, optional=policies.keys())
    return sorted(found, key=lambda rollout: float(_measure(rollout).mean()))


def row(name: str, seeds: int) -> list[str]:
    """Return the scenario's line of the table."""
    rules = played(name, seeds)
    best, median, worst = rules[0], rules[len(rules) // 2], rules[-1]
    kind = next(iter(scenarios.load(name).decisions))
    chance = next(r for r in rules if r.policy == RANDOM[kind])
    gap = paired_interval(_measure(median), _measure(best))
    unit = float(_measure(best).mean())
    spread = f"{100 * gap.mean / unit:.0f} ± {100 * (gap.high - gap.mean) / unit:.0f} %"
    named = [f"{r.policy} {float(_measure(r).mean()):,.3g}" for r in (best, median, worst, chance)]
    return [name, str(len(rules)), *named, spread, _shares(median, kind)]


def _measure(rollout: Rollout) -> np.ndarray:
    return rollout.metrics[next(key for key in MEASURE.values() if key in rollout.metrics)]


def _shares(rollout: Rollout, kind: str) -> str:
    """Say where the time of a policy goes, in % of the whole; and free GPUs beside busy ones."""
    mean = {key: float(np.mean(value)) for key, value in rollout.metrics.items()}
    if kind == "route":
        first = 100 * mean["ttft_mean_s"] / mean["e2e_mean_s"]
        return f"to the first token {first:.0f}, prefixes found {100 * mean['prefix_hit_rate']:.0f}"
    waits = mean["jwt_mean_s"] / mean["jct_mean_s"]
    network = (1 - waits) * (1 - 1 / mean["contention_mean"])
    broken = 100 * mean["fragmentation"]
    return f"waiting {100 * waits:.0f}, network {100 * network:.0f}; free in fragments {broken:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "names", nargs="*", help="scenarios; all shipped of one kind of decision by default"
    )
    parser.add_argument("--seeds", type=int, default=16, help="held-out episodes per rule")
    options = parser.parse_args()
    head = ["scenario", "rules", "best", "median", "worst", "random", "best to median", "%"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    shipped = [name for name in scenarios.names() if len(scenarios.load(name).decisions) == 1]
    for name in options.names or shipped:
        print("| " + " | ".join(row(name, options.seeds)) + " |", flush=True)


if __name__ == "__main__":
    main()
