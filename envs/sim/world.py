"""The arrays of a batch of worlds, and the calls into the compiled engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import config
from numpy.typing import NDArray

from ..observation import CANDIDATES, CLUSTER, QUEUE
from ..workload.stream import RequestStream
from . import decisions
from .records import ENV, NODE, REPLICA, REQUEST, SLOT

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

STATE = ("envs", "replicas", "requests", "slots", "phases", "nodes", "ids", "num_ids")


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
        self.ids = np.zeros((num_envs, max(num_ids, 1)), np.int32)
        self.num_ids = np.zeros(num_envs, np.int32)

    def load(self, e: int, stream: RequestStream, estimate_tokens: NDArray[np.int32]) -> None:
        """Give environment ``e`` the requests of its next episode."""
        session = stream.session
        if len(session) and session.max() >= len(stream):
            session = np.unique(session, return_inverse=True)[1].astype(np.int32) - int(
                session.min() < 0
            )
        decisions.load_requests(
            e,
            self.envs,
            self.requests,
            self.ids,
            stream.arrival_s,
            stream.prompt_tokens,
            stream.output_tokens,
            estimate_tokens,
            session,
            stream.prefix_offsets,
            stream.prefix_ids,
            stream.priority,
        )
        self.num_ids[e] = stream.prefix_ids.max() + 1 if len(stream.prefix_ids) else 0

    def outputs(self) -> tuple[NDArray, ...]:
        """Return fresh arrays for what the engine writes: rewards, observation keys, info."""
        n, candidates, replicas = self.num_envs, self.num_candidates, len(self.static.specs)
        return (
            np.empty(n, np.float64),
            np.empty((n, len(CLUSTER)), np.float32),
            np.empty((n, self.num_devices), np.float32),
            np.empty((n, self.num_devices), np.float32),
            np.empty((n, replicas), np.float32),
            np.empty((n, self.queue_rows, len(QUEUE)), np.float32),
            np.empty((n, candidates, len(CANDIDATES)), np.float32),
            np.empty((n, candidates), np.int8),
            np.empty((n, len(INFO_KEYS)), np.float64),
        )

    def reset(self, chosen: NDArray[np.bool_], outputs: tuple[NDArray, ...]) -> None:
        """Start an episode in the chosen environments and write their rows of ``outputs``."""
        nothing = np.zeros(self.num_envs, np.int64)
        self._run(np.where(chosen, decisions.RESET, decisions.IDLE), nothing, outputs)

    def step(
        self, chosen: NDArray[np.bool_], actions: NDArray[np.int64], outputs: tuple[NDArray, ...]
    ) -> None:
        """Take one action in the chosen environments and write their rows of ``outputs``."""
        self._run(np.where(chosen, decisions.STEP, decisions.IDLE), actions, outputs)

    def _run(
        self, orders: NDArray[np.int64], actions: NDArray[np.int64], outputs: tuple[NDArray, ...]
    ) -> None:
        decisions.run_batch(
            orders, actions, self.num_ids, outputs[0], *self._engine(), *outputs[1:]
        )

    def _engine(self) -> tuple[NDArray, ...]:
        static = self.static
        return (
            self.envs,
            static.config,
            self.replicas,
            static.specs,
            static.costs,
            self.requests,
            self.slots,
            self.phases,
            self.nodes,
            self.ids,
            static.linear_s,
            static.head_s,
        )

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
        nobody = np.zeros(self.num_envs, np.bool_)
        outputs = self.outputs()
        none_i4, none_i8 = np.zeros(0, np.int32), np.zeros(1, np.int64)
        none_f8, none_f4 = np.zeros(0, np.float64), np.zeros(0, np.float32)
        self.reset(nobody, outputs)
        self.step(nobody, np.zeros(self.num_envs, np.int64), outputs)
        nowhere, ids = records(1, ENV), np.zeros((1, 1), np.int32)
        decisions.load_requests(
            0, nowhere, records((1, 1), REQUEST), ids, none_f8, none_i4, none_i4, none_i4, none_i4,
            none_i8, none_i4, none_f4,
        )  # fmt: skip

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
    return array.view(np.recarray) if config.DISABLE_JIT else array
