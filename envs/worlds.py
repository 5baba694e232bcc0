"""Which kind of world a scenario needs; only that one's engine is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .batch import Batch
    from .parts.gangs import PlacementBatch
    from .scenario import Scenario


def make_batch(scenario: Scenario, num_envs: int) -> Batch:
    """Return ``num_envs`` worlds of the kind that ``scenario`` describes."""
    if "place" in scenario.decisions:
        from .parts.gangs import PlacementBatch

        return PlacementBatch(scenario, num_envs)
    from .parts.serving import ServingBatch

    return ServingBatch(scenario, num_envs)


def placement_of(batch: Batch) -> PlacementBatch:
    """Return ``batch`` as one in which gangs are placed.

    Raises:
        TypeError: if requests are routed in it.
    """
    from .parts.gangs import PlacementBatch

    if not isinstance(batch, PlacementBatch):
        raise TypeError(f"scenario {batch.scenario.name!r} has no gangs to place")
    return batch
