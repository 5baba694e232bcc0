"""The single environment; its class docstring is the documentation page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from . import rendering
from .batch import KEYS, Batch
from .scenario import Scenario, load
from .sim.world import INFO_KEYS

Observation = dict[str, NDArray]


class ClusterEnv(gym.Env[Observation, np.int64]):
    """DOCSTRING"""

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        scenario: str | Path | Scenario = "routing-default",
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            allowed = ", ".join(self.metadata["render_modes"])
            raise ValueError(f"render_mode = {render_mode!r} must be None or one of {allowed}")
        self.scenario = load(scenario)
        self.render_mode = render_mode
        self._batch = Batch(self.scenario, 1)
        self._chosen = np.ones(1, np.bool_)
        self._action = np.zeros(1, np.int64)
        self.action_space = self._batch.action_space
        self.observation_space = self._batch.observation_space
        self._outputs = self._batch.world.outputs()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode with new requests and return its first decision."""
        super().reset(seed=seed)
        self._batch.load(0, self.np_random)
        self._outputs = self._batch.world.outputs()
        self._batch.world.reset(self._chosen, self._outputs)
        return self._observation(), self._info()

    def step(
        self, action: np.int64 | int
    ) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take candidate ``action`` and return the next decision.

        After the last decision the world runs until every request is finished.
        """
        self._action[0] = action
        outputs = self._batch.world.outputs()
        self._batch.world.step(self._chosen, self._action, outputs)
        self._outputs = outputs
        done = bool(self._batch.world.done[0])
        return self._observation(), float(outputs[0][0]), done, False, self._info()

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which candidates are feasible, bool (C,)."""
        return self._outputs[7][0].astype(np.bool_)

    def results(self) -> dict[str, NDArray]:
        """Return the per-request table of this episode; see :meth:`Batch.results`."""
        return self._batch.results(0)

    def get_state(self) -> dict[str, Any]:
        """Return a copy of the world, to come back to with :meth:`set_state`.

        The generator of future episodes is part of it.
        """
        state: dict[str, Any] = self._batch.world.get_state(0)
        state["np_random"] = self.np_random.bit_generator.state
        state["outputs"] = tuple(array.copy() for array in self._outputs)
        return state

    def set_state(self, state: dict[str, Any]) -> tuple[Observation, dict[str, Any]]:
        """Put the world into ``state`` and return its observation and info."""
        self._batch.world.set_state(0, state)
        self.np_random.bit_generator.state = state["np_random"]
        self._outputs = tuple(array.copy() for array in state["outputs"])
        return self._observation(), self._info()

    def render(self) -> Any:
        """Return the world as text ("ansi") or as a uint8 image (h, w, 3) ("rgb_array")."""
        if self.render_mode is None:
            return None
        picture = rendering.Picture.of(self.scenario, self._batch.world, 0)
        if self.render_mode == "ansi":
            return rendering.as_text(picture)
        return rendering.as_image(picture)

    def _observation(self) -> Observation:
        return {key: array[0] for key, array in zip(KEYS, self._outputs[1:8], strict=True)}

    def _info(self) -> dict[str, Any]:
        return dict(zip(INFO_KEYS, self._outputs[8][0].tolist(), strict=True))
