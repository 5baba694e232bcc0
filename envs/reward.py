"""The terms a reward is made of.

The reward of a decision is the change of ``sum(weight * term)`` since the last one, so over an
episode each term adds up to the metric in its row. The weights are those of the scenario.
"""

from __future__ import annotations

from typing import NamedTuple


class Term(NamedTuple):
    """One term.

    Attributes:
        name: as in ``[reward]`` of a scenario; the engine's weight of it is called ``w_name``.
        part: decision of the part that counts it, "route" or "place".
        meaning: the term's sum over an episode.
    """

    name: str
    part: str
    meaning: str


TERMS = (
    Term(
        "waiting",
        "route",
        "minus the seconds requests waited for their first token (N x mean TTFT)",
    ),
    Term(
        "in_system",
        "route",
        "minus the seconds requests spent from arrival to last token (N x mean E2E)",
    ),
    Term("slo", "route", "requests that met both objectives, TTFT and TPOT"),
    Term("tokens", "route", "output tokens of finished requests"),
    Term("preemptions", "route", "minus the number of preemptions"),
    Term("invalid", "route", "minus the number of infeasible actions of routing"),
    Term("unserved", "route", "minus the number of requests that were refused or expired"),
    Term("makespan", "route", "closed loop: minus the seconds until all sessions have ended"),
    Term(
        "time_to_90",
        "route",
        "closed loop: minus the seconds until 90 % of them have",
    ),
    Term("throughput", "route", "closed loop: output tokens per second and GPU"),
    Term(
        "imbalance",
        "route",
        "closed loop: minus the busiest replica's seconds in steps over the mean of all",
    ),
    Term("waiting", "place", "minus the seconds gangs waited in the queue (N x mean JWT)"),
    Term(
        "weighted_waiting",
        "place",
        "minus the seconds gangs waited, each times 1 + its priority (sum of w x weighted JWT)",
    ),
    Term("in_system", "place", "minus the seconds gangs spent from arrival to end (N x mean JCT)"),
    Term("slowdown", "place", "minus the sum of bounded slowdowns"),
    Term("finished", "place", "finished gangs"),
    Term("utilisation", "place", "busy GPU seconds over the number of GPUs"),
    Term("preemptions", "place", "minus the number of preemptions"),
    Term("cost", "place", "minus the price of allocated GPUs, $"),
    Term("energy", "place", "minus the energy of all GPUs, kWh"),
    Term("invalid", "place", "minus the number of infeasible actions of placement and scaling"),
)
"""Every term; this module's documentation is made of them."""

OF_SESSIONS = ("makespan", "time_to_90", "throughput", "imbalance")
"""Terms of routing that only worlds have whose sessions answer back."""

SHORTEST_RUN_S = 10.0
"""Shorter run times count as this much in the bounded slowdown, so that tiny jobs do not dominate.
Source: Feitelson et al., "Theory and practice in parallel job scheduling", 1997."""

DEFAULT = {"route": "waiting", "place": "in_system"}
"""The term of each part that a scenario without ``[reward]`` is rewarded by, with weight 1."""


def terms(part: str) -> tuple[str, ...]:
    """Return the names of a part's terms."""
    return tuple(term.name for term in TERMS if term.part == part)


def weights(part: str, given: dict[str, float] | None = None) -> dict[str, float]:
    """Return the weight of every term of a part, 0 for those that are not ``given``."""
    given = {DEFAULT[part]: 1.0} if given is None else given
    return {term: float(given.get(term, 0.0)) for term in terms(part)}


def _tables() -> str:
    """Return the terms of each part as a table."""
    lines: list[str] = []
    for part, title in (("route", "Routing"), ("place", "Placement")):
        lines += ["", f"{title}:", "", "| Term | Sum over an episode |", "|---|---|"]
        lines += [f"| `{term.name}` | {term.meaning} |" for term in TERMS if term.part == part]
    return "\n".join(lines) + "\n"


__doc__ = f"{__doc__}{_tables()}"
