"""The ``[jobs]`` table of a scenario, with its types and ranges checked.

| Field (default)           | Meaning |
|---|---|
| `preset` (mixed)          | a generator of :mod:`gpuyard.envs.workload.jobs.presets`; or `trace` |
| `trace`                   | a job list (path, relative to the file) |
| `format` (auto)           | of the job list |
| `columns`                 | a job list's names by those of format plain: `{ gpus = "num_gpus" }` |
| `durations`               | a second file, of philly-gavel's format |
| `num_jobs` (512)          | jobs per episode; 0: the whole job list |
| `warm` (false)            | windows of a job list begin with the jobs that run then, which arrive first with the run time they have left: up to the cluster's GPUs and half of `num_jobs` |
| `rate_per_h`              | jobs per hour; the preset's or the list's own if nothing is given |
| `interarrival_s`          | instead: mean seconds between jobs |
| `load`                    | instead: GPUs x run time offered per second and GPU of the cluster |
| `rate_scale` (1)          | factor on the rate |
| `max_gpus`                | larger jobs are cut down to it |
| `max_duration_s`          | longer jobs are cut down to it |
| `required` (zone)         | widest topology level allowed to every gang |
| `preferred` (leaf)        | level wished for; a gang too large for it prefers the next that holds it |
| `high_priority_share`     | share of a generator's jobs with priority 1, the others have 0 |
| `[jobs.profiles]`         | what jobs train: `name = share`, instead of the generator's or list's own; a name of :mod:`gpuyard.envs.perf.training.gang_profile` or of `[models]`, or the path of a `config.json` |
| `[jobs.arrivals]`         | fields of :class:`gpuyard.envs.workload.jobs.arrivals.Arrivals` to change, for a generator |
| `[[jobs.tenants]]`        | `name`, `quota` (GPUs at a time; 0: no limit), `share` of the jobs where no list says whose they are; its queue's `parent`, `deserved` GPUs, `guarantee`, `weight` and `priority`, see :mod:`gpuyard.envs.scenario.tenants` |
"""  # noqa: E501

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from ..hardware.cluster import LEVELS
from ..workload.jobs.arrivals import Arrivals
from ..workload.jobs.generator import Kind
from .checks import (
    ScenarioError,
    check_type,
    check_values,
    checked_table,
    known_fields,
    refuse_unknown,
    text_table,
)
from .tenants import Tenant, read_tenants

_MOST_JOBS = (10_000_000, "an episode of them takes gigabytes")


@dataclass(frozen=True)
class Settings:
    """The fields of ``[jobs]``. None: not given."""

    preset: str = "mixed"
    trace: str | None = field(default=None, metadata={"example": "jobs.csv"})
    format: str = "auto"
    columns: dict[str, str] = field(default_factory=dict)
    durations: str | None = field(default=None, metadata={"example": "times.csv"})
    num_jobs: int = field(
        default=512, metadata={"example": None, "whole": 0, "at_most": _MOST_JOBS}
    )
    warm: bool = field(default=False, metadata={"example": None})
    rate_per_h: float | None = field(default=None, metadata={"example": 10.0, "above": 0})
    interarrival_s: float | None = field(default=None, metadata={"example": 240.0, "above": 0})
    load: float | None = field(default=None, metadata={"example": 0.8, "above": 0})
    rate_scale: float = field(default=1.0, metadata={"above": 0})
    max_gpus: int | None = field(default=None, metadata={"whole": 1})
    max_duration_s: float | None = field(default=None, metadata={"example": 86_400.0, "above": 0})
    required: str = field(default="zone", metadata={"example": None, "choices": LEVELS})
    preferred: str = field(default="leaf", metadata={"example": None, "choices": LEVELS})
    high_priority_share: float | None = field(
        default=None, metadata={"example": 0.1, "within": (0, 1)}
    )
    profiles: tuple[Kind, ...] = ()
    arrivals: dict[str, Any] = field(default_factory=dict)
    tenants: tuple[Tenant, ...] = ()


def read_settings(table: dict[str, Any]) -> Settings:
    """Return the checked settings.

    Raises:
        ScenarioError: naming the field, its value and the remedy.
    """
    table = dict(checked_table(table, "jobs"))
    refuse_unknown(table, known_fields(Settings), "jobs")
    check_values(Settings, table, "jobs")
    _check_exclusive(table)
    return Settings(
        **table
        | {
            "columns": text_table(table.get("columns", {}), "jobs.columns"),
            "profiles": _profiles(table.get("profiles", {})),
            "arrivals": _arrivals(table.get("arrivals", {})),
            "tenants": read_tenants(table.get("tenants", [])),
        }
    )


def _check_exclusive(table: dict[str, Any]) -> None:
    """Refuse fields that say the same thing twice, or that a job list cannot obey."""
    rates = [key for key in ("rate_per_h", "interarrival_s", "load") if key in table]
    if len(rates) > 1:
        raise ScenarioError(f"jobs: {' and '.join(rates)} all set the rate; keep one of them")
    if "trace" not in table:
        for key in ("format", "columns", "durations", "warm"):
            if key in table:
                raise ScenarioError(f"jobs.{key} belongs to a job list; set jobs.trace, too")
        return
    for key in ("preset", "arrivals", "high_priority_share"):
        if key in table:
            raise ScenarioError(f"jobs.{key} belongs to a generator; remove it or jobs.trace")


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
