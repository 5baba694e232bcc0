"""Scenarios: what a TOML file may say, read and checked; see :mod:`.schema`."""

from .checks import ScenarioError
from .placement import PlacementScenario
from .schema import (
    SLO,
    AnyScenario,
    Estimates,
    ObservationSize,
    Router,
    Scenario,
    Workload,
    from_dict,
    load,
    names,
)

__all__ = [
    "SLO",
    "AnyScenario",
    "Estimates",
    "ObservationSize",
    "PlacementScenario",
    "Router",
    "Scenario",
    "ScenarioError",
    "Workload",
    "from_dict",
    "load",
    "names",
]
