"""What every batch of worlds shares: outputs, observation layout, copies of its state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .engine.core.records import IDLE


class Outputs(NamedTuple):
    """What the engine writes in one call.

    Attributes:
        floats: float32, all observation keys but the mask, one behind the other.
        numbers: float64 (E, 1 + len(info_keys)): the reward, then the info.
        mask: int8 (E, C), the feasible candidates.
    """

    floats: NDArray[np.float32]
    numbers: NDArray[np.float64]
    mask: NDArray[np.int8]

    def copy(self) -> Outputs:
        """Return copies of all three arrays."""
        return Outputs(self.floats.copy(), self.numbers.copy(), self.mask.copy())


class World:
    """State and observations of ``num_envs`` independent worlds.

    A kind of world allocates its arrays, says which of them hold state and in which order the
    engine finds their addresses, and names the compiled function that runs it.

    Attributes:
        num_envs: E.
        num_candidates: C.
        envs: one record per environment, with ``done``, ``decisions`` and the present episode.
        info_keys: names of the numbers behind the reward.
        state_names: arrays that are an environment's state, each with a leading axis E.
        run_batch: the compiled engine.
    """

    num_envs: int
    num_candidates: int
    envs: NDArray[np.void]
    info_keys: tuple[str, ...]
    state_names: tuple[str, ...]
    run_batch: Callable[..., None]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every float observation of one environment, in the engine's order."""
        raise NotImplementedError

    def engine_table(self) -> NDArray[np.int64]:
        """Return the sizes and addresses that the engine reads."""
        raise NotImplementedError

    @property
    def is_loaded(self) -> bool:
        """Whether every environment has had an episode loaded."""
        raise NotImplementedError

    def lay_out(self) -> None:
        """Fix where each observation lies in the outputs; call once all arrays are allocated."""
        self._layout: list[tuple[str, tuple[int, ...], slice]] = []
        self._num_floats = 0
        for key, size in self.shapes().items():
            end = self._num_floats + self.num_envs * math.prod(size)
            self._layout.append((key, size, slice(self._num_floats, end)))
            self._num_floats = end
        self._table = self.engine_table()

    def outputs(self) -> Outputs:
        """Return fresh arrays for what the engine writes."""
        return Outputs(
            np.empty(self._num_floats, np.float32),
            np.empty((self.num_envs, 1 + len(self.info_keys)), np.float64),
            np.empty((self.num_envs, self.num_candidates), np.int8),
        )

    def observation(self, outputs: Outputs) -> dict[str, NDArray]:
        """Return the batched observation that lies in ``outputs``, without copying."""
        n, floats = self.num_envs, outputs.floats
        views: dict[str, NDArray] = {
            key: floats[part].reshape(n, *shape) for key, shape, part in self._layout
        }
        views["action_mask"] = outputs.mask
        return views

    def first_observation(self, outputs: Outputs) -> dict[str, NDArray]:
        """Return the observation of a world of one environment, without the leading axis."""
        floats = outputs.floats
        views: dict[str, NDArray] = {
            key: floats[part] if len(shape) == 1 else floats[part].reshape(shape)
            for key, shape, part in self._layout
        }
        views["action_mask"] = outputs.mask[0]
        return views

    def run(self, orders: NDArray[np.int64], actions: NDArray[np.int64], outputs: Outputs) -> None:
        """Do in each environment what ``orders`` says (IDLE, STEP or START), and observe it.

        The rows of idle environments are left as they are in ``outputs``.
        """
        floats, numbers, mask = outputs
        type(self).run_batch(orders, actions, self._table, floats, numbers, mask)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the addresses out: a copy has arrays of its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_table"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._table = self.engine_table()

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which environments have finished their episode, bool (E,)."""
        return self.envs["done"] != 0

    @property
    def decisions(self) -> NDArray[np.int64]:
        """Decisions taken in this episode, int64 (E,)."""
        return self.envs["decisions"]

    def warm_up(self) -> None:
        """Compile every engine function, or load it from the cache, without touching the state."""
        nobody = np.full(self.num_envs, IDLE)
        self.run(nobody, np.zeros(self.num_envs, np.int64), self.outputs())

    def array(self, name: str) -> NDArray[Any]:
        """Return an array of the state by name."""
        return getattr(self, name)

    def get_state(self, e: int) -> dict[str, NDArray]:
        """Return a copy of environment ``e``'s state."""
        return {name: self.array(name)[e : e + 1].copy() for name in self.state_names}

    def set_state(self, e: int, state: dict[str, NDArray]) -> None:
        """Put environment ``e`` into a state that :meth:`get_state` returned."""
        for name in self.state_names:
            self.array(name)[e : e + 1] = state[name]
