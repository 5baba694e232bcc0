"""A batch of worlds of one scenario: arrays of all parts, outputs, copies, spaces."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from .engine import clock
from .engine.core import store, units
from .engine.core.compile import is_warm
from .engine.core.records import CLOCK, IDLE, NOTHING, record_of, records
from .engine.decide.columns import info_keys, layout_record
from .engine.state import STATE
from .observation import Layout
from .parts.part import Part


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
    """``num_envs`` independent worlds made of the same parts.

    Args:
        parts: their arrays, one :class:`.parts.part.Part` for each kind of decision at most.
        num_envs: E.

    Attributes:
        layout: where each column of the observations stands.
        num_candidates: C.
        clock: CLOCK (E,).
        info_keys: names of the numbers behind the reward.
        state: what changes, by name, each array with a leading axis E.
    """

    def __init__(self, parts: Sequence[Part], num_envs: int) -> None:
        self.num_envs = num_envs
        self.layout = Layout(part.kind for part in parts)
        self.info_keys = info_keys(self.layout)
        self.num_candidates = max(part.sizes.candidates for part in parts)
        self.clock = records(num_envs, CLOCK)
        self.state: dict[str, NDArray[Any]] = {"clock": self.clock}
        self.shared: dict[str, NDArray[Any]] = {"layout": layout_record(self.layout)}
        for part in parts:
            self.state |= part.state
            self.shared |= part.shared
        self._units = tuple(dict.fromkeys(name for part in parts for name in part.units))
        self._loaded = np.zeros(num_envs, np.bool_)
        sizes = [part.sizes for part in parts]
        devices, links = sum(size.devices for size in sizes), sum(size.links for size in sizes)
        self.shapes: dict[str, tuple[int, ...]] = {
            "cluster": (len(self.layout.columns("cluster")),),
            "device_memory": (devices,),
            "device_load": (devices,),
            "link_load": (links,),
            "queue": (max(size.queue for size in sizes), len(self.layout.columns("queue"))),
            "candidates": (self.num_candidates, len(self.layout.columns("candidates"))),
        }
        self._lay_out()
        with telling(is_warm(clock.run_batch) and not units.missing(self._units, STATE)):
            self._connect()
            self._warm_up()

    def begin(self, e: int) -> None:
        """Set the clock of environment ``e`` to the start of an episode, whose parts are loaded."""
        self.clock[e] = _NEW_CLOCK
        self._loaded[e] = True

    @property
    def is_loaded(self) -> bool:
        """Whether every environment has had an episode loaded."""
        return bool(self._loaded.all())

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which environments have finished their episode, bool (E,)."""
        return self._done != 0

    @property
    def decisions(self) -> NDArray[np.int64]:
        """Decisions taken in this episode, int64 (E,)."""
        return self.clock["decisions"]

    @property
    def action_space(self) -> spaces.Discrete:
        """One action per candidate."""
        return spaces.Discrete(self.num_candidates)

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Flat Dict of float32 Boxes in [0, 1] and the int8 action mask."""
        boxes: dict[str, spaces.Space] = {
            key: spaces.Box(0.0, 1.0, shape, np.float32) for key, shape in self.shapes.items()
        }
        boxes["action_mask"] = spaces.Box(0, 1, (self.num_candidates,), np.int8)
        return spaces.Dict(boxes)

    def outputs(self) -> Outputs:
        """Return fresh arrays for what the engine writes."""
        return Outputs(
            np.empty(self._num_floats, np.float32),
            np.empty((self.num_envs, 1 + len(self.info_keys)), np.float64),
            np.empty((self.num_envs, self.num_candidates), np.int8),
        )

    def observation(self, outputs: Outputs) -> dict[str, NDArray]:
        """Return the batched observation that lies in ``outputs``, without copying."""
        floats = outputs.floats
        views: dict[str, NDArray] = {
            key: floats[part].reshape(shape) for key, shape, part in self._places
        }
        views["action_mask"] = outputs.mask
        return views

    def first_observation(self, outputs: Outputs) -> dict[str, NDArray]:
        """Return the observation of a world of one environment, without the leading axis."""
        floats = outputs.floats
        views: dict[str, NDArray] = {
            key: floats[part] if len(shape) == 2 else floats[part].reshape(shape[1:])
            for key, shape, part in self._places
        }
        views["action_mask"] = outputs.mask[0]
        return views

    def run(self, orders: NDArray[np.int64], actions: NDArray[np.int64], outputs: Outputs) -> None:
        """Do in each environment what ``orders`` says (IDLE, STEP or START), and observe it.

        The rows of idle environments are left as they are in ``outputs``.
        """
        floats, numbers, mask = outputs
        clock.run_batch(
            orders, actions, self._table, self._slots, self._offsets, floats, mask, numbers
        )

    def get_state(self, e: int) -> dict[str, NDArray]:
        """Return a copy of environment ``e``'s state."""
        return {name: array[e : e + 1].copy() for name, array in self.state.items()}

    def set_state(self, e: int, state: dict[str, NDArray]) -> None:
        """Put environment ``e`` into a state that :meth:`get_state` returned."""
        for name, array in self.state.items():
            array[e : e + 1] = state[name]
        self._loaded[e] = True

    def __getstate__(self) -> dict[str, Any]:
        """Leave the addresses out: a copy has arrays of its own."""
        left_out = ("_table", "_done")
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.clock = self.state["clock"]
        self._connect()

    def _lay_out(self) -> None:
        """Fix where each observation lies in the outputs."""
        self._places: list[tuple[str, tuple[int, ...], slice]] = []
        self._num_floats = 0
        for key, size in self.shapes.items():
            shape = (self.num_envs, *size)
            end = self._num_floats + math.prod(shape)
            self._places.append((key, shape, slice(self._num_floats, end)))
            self._num_floats = end
        outputs = (*self.shapes, "action_mask", "numbers")
        self._slots = np.array([STATE.fields[name].slot for name in outputs])
        self._offsets = np.array([4 * part.start for _, _, part in self._places], np.int64)

    def _connect(self) -> None:
        """Write down where all arrays and compiled functions lie."""
        self._done = self.clock["done"]
        self.shared["units"] = units.addresses(self._units, STATE)
        outputs = self.outputs()
        written = self.observation(outputs) | {"numbers": outputs.numbers}
        self._table = STATE.table(self.state | self.shared | written)

    def _warm_up(self) -> None:
        """Have the clock compiled, or loaded, without touching the state."""
        nobody = np.full(self.num_envs, IDLE)
        self.run(nobody, np.zeros(self.num_envs, np.int64), self.outputs())


@contextmanager
def telling(warm: bool) -> Iterator[None]:
    """Say on stderr that something is compiled, and how long it took, unless it is ``warm``."""
    if not warm:
        kept = "once for this version of it and of numba"
        if store.folder() is None:
            kept = (
                "in every process: no folder to keep it can be written, set NUMBA_CACHE_DIR to one"
            )
        print(f"gpuyard: compiling the engine, {kept} ...", file=sys.stderr, flush=True)
    began = time.perf_counter()
    yield
    if not warm:
        seconds = time.perf_counter() - began
        print(f"gpuyard: compiled in {seconds:.0f} s", file=sys.stderr, flush=True)


_NEW_CLOCK = record_of(CLOCK, due=NOTHING)
