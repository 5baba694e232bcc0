"""The old names of what stands in :mod:`.scenario` now; they go with the next release."""

from .engine.network.names import FIDELITIES, ROUTINGS
from .reward import terms
from .scenario import Scenario

PlacementScenario = Scenario
PLACEMENT_TERMS = terms("place")

__all__ = ["FIDELITIES", "PLACEMENT_TERMS", "ROUTINGS", "PlacementScenario"]
