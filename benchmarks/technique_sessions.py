"""Published effects of session routing in rollouts beside simulated ones.

Ratios of on over off, as in ``perf/techniques/rollout.csv``; bands are 10 % around the report, as
its targets have them. How the worlds differ from those of the reports stands in
:mod:`rollout_signs`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from calls import Call
from rollout_signs import GROUPS_S, LOADS, makespan, of_groups, play

BAND = 0.1
SKYRL, NEMO = "SkyRL pull 1791", "NeMo-RL pull 3663"
PLAYS = (
    *(("replay", rule) for rule in ("cache-aware", "consistent-hash")),
    *(
        (f"four-{LOADS[load]}", rule)
        for load in reversed(LOADS)
        for rule in ("consistent-hash", "sticky-least-loaded")
    ),
)
CALLS = tuple(Call("rollout_signs", "play", (*names, ())) for names in PLAYS)


def rows() -> list[dict[str, Any]]:
    """Return one mapping per target: technique, target, source, low, high, simulated."""
    found = []
    for load, (hashed, sticky) in GROUPS_S.items():
        target = f"mean seconds of a group, sticky least-loaded over consistent hash, {load} load"
        note = "a third of the reported gain" if load == "middle" else ""
        found.append(_row(target, SKYRL, sticky / hashed, _ratio(load), note))
    median = "median seconds of a group, the same, high load"
    note = "even load helps the median group here, too; their sessions are not public"
    found.append(_row(median, SKYRL, 1675 / 1302, _ratio("high", np.median), note))
    aware, hashed = "cache-aware", "consistent-hash"
    ratio = makespan("replay", aware) / makespan("replay", hashed)
    found.append(_row("makespan, cache-aware over consistent hash", NEMO, 837 / 939, ratio))
    hits = [np.mean([step.hits() for step in play("replay", rule)]) for rule in (aware, hashed)]
    target = "prefix hits, cache-aware over consistent hash"
    found.append(_row(target, NEMO, 91.6 / 91.8, float(hits[0] / hits[1])))
    return found


def _ratio(load: str, statistic: Callable[[Any], Any] = np.mean) -> float:
    """Return the seconds of groups, sticky least-loaded over consistent hash."""
    return 1.0 + of_groups(load, statistic).mean / 100.0


def _row(
    target: str, source: str, reported: float, simulated: float, note: str = ""
) -> dict[str, Any]:
    return {
        "technique": "session routing",
        "target": target,
        "source": source,
        "low": reported * (1.0 - BAND),
        "high": reported * (1.0 + BAND),
        "simulated": simulated,
        "note": note,
    }


if __name__ == "__main__":
    for row in rows():
        inside = row["low"] <= row["simulated"] <= row["high"]
        band = f"{row['low']:.3f} to {row['high']:.3f}"
        print(f"{row['target']}: {band}, {row['simulated']:.3f}, inside: {inside}")
