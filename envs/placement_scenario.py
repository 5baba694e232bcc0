"""The old name of what stands in :mod:`.scenario` now; it goes with the next release."""

from .scenario.placement import FIDELITIES, PLACEMENT_TERMS, ROUTINGS, PlacementScenario

__all__ = ["FIDELITIES", "PLACEMENT_TERMS", "ROUTINGS", "PlacementScenario"]
