"""A batch of worlds of one scenario: arrays of all parts, outputs, copies, spaces."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from .engine import clock
from .engine.core import store, units
from .engine.core.compile import is_warm
from .engine.core.records import CLOCK, GO_ON, IDLE, IN_FULL, NOTHING, record_of, records
from .engine.decide.columns import info_keys, layout_record
from .engine.state import STATE
from .observation import Layout
from .parts.part import Part
from .scenario import Limits
from .threads import Threads, shares


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
        limits: when an episode is cut short.
        num_threads: how many share the environments; any number gives the same bytes.

    Attributes:
        layout: where each column of the observations stands.
        num_candidates: C.
        clock: CLOCK (E,).
        info_keys: names of the numbers behind the reward.
        is_loaded: whether every environment has had an episode loaded.
        state: what changes, by name, each array with a leading axis E.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        num_envs: int,
        limits: Limits | None = None,
        num_threads: int = 1,
    ) -> None:
        self.num_envs = num_envs
        self._shares = shares(num_envs, num_threads)
        options = [name for part in parts for name in part.options]
        kinds = [kind for part in parts for kind in (part.kind, *part.more_kinds)]
        self.layout = Layout(kinds, options)
        services = [name for part in parts for name in part.services]
        classes = [name for part in parts for name in part.classes]
        closed_loop = any(part.closed_loop for part in parts)
        in_steps = any(part.in_steps for part in parts)
        self.info_keys = info_keys(self.layout, services, closed_loop, classes, in_steps)
        self.num_candidates = max(part.sizes.candidates for part in parts)
        self.clock = records(num_envs, CLOCK)
        self._new_clock = _new_clock(limits or Limits())
        self.state: dict[str, NDArray[Any]] = {"clock": self.clock}
        self.shared: dict[str, NDArray[Any]] = {"layout": layout_record(self.layout)}
        for part in parts:
            self.state |= part.state
            self.shared |= part.shared
        self._units = tuple(dict.fromkeys(name for part in parts for name in part.units))
        self._loaded = np.zeros(num_envs, np.bool_)
        self.is_loaded = False
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
        self._identity = self._digest()
        self._lay_out()
        with telling(is_warm(clock.run_batch) and not units.missing(self._units, STATE)):
            self._connect()
            self._warm_up()

    def begin(self, e: int) -> None:
        """Set the clock of environment ``e`` to the start of an episode, whose parts are loaded."""
        self.clock[e] = self._new_clock
        self._load(e, True)

    def check_loaded(self) -> None:
        """Make sure that every environment has an episode to step in.

        Raises:
            ResetNeeded: one has none, also after a state of a world that was never reset.
        """
        if not self.is_loaded:
            raise ResetNeeded("no episode has begun: call reset before step")

    @property
    def done(self) -> NDArray[np.bool_]:
        """In which environments the episode has ended, bool (E,)."""
        return self._done != 0

    @property
    def terminated(self) -> NDArray[np.bool_]:
        """In which it has because everything has ended, bool (E,); elsewhere it is truncated."""
        return self.done & (self._truncated == IN_FULL)

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
            np.zeros(self._num_floats, np.float32),
            np.zeros((self.num_envs, 1 + len(self.info_keys)), np.float64),
            np.zeros((self.num_envs, self.num_candidates), np.int8),
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

        The rows of idle environments are left as they are in ``outputs``. The engine comes back
        now and then, so that a signal (Ctrl-C) is heard however long a decision takes to come; a
        step that was cut off so goes on with the next one, whose action is not looked at.
        """
        while self._run_some(orders, actions, outputs) > 0:
            orders = np.where(self.clock["paused"] == 1, GO_ON, IDLE)

    def _run_some(
        self, orders: NDArray[np.int64], actions: NDArray[np.int64], outputs: Outputs
    ) -> int:
        """Go on for a while; return how many environments have paused before their decision."""
        floats, numbers, mask = outputs
        fixed = self._slots, self._offsets, floats, mask, numbers
        if len(self._shares) == 1:
            return clock.run_batch(orders, actions, self._tables[0], *fixed)

        def work(thread: int) -> int:
            mine = np.where(self._shares[thread], orders, IDLE)
            return clock.run_batch(mine, actions, self._tables[thread], *fixed)

        return self._threads.total(work)

    def get_state(self, e: int) -> dict[str, Any]:
        """Return a copy of environment ``e``'s state, and of which world it is."""
        arrays = {name: array[e : e + 1].copy() for name, array in self.state.items()}
        return {"world": self._identity, "loaded": bool(self._loaded[e]), "arrays": arrays}

    def check_state(self, state: Any, outputs: Any) -> None:
        """Refuse what :meth:`get_state` of a world like this one did not return.

        Args:
            state: of one environment.
            outputs: arrays as :meth:`outputs` returned them, or a plain tuple of those.

        Raises:
            ValueError: it is the state of another scenario, or none at all.
        """
        check_keys(state, ("world", "loaded", "arrays"))
        if state["world"] != self._identity:
            raise ValueError(
                f"state of world {state['world']}, but this one is {self._identity}: it belongs to "
                "another scenario or version; make the environment with the scenario it is from"
            )
        mine = {name: array[:1] for name, array in self.state.items()}
        pairs = [(name, state["arrays"].get(name), array) for name, array in mine.items()]
        written = dict(zip(Outputs._fields, outputs or (), strict=False))
        for name, like in self.outputs()._asdict().items():
            pairs.append((name, written.get(name), like))
        for name, array, like in pairs:
            if np.shape(array) != like.shape or array.dtype != like.dtype:
                raise ValueError(
                    f"state: {name} has shape {np.shape(array)}, must have {like.shape} of "
                    f"{like.dtype}: it is damaged, or of another number of environments"
                )

    def set_state(self, e: int, state: dict[str, Any]) -> None:
        """Put environment ``e`` into a state that :meth:`check_state` accepts."""
        for name, array in self.state.items():
            array[e : e + 1] = state["arrays"][name]
        self._load(e, state["loaded"])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the addresses out: a copy has arrays of its own."""
        left_out = ("_tables", "_threads", "_done", "_truncated")
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.clock = self.state["clock"]
        self._connect()

    def _load(self, e: int, is_loaded: bool) -> None:
        """Note whether environment ``e`` has an episode."""
        self._loaded[e] = is_loaded
        self.is_loaded = bool(self._loaded.all())

    def _digest(self) -> str:
        """Return what tells this world's states from others': all constants, shapes and types."""
        digest = hashlib.blake2b(self._new_clock.tobytes(), digest_size=8)
        for name, array in sorted(self.shared.items()):
            digest.update(f"{name} {array.shape} {array.dtype}".encode() + array.tobytes())
        for name, array in sorted(self.state.items()):
            digest.update(f"{name} {array.shape[1:]} {array.dtype}".encode())
        return digest.hexdigest()

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
        self._done, self._truncated = self.clock["done"], self.clock["truncated"]
        self.shared["units"] = units.addresses(self._units, STATE)
        outputs = self.outputs()
        written = self.observation(outputs) | {"numbers": outputs.numbers}
        table = STATE.table(self.state | self.shared | written)
        self._tables = [table.copy() for _ in self._shares]  # each call writes its outputs there
        self._threads = Threads(len(self._shares))

    def _warm_up(self) -> None:
        """Have the clock compiled, or loaded, without touching the state."""
        nobody = np.full(self.num_envs, IDLE)
        self.run(nobody, np.zeros(self.num_envs, np.int64), self.outputs())


def check_keys(state: Any, keys: Collection[str]) -> None:
    """Refuse what is not a dict with these keys, as ``get_state`` returns.

    Raises:
        ValueError: saying so.
    """
    if not isinstance(state, dict) or set(state) != set(keys):
        got = sorted(state, key=str) if isinstance(state, dict) else type(state).__name__
        raise ValueError(
            f"a state has the keys {', '.join(keys)}, this has {got}: give what get_state of such "
            "an environment returned"
        )


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


def _new_clock(limits: Limits) -> NDArray[np.void]:
    """Return the CLOCK record of an episode that is about to begin."""
    return record_of(
        CLOCK,
        due=NOTHING,
        limit_s=limits.max_time_s or math.inf,
        most_decisions=limits.max_decisions or 2**63 - 1,
    )
