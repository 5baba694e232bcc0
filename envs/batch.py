"""A batch of worlds of one scenario: what the single and the vector environment share."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from .engine.core.compile import is_warm
from .scenario import Scenario
from .world import World


class Batch:
    """``num_envs`` worlds of one scenario, with their spaces, seeds and observations.

    A kind of scenario has its own subclass, which builds the world and loads episodes into it.

    Attributes:
        scenario: what is simulated.
        world: state and engine.
    """

    scenario: Scenario
    world: World

    def load(self, e: int, rng: np.random.Generator) -> None:
        """Draw the next episode of environment ``e``."""
        raise NotImplementedError

    def results(self, e: int) -> dict[str, dict[str, NDArray]]:
        """Return the tables of environment ``e``'s episode by name; times NaN if not reached."""
        raise NotImplementedError

    def render(self, e: int, mode: str) -> Any:
        """Return environment ``e`` as text ("ansi") or as a uint8 image ("rgb_array")."""
        raise NotImplementedError

    @property
    def action_space(self) -> spaces.Discrete:
        """One action per candidate."""
        return spaces.Discrete(self.world.num_candidates)

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Flat Dict of float32 Boxes in [0, 1] and the int8 action mask."""
        boxes: dict[str, spaces.Space] = {
            key: spaces.Box(0.0, 1.0, shape, np.float32)
            for key, shape in self.world.shapes().items()
        }
        boxes["action_mask"] = spaces.Box(0, 1, (self.world.num_candidates,), np.int8)
        return spaces.Dict(boxes)

    def compile(self) -> None:
        """Have the engine compiled or loaded from the cache; say so if it must be compiled."""
        if is_warm(type(self.world).run_batch):
            self.world.warm_up()
            return
        print("gpuyard: compiling the engine, once per machine ...", file=sys.stderr, flush=True)
        began = time.perf_counter()
        self.world.warm_up()
        seconds = time.perf_counter() - began
        print(f"gpuyard: compiled in {seconds:.0f} s", file=sys.stderr, flush=True)
