"""The arrays of a batch of worlds, and the calls into the compiled engine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..observation import CANDIDATES, CLUSTER, QUEUE
from ..workload.stream import RequestStream
from . import decisions
from .compile import DISABLE_JIT
from .kvcache import NEVER_SENT
from .records import ENV, NODE, REPLICA, REQUEST, SLOT
from .runs import NEVER

INFO_KEYS = (
    "time_s",
    "arrived",
    "finished",
    "invalid_actions",
    "preemptions",
    "ttft_mean_s",
    "tpot_mean_s",
    "e2e_mean_s",
    "slo_attainment",
    "goodput",
    "output_tokens_per_s",
    "prefix_hit_rate",
)

STATE = ("envs", "replicas", "requests", "slots", "phases", "nodes", "holders", "ids")


class Outputs(NamedTuple):
    """What the engine writes in one call.

    Attributes:
        floats: float32, all observation keys but the mask, one behind the other.
        numbers: float64 (E, 1 + len(INFO_KEYS)): the reward, then the info.
        mask: int8 (E, C), the feasible candidates.
    """

    floats: NDArray[np.float32]
    numbers: NDArray[np.float64]
    mask: NDArray[np.int8]

    def copy(self) -> Outputs:
        """Return copies of all three arrays."""
        return Outputs(self.floats.copy(), self.numbers.copy(), self.mask.copy())


@dataclass(frozen=True)
class Static:
    """What all environments of a batch share.

    Attributes:
        specs: SPEC records, shape (R,), one per replica.
        costs: COST records, shape (K,), one per kind of replica.
        linear_s: float64 (K, T + 1), seconds by tokens in a step.
        head_s: float64 (K, S + 1), seconds by sequences sampling.
        config: CONFIG record, shape (1,).
    """

    specs: NDArray[np.void]
    costs: NDArray[np.void]
    linear_s: NDArray[np.float64]
    head_s: NDArray[np.float64]
    config: NDArray[np.void]


class World:
    """State and observations of ``num_envs`` independent worlds.

    Args:
        static: specs, costs and configuration.
        num_envs: E.
        num_requests: N, room for requests per episode.
        num_ids: M, room for the prefix ids of an episode's requests.
        num_nodes: H, room for distinct prefix ids.
        queue_rows: Q, rows of the observed queue.
        hold: whether a last candidate stands for holding the request back.
    """

    def __init__(
        self,
        static: Static,
        num_envs: int,
        num_requests: int,
        num_ids: int,
        num_nodes: int,
        queue_rows: int,
        hold: bool,
    ) -> None:
        specs = static.specs
        self.static = static
        self.num_envs = num_envs
        self.num_candidates = len(specs) + int(hold)
        self.num_devices = int(specs["num_devices"].sum())
        self.queue_rows = queue_rows
        shape = (num_envs, len(specs))
        self.envs = records(num_envs, ENV)
        self.replicas = records(shape, REPLICA)
        self.requests = records((num_envs, num_requests), REQUEST)
        self.slots = records((*shape, int(specs["max_num_seqs"].max())), SLOT)
        self.phases = np.zeros((*shape, int(specs["block_size"].max())), np.int32)
        self.nodes = records((num_envs, max(num_nodes, 1), len(specs)), NODE)
        self.holders = np.zeros(self.nodes.shape, np.int16)
        self.ids = np.zeros((num_envs, max(num_ids, 1)), np.int32)
        self._table = self._engine_table()
        self._layout: list[tuple[str, tuple[int, ...], slice]] = []
        self._num_floats = 0
        for key, size in self.shapes().items():
            end = self._num_floats + num_envs * math.prod(size)
            self._layout.append((key, size, slice(self._num_floats, end)))
            self._num_floats = end

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every float observation of one environment, in the engine's order."""
        return {
            "cluster": (len(CLUSTER),),
            "device_memory": (self.num_devices,),
            "device_load": (self.num_devices,),
            "link_load": (len(self.static.specs),),
            "queue": (self.queue_rows, len(QUEUE)),
            "candidates": (self.num_candidates, len(CANDIDATES)),
        }

    def load(self, e: int, stream: RequestStream, estimate_tokens: NDArray[np.int32]) -> None:
        """Empty the world of environment ``e`` and give it the requests of its next episode."""
        self.envs[e] = _NEW_ENV
        self.envs["num_requests"][e] = len(stream)
        _fill(self.replicas[e], _IDLE_REPLICA)
        self.replicas["free_blocks"][e] = self.static.specs["kv_blocks"]
        self.replicas["tail_blocks"][e] = self.static.specs["kv_blocks"]
        self.phases[e] = 0
        distinct = int(stream.prefix_ids.max(initial=-1)) + 1
        self.holders[e, :distinct] = NEVER_SENT
        self.ids[e, : len(stream.prefix_ids)] = stream.prefix_ids
        rows = self.requests[e, : len(stream)]
        _fill(rows, _NEW_REQUEST)
        rows["arrival_s"] = stream.arrival_s
        rows["prompt_tokens"] = stream.prompt_tokens
        rows["output_tokens"] = stream.output_tokens
        rows["estimate_tokens"] = estimate_tokens
        rows["session"] = stream.session
        rows["previous"] = _previous(stream.session)
        rows["prefix_begin"] = stream.prefix_offsets[:-1]
        rows["prefix_count"] = np.diff(stream.prefix_offsets)
        rows["priority"] = stream.priority

    def outputs(self) -> Outputs:
        """Return fresh arrays for what the engine writes."""
        return Outputs(
            np.empty(self._num_floats, np.float32),
            np.empty((self.num_envs, 1 + len(INFO_KEYS)), np.float64),
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
        decisions.run_batch(orders, actions, self._table, floats, numbers, mask)

    def _engine_table(self) -> NDArray[np.int64]:
        """Return the sizes and addresses that the engine reads; see ``run_batch``."""
        static = self.static
        arrays = (
            self.envs,
            static.config,
            self.replicas,
            static.specs,
            static.costs,
            self.requests,
            self.slots,
            self.phases,
            self.nodes,
            self.holders,
            self.ids,
            static.linear_s,
            static.head_s,
        )
        sizes = (
            self.num_envs,
            len(static.specs),
            len(static.costs),
            self.requests.shape[1],
            self.ids.shape[1],
            self.nodes.shape[1],
            self.slots.shape[2],
            self.phases.shape[2],
            static.linear_s.shape[1],
            static.head_s.shape[1],
            self.num_devices,
            self.queue_rows,
            self.num_candidates,
        )
        return np.array([*sizes, *(array.ctypes.data for array in arrays)], np.int64)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the addresses out: a copy has arrays of its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_table"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._table = self._engine_table()

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which environments have finished their episode, bool (E,)."""
        return self.envs["done"] != 0

    @property
    def decisions(self) -> NDArray[np.int64]:
        """Decisions taken in this episode, int64 (E,)."""
        return self.envs["decisions"]

    @property
    def is_loaded(self) -> bool:
        """Whether every environment has had an episode loaded."""
        return bool((self.envs["num_requests"] > 0).all())

    def warm_up(self) -> None:
        """Compile every engine function, or load it from the cache, without touching the state."""
        nobody = np.full(self.num_envs, decisions.IDLE)
        self.run(nobody, np.zeros(self.num_envs, np.int64), self.outputs())

    def get_state(self, e: int) -> dict[str, NDArray]:
        """Return a copy of environment ``e``'s state."""
        return {name: getattr(self, name)[e : e + 1].copy() for name in STATE}

    def set_state(self, e: int, state: dict[str, NDArray]) -> None:
        """Put environment ``e`` into a state that :meth:`get_state` returned."""
        for name in STATE:
            getattr(self, name)[e : e + 1] = state[name]


def records(shape: int | tuple[int, ...], dtype: np.dtype) -> NDArray[np.void]:
    """Return zeroed records; without the compiler, of a kind that Python code can read as such."""
    array = np.zeros(shape, dtype)
    return array.view(np.recarray) if DISABLE_JIT else array


def _fill(rows: NDArray[np.void], record: NDArray[np.void]) -> None:
    """Copy ``record`` into every row, as bytes: 18 times as fast as field by field."""
    raw = f"V{record.dtype.itemsize}"
    rows.view(raw)[...] = record.view(raw)


def _previous(session: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return for every request the one before it in its session, -1 where there is none."""
    order = np.argsort(session, kind="stable")
    ranked = session[order]
    follows = (ranked[1:] == ranked[:-1]) & (ranked[1:] >= 0)
    previous = np.full(len(session), -1)
    previous[order[1:][follows]] = order[:-1][follows]
    return previous


def _record(dtype: np.dtype, **start: float) -> NDArray[np.void]:
    """Return one record of zeros but for the fields in ``start``."""
    record = np.zeros((), dtype)
    for field, value in start.items():
        record[field] = value
    return record


_NEW_ENV = _record(ENV, deciding=-1, held_head=-1, held_tail=-1)
_IDLE_REPLICA = _record(REPLICA, head=-1, tail=-1, lru_head=-1, lru_tail=-1, next_finish=NEVER)
_NEW_REQUEST = _record(
    REQUEST,
    replica=-1,
    next=-1,
    cached_tokens=-1,
    retry_s=np.nan,
    first_token_s=np.nan,
    finish_s=np.nan,
)
