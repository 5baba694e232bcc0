"""Scenarios: what a TOML file may say, read and checked; see :mod:`.schema`."""

from dataclasses import fields

from ..rules import SLO, Faults, Limits, Router, SchedulerRules
from ..shipped import names
from ..workload.requests.source import Workload
from . import schema
from .checks import ScenarioError
from .read import TABLES, from_dict, load
from .schema import Estimates, NetworkRules, ObservationSize, Scenario

AnyScenario = Scenario
"""The old name, for those that still say it."""

__all__ = [
    "SLO",
    "TABLES",
    "AnyScenario",
    "Estimates",
    "Faults",
    "Limits",
    "NetworkRules",
    "ObservationSize",
    "Router",
    "Scenario",
    "ScenarioError",
    "SchedulerRules",
    "Workload",
    "from_dict",
    "load",
    "names",
]


def _fields() -> str:
    """Return a table of the plain fields of every scenario table, from their own descriptions."""
    lines = ["", "Plain fields:", "", "| Field (default) | Meaning |", "|---|---|"]
    for key, table in TABLES.items():
        for item in fields(table.kind) if table.kind else ():
            text = str(item.default).lower() if isinstance(item.default, bool) else item.default
            shown = f"{text:g}" if isinstance(text, (int, float)) else text
            lines.append(f"| `{key}.{item.name}` ({shown}) | {item.metadata['meaning']} |")
    return "\n".join(lines) + "\n"


__doc__ = f"{schema.__doc__}{_fields()}"
