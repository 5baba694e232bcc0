"""The ``[jobs]`` table of a scenario, with its types and ranges checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from ..hardware.cluster import LEVELS
from ..workload.jobs.arrivals import Arrivals
from ..workload.jobs.generator import Kind
from .checks import ScenarioError, check_type, checked_table, refuse_unknown
from .tenants import Tenant, read_tenants


@dataclass(frozen=True)
class Settings:
    """The fields of ``[jobs]``; see :mod:`.source` for their meaning. None: not given."""

    preset: str = "mixed"
    trace: str | None = None
    format: str = "auto"
    durations: str | None = None
    num_jobs: int = 512
    rate_per_h: float | None = None
    interarrival_s: float | None = None
    load: float | None = None
    rate_scale: float = 1.0
    max_gpus: int | None = None
    max_duration_s: float | None = None
    required: str = "zone"
    preferred: str = "leaf"
    high_priority_share: float | None = None
    profiles: tuple[Kind, ...] = ()
    arrivals: dict[str, Any] = field(default_factory=dict)
    tenants: tuple[Tenant, ...] = ()


_ABOVE_ZERO = {  # with an example
    "rate_per_h": 10.0,
    "interarrival_s": 240.0,
    "load": 0.8,
    "rate_scale": 1.0,
    "max_duration_s": 86_400.0,
}
_TEXTS = {"preset": "mixed", "trace": "jobs.csv", "format": "auto", "durations": "times.csv"}


def read_settings(table: dict[str, Any]) -> Settings:
    """Return the checked settings.

    Raises:
        ScenarioError: naming the field, its value and the remedy.
    """
    table = dict(checked_table(table, "jobs"))
    refuse_unknown(table, {item.name for item in fields(Settings)}, "jobs")
    for key in table.keys() & _TEXTS.keys():
        check_type(f"jobs.{key}", table[key], _TEXTS[key])
    for key in table.keys() & _ABOVE_ZERO.keys():
        check_type(f"jobs.{key}", table[key], _ABOVE_ZERO[key])
        if not (math.isfinite(table[key]) and table[key] > 0):
            raise ScenarioError(f"jobs.{key} = {table[key]!r} must be a finite number above 0")
    _check_whole(table, "num_jobs", 0)
    _check_whole(table, "max_gpus", 1)
    _check_exclusive(table)
    _check_levels(table)
    if "high_priority_share" in table:
        check_type("jobs.high_priority_share", table["high_priority_share"], 0.1)
        if not 0 <= table["high_priority_share"] <= 1:
            value = table["high_priority_share"]
            raise ScenarioError(f"jobs.high_priority_share = {value!r} must lie in [0, 1]")
    return Settings(
        **table
        | {
            "profiles": _profiles(table.get("profiles", {})),
            "arrivals": _arrivals(table.get("arrivals", {})),
            "tenants": read_tenants(table.get("tenants", [])),
        }
    )


def _check_whole(table: dict[str, Any], key: str, least: int) -> None:
    value = table.get(key, least)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ScenarioError(f"jobs.{key} = {value!r} must be a whole number >= {least}")


def _check_exclusive(table: dict[str, Any]) -> None:
    """Refuse fields that say the same thing twice, or that a job list cannot obey."""
    rates = [key for key in ("rate_per_h", "interarrival_s", "load") if key in table]
    if len(rates) > 1:
        raise ScenarioError(f"jobs: {' and '.join(rates)} all set the rate; keep one of them")
    if "trace" not in table:
        for key in ("format", "durations"):
            if key in table:
                raise ScenarioError(f"jobs.{key} belongs to a job list; set jobs.trace, too")
        return
    for key in ("preset", "arrivals", "high_priority_share"):
        if key in table:
            raise ScenarioError(f"jobs.{key} belongs to a generator; remove it or jobs.trace")


def _check_levels(table: dict[str, Any]) -> None:
    for key in ("required", "preferred"):
        if key in table and table[key] not in LEVELS:
            raise ScenarioError(f"jobs.{key} = {table[key]!r} must be one of {', '.join(LEVELS)}")


def _profiles(table: Any) -> tuple[Kind, ...]:
    kinds = []
    for name, share in checked_table(table, "jobs.profiles").items():
        check_type(f"jobs.profiles.{name}", share, 0.5)
        if not (math.isfinite(share) and share > 0):
            raise ScenarioError(f"jobs.profiles.{name} = {share!r} must be a share above 0")
        kinds.append(Kind(name, float(share)))
    return tuple(kinds)


def _arrivals(table: Any) -> dict[str, Any]:
    """Return changes to a generator's arrivals."""
    table = dict(checked_table(table, "jobs.arrivals"))
    known = {item.name for item in fields(Arrivals)} - {"rate_per_h"}
    refuse_unknown(table, known, "jobs.arrivals")
    for key, value in table.items():
        if key != "hours":
            check_type(f"jobs.arrivals.{key}", value, 1.0)
        elif not isinstance(value, list) or not all(isinstance(x, (int, float)) for x in value):
            raise ScenarioError(f"jobs.arrivals.hours = {value!r} must be a list of 24 numbers")
    return table | ({"hours": tuple(table["hours"])} if "hours" in table else {})
