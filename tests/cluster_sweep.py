"""Compare engine and naive reference on many drawn worlds of a cluster.

    python tests/cluster_sweep.py --seeds 2000:2400

Each seed draws where (one node, failing nodes, busy links, too few GPUs), which roles, and what
engines and transfers do. Where times differ, the reference plays the world once more with
fractions: what it then says differently itself, rounding decides. A line of JSON a world that is
not simply equal, and one at the end.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from cluster_moments import decided, differing, of_engine, of_reference, undecided
from cluster_reference_worlds import (
    CLUSTERS,
    FAILING,
    WITH_GANGS,
    Case,
    Rows,
    by_engine,
    by_reference,
    random_case,
)
from reference_exact import moment

APART: Rows = (("prefill", 1, 1, 2), ("decode", 1, 2, 3))
TOGETHER: Rows = (("aggregated", 0, 0, 3),)
FEATURES = ("whole_prompt", "frontend", "windows", "state", "lag")


def drawn(seed: int, where: str = "") -> tuple[Case, Rows, str]:
    """Return what a seed draws: a case, its roles, and where unless that is given."""
    rng = np.random.default_rng([seed, 77])
    where = where or list(CLUSTERS)[seed % len(CLUSTERS)]
    rows = TOGETHER if rng.random() < 0.2 else APART
    features = [str(rng.choice(FEATURES))] if rng.random() < 0.4 else []
    near = "leaf" if where in WITH_GANGS else "node"
    how: dict[str, Any] = {"block_bytes": 1e8 if where in WITH_GANGS else 1e6}
    if rows is APART:
        how[str(rng.choice(["farthest", "nearest"]))] = str(rng.choice([near, "zone"]))
        how |= {"turns": rng.random() < 0.5, "lacking": rng.random() < 0.3}
        how["layers"] = int(rng.choice([0, 0, 1, 2, 4, 10]))
    case = random_case(seed, rows, True, *features, speculation=rng.random() < 0.15, **how)
    if rng.random() < 0.1:
        case = replace(case, asked_at_s=float(np.median(case.stream.arrival_s)))
    if rng.random() < 0.15:
        specs = [replace(role.spec, threshold=16 + seed % 50) for role in case.roles]
        roles = (replace(role, spec=spec) for role, spec in zip(case.roles, specs, strict=True))
        case = replace(case, roles=tuple(roles))
    if where in FAILING:
        case = replace(case, checkpoint_s=float(rng.choice([0.0, 0.5, 2.0])))
    return case, rows, where


def compare(seed: int, where: str = "") -> dict[str, Any]:
    """Return a verdict (equal, rounding, different), and what differs, of the world of a seed."""
    case, rows, where = drawn(seed, where)
    world, watch = by_engine(case, rows, where, seed)
    given = (case, world, None if where == "one node" else watch.changes, watch.gangs)
    cluster, result = by_reference(*given)
    engine, rounded = of_engine(world, watch, case), of_reference(cluster)
    found = {"seed": seed, "where": where, "verdict": "equal", "moments": len(engine)}
    found["failed"] = sum(gang.stopped and gang.fails for gang in cluster.network.gangs)
    found["preempted"] = sum(gang.stopped and not gang.fails for gang in cluster.network.gangs)
    ways, sure = differing(engine, rounded), set(rounded)
    if ways:
        exact = of_reference(by_reference(*given, moment)[0])
        sure = decided(engine, rounded, exact)
        ways = {what: time_s for what, time_s in differing(engine, exact).items() if what in sure}
        from_s = min(undecided(rounded, exact).values(), default=None)
        found |= {"verdict": "rounding", "decided": len(sure & engine.keys()), "from_s": from_s}
    got = world.state["requests"][0, : len(case.stream)]
    told = {
        "preemptions": result.preemptions,
        "cached_tokens": result.cached_tokens,
        "replica": [seq.replica for seq in cluster.requests],
        "source": [seq.source for seq in cluster.requests],
    }
    for name, numbers in told.items():
        for i in np.flatnonzero(got[name] != np.array(numbers)).tolist():
            if ("finish", i, 0.0) in sure:
                ways[name, i, 0.0] = float(got["arrival_s"][i])
    if ways:
        first = sorted(ways.items(), key=lambda way: way[1])[:3]
        found |= {"verdict": "different", "differ": len(ways), "first": first}
    return found


def main() -> None:
    """Print what is not simply equal, and how many are."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", default="2000:2020", help="first and one after the last")
    parser.add_argument("--where", choices=list(CLUSTERS), default="", help="in turn if left out")
    given = parser.parse_args()
    first, end = map(int, given.seeds.split(":"))
    verdicts: Counter[str] = Counter()
    for seed in range(first, end):
        found = compare(seed, given.where)
        verdicts[found["verdict"]] += 1
        for count in ("moments", "failed", "preempted"):
            verdicts[count] += found[count]
        if found["verdict"] != "equal":
            print(json.dumps(found), flush=True)
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main()
