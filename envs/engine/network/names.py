"""Names of the ways to share and to find links, each with its number in the engine."""

from __future__ import annotations

FIDELITIES = ("fluid", "flow", "occupancy", "none")
FLUID, FLOW, OCCUPANCY, UNCONTENDED = range(len(FIDELITIES))

ROUTINGS = ("ecmp", "balanced", "source")
ECMP, BALANCED, SOURCE = range(len(ROUTINGS))
