"""Moving an estate of batch jobs to a new cluster before the old one ends: who misses deadlines?

    python benchmarks/batch_estate.py                              # 120,000 jobs
    python benchmarks/batch_estate.py --jobs 12000                 # a short look
    python benchmarks/batch_estate.py --plot docs/images/batch_estate.png

Each night a stage of jobs moves, in some order, until all have or the old cluster ends; a job
whose owner is not known yet cannot move, and after that day it runs nowhere. Some jobs break by
moving and are late until somebody has mended them. Prints the deadlines missed in % of all, from
the first night to ten days after the end, by order and stage size; the last line is JSON.
``docs/studies.md`` says what is assumed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from estate import NEW, OLD, Clusters, Estate, Floats, Ints, day, generate
from scaling_day import DAYS

END, AFTER = 40, 10
STAGES = (0.02, 0.03, 0.05, 0.1, 0.25, 1.0)  # of all jobs, each night
BREAKS, MENDED = 0.01, 0.0005  # of what moves; of all jobs, a day
SLOTS = {OLD: 1700, NEW: 1500}  # for 120,000 jobs
SERVICE = 0.2  # of each cluster, on average over the day


def random(estate: Estate, rng: np.random.Generator) -> Ints:
    """Return the jobs in any order."""
    return rng.permutation(len(estate.flow))


def by_flow(estate: Estate, rng: np.random.Generator) -> Ints:
    """Return flow after flow, so that few dependencies cross the link."""
    return np.argsort(rng.permutation(estate.flow[-1] + 1)[estate.flow], kind="stable")


def most_slack(estate: Estate, rng: np.random.Generator) -> Ints:
    """Return those first that are farthest from a deadline: the risk last."""
    spare_s = estate.urgent_s - estate.release_s - estate.duration_s
    return np.argsort(-np.where(np.isfinite(spare_s), spare_s, 1e9), kind="stable")


def upstream(estate: Estate, rng: np.random.Generator) -> Ints:
    """Return what others wait for first."""
    return np.argsort(depth(estate), kind="stable")


def downstream(estate: Estate, rng: np.random.Generator) -> Ints:
    """Return what nobody waits for first."""
    return np.argsort(-depth(estate), kind="stable")


ORDERS: dict[str, Callable[[Estate, np.random.Generator], Ints]] = {
    "random": random,
    "flow by flow": by_flow,
    "most slack first": most_slack,
    "upstream first": upstream,
    "downstream first": downstream,
}


def depth(estate: Estate) -> Ints:
    """Return how many jobs in a row come before each."""
    found = np.zeros(len(estate.flow), np.int64)
    for job in range(len(found)):
        waits = found[estate.depends[estate.before[job] : estate.before[job + 1]]]
        found[job] = waits.max(initial=-1) + 1
    return found


@dataclass
class Moved:
    """How far the move has come.

    Attributes:
        where: cluster of each job, -1 where the old one has ended, shape (N,).
        broken: jobs that moved and do not run well, in the order in which they are mended.
    """

    where: Ints
    broken: list[int]


def night(
    moved: Moved, order: Ints, estate: Estate, on_day: int, stage: int, chance: Floats
) -> None:
    """Mend what there are hands for, then move the next stage; on the last day the old one ends."""
    del moved.broken[: max(1, round(MENDED * len(order)))]
    may = order[(moved.where[order] == OLD) & (estate.found_day[order] <= on_day)][:stage]
    moved.where[may] = NEW
    moved.broken += [int(job) for job in may if chance[job] < BREAKS]
    if on_day >= END:
        # whose owner is found later moves then, from where the old cluster's disks are kept
        moved.where[moved.where == OLD] = -1
        late = order[(moved.where[order] == -1) & (estate.found_day[order] <= on_day)][:stage]
        moved.where[late] = NEW


def migrate(
    estate: Estate, clusters: Clusters, order: Ints, stage: int, chance: Floats
) -> list[float]:
    """Return the share of deadlines missed on each day."""
    moved = Moved(np.full(len(order), OLD), [])
    missed = []
    for on_day in range(END + AFTER):
        night(moved, order, estate, on_day, stage, chance)
        duration_s = estate.duration_s.copy()
        duration_s[moved.broken] += 6 * 3600.0  # somebody has to look into it by hand
        finish_s = day(estate, clusters, moved.where, duration_s)
        has_due = np.isfinite(estate.due_s)
        missed.append(float(np.mean(finish_s[has_due] > estate.due_s[has_due])))
    return missed


def clusters_for(jobs: int) -> Clusters:
    """Return both clusters, sized for the estate; a service takes its share of them by the hour."""
    free = 1 - SERVICE * np.array(DAYS["conv"])
    slots = [np.rint(SLOTS[which] * jobs / 120_000 * free) for which in (OLD, NEW)]
    return Clusters(np.array(slots, np.int64), 2.5e9 * jobs / 120_000)


def plot(found: dict[str, dict[float, list[float]]], path: Path) -> None:
    """Draw missed deadlines against stage size, and over the days for one stage size."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, by_stage in found.items():
        sizes = [100 * stage for stage in by_stage]
        left.plot(sizes, [100 * np.mean(days) for days in by_stage.values()], "o-", label=name)
        right.plot(100 * np.array(by_stage[STAGES[2]]), label=name, linewidth=1)
    left.set(xscale="log", xlabel="jobs moved each night, %", ylabel="deadlines missed, %")
    left.legend(fontsize=8)
    right.axvline(END, color="0.5", linestyle=":")
    right.set(xlabel=f"day, {100 * STAGES[2]:g} % each night", ylabel="deadlines missed, %")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print deadlines missed by order and stage size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=120_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="PNG to write")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    estate, clusters = generate(options.jobs, rng), clusters_for(options.jobs)
    chance = rng.random(options.jobs)
    stays = day(estate, clusters, np.full(options.jobs, OLD), estate.duration_s)
    has_due = np.isfinite(estate.due_s)
    late = 100 * np.mean(stays[has_due] > estate.due_s[has_due])
    print(f"{has_due.sum()} deadlines; before the move {late:.2f} % are missed")
    print("| order | " + " | ".join(f"{100 * stage:g} %" for stage in STAGES) + " |")
    print("|---|" + "---:|" * len(STAGES))
    found: dict[str, dict[float, list[float]]] = {}
    for name, ordered in ORDERS.items():
        order = ordered(estate, np.random.default_rng(options.seed))
        found[name] = {
            share: migrate(estate, clusters, order, round(share * options.jobs), chance)
            for share in STAGES
        }
        cells = " | ".join(f"{100 * np.mean(days):.2f}" for days in found[name].values())
        print(f"| {name} | {cells} |", flush=True)
    if options.plot:
        plot(found, options.plot)
    print(
        json.dumps(
            {
                k: {str(s): round(float(np.mean(d)), 5) for s, d in v.items()}
                for k, v in found.items()
            }
        )
    )


if __name__ == "__main__":
    main()
