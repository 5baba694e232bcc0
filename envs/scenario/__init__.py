"""Scenarios: what a TOML file may say, read and checked; see :mod:`.schema`."""

from ..workload.requests.source import Workload
from .checks import ScenarioError
from .read import TABLES, from_dict, load, names
from .schema import (
    SLO,
    Estimates,
    Faults,
    NetworkRules,
    ObservationSize,
    Router,
    Scenario,
    SchedulerRules,
)

AnyScenario = Scenario
"""The old name, for those that still say it."""

__all__ = [
    "SLO",
    "TABLES",
    "AnyScenario",
    "Estimates",
    "Faults",
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
