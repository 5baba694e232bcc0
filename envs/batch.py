"""The worlds of a scenario: what the single and the vector environment share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .cluster_view import ClusterView
from .engine.core.records import PLACE
from .parts.part import Content, Table
from .rendering.canvas import stacked
from .scenario import Scenario
from .scene import Scene
from .world import World, telling

if TYPE_CHECKING:
    from .parts.gangs import Gangs


class Batch:
    """``num_envs`` worlds of one scenario, made of the parts that its decisions need.

    Args:
        scenario: what to simulate.
        num_envs: how many.
        num_threads: how many threads step them.

    Attributes:
        world: their arrays and the engine.
        contents: the parts, by the kind of decision that they ask for.
    """

    def __init__(self, scenario: Scenario, num_envs: int, num_threads: int = 1) -> None:
        self.scenario = scenario
        self.contents: dict[str, Content] = {}
        if "route" in scenario.decisions:
            from .parts.serving import Serving

            self.contents["route"] = Serving(scenario, num_envs)
        self._gangs: Gangs | None = None
        if "place" in scenario.decisions:
            from .parts.gangs import Gangs

            self.contents["place"] = self._gangs = Gangs(scenario, num_envs)
        if "scale" in scenario.decisions:
            from .parts.services import Services

            self.contents["scale"] = Services(scenario, num_envs)
        parts = [content.part for content in self.contents.values()]
        self.world = World(parts, num_envs, scenario.limits, num_threads)
        for content in self.contents.values():
            with telling(content.is_warm()):
                content.warm_up()

    def load(self, e: int, rng: np.random.Generator) -> None:
        """Draw the next episode of environment ``e``."""
        for content in self.contents.values():
            content.load(e, rng)
        self.world.begin(e)

    def results(self, e: int) -> dict[str, Table]:
        """Return the tables of environment ``e``'s episode by name; times NaN if not reached."""
        tables: dict[str, Table] = {}
        for content in self.contents.values():
            tables |= content.results(e)
        return tables

    def render(self, e: int, mode: str) -> Any:
        """Return environment ``e`` as text ("ansi") or as a uint8 image ("rgb_array")."""
        now_s = float(self.world.clock["now_s"][e])
        shown = (self.contents[kind] for kind in ("place", "route") if kind in self.contents)
        drawn = [content.render(e, now_s, mode) for content in shown]
        return "\n\n".join(drawn) if mode == "ansi" else stacked(drawn)

    def view(self, e: int) -> ClusterView:
        """Return what a planner may read of environment ``e``."""
        clock = self.world.clock[e]
        return self.gangs.view(e, float(clock["now_s"]), int(clock["invalid_actions"]))

    def scene(self, e: int, first_request: int) -> Scene:
        """Return what may be seen of environment ``e``; see :meth:`.ClusterEnv.scene`."""
        fields: dict[str, Any] = {}
        for content in self.contents.values():
            fields |= content.scene(e, first_request)
        clock = self.world.clock[e]
        is_current = int(clock["due"]) != PLACE
        return Scene(now_s=float(clock["now_s"]), is_current=is_current, **fields)

    @property
    def gangs(self) -> Gangs:
        """The part in which gangs are placed.

        Raises:
            TypeError: the scenario has none.
        """
        if self._gangs is None:
            raise TypeError(f"scenario {self.scenario.name!r} has no gangs to place")
        return self._gangs
