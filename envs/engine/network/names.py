"""Names of what the network can do, as scenarios say them, beside the numbers that the engine uses.

It imports nothing: scenarios read the names without loading the engine.
"""

from __future__ import annotations

FIDELITIES = ("fluid", "flow", "occupancy", "none")
"""How jobs share links; the place of a name is ``FABRIC.fidelity``."""
FLUID, FLOW, OCCUPANCY, UNCONTENDED = range(len(FIDELITIES))

ROUTINGS = ("ecmp", "balanced", "source")
"""How flows find a path; the place of a name is ``FABRIC.routing``."""
ECMP, BALANCED, SOURCE = range(len(ROUTINGS))
