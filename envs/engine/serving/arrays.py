"""The arrays of a batch of worlds in which requests are routed to serving replicas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...engine.core.records import fill, record_of, records
from ...observation import Layout
from ...workload.requests.stream import RequestStream
from ...world import World
from ..decide import route as decisions
from ..decide.columns import layout_record
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


class ServingWorld(World):
    """Worlds in which requests are routed to replicas.

    Args:
        static: specs, costs and configuration.
        num_envs: E.
        num_requests: N, room for requests per episode.
        num_ids: M, room for the prefix ids of an episode's requests.
        num_nodes: H, room for distinct prefix ids.
        queue_rows: Q, rows of the observed queue.
        hold: whether a last candidate stands for holding the request back.
    """

    info_keys = INFO_KEYS
    state_names = STATE
    run_batch = staticmethod(decisions.run_batch)

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
        self.layout = layout_record(Layout({"route"}))
        self.lay_out()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every float observation of one environment, in the engine's order."""
        layout = Layout({"route"})
        return {
            "cluster": (len(layout.columns("cluster")),),
            "device_memory": (self.num_devices,),
            "device_load": (self.num_devices,),
            "link_load": (len(self.static.specs),),
            "queue": (self.queue_rows, len(layout.columns("queue"))),
            "candidates": (self.num_candidates, len(layout.columns("candidates"))),
        }

    def load(self, e: int, stream: RequestStream, estimate_tokens: NDArray[np.int32]) -> None:
        """Empty the world of environment ``e`` and give it the requests of its next episode."""
        self.envs[e] = _NEW_ENV
        self.envs["num_requests"][e] = len(stream)
        fill(self.replicas[e], _IDLE_REPLICA)
        self.replicas["free_blocks"][e] = self.static.specs["kv_blocks"]
        self.replicas["tail_blocks"][e] = self.static.specs["kv_blocks"]
        self.phases[e] = 0
        distinct = int(stream.prefix_ids.max(initial=-1)) + 1
        self.holders[e, :distinct] = NEVER_SENT
        self.ids[e, : len(stream.prefix_ids)] = stream.prefix_ids
        rows = self.requests[e, : len(stream)]
        fill(rows, _NEW_REQUEST)
        rows["arrival_s"] = stream.arrival_s
        rows["prompt_tokens"] = stream.prompt_tokens
        rows["output_tokens"] = stream.output_tokens
        rows["estimate_tokens"] = estimate_tokens
        rows["session"] = stream.session
        rows["previous"] = _previous(stream.session)
        rows["prefix_begin"] = stream.prefix_offsets[:-1]
        rows["prefix_count"] = np.diff(stream.prefix_offsets)
        rows["priority"] = stream.priority

    def engine_table(self) -> NDArray[np.int64]:
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
            self.layout,
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

    @property
    def is_loaded(self) -> bool:
        """Whether every environment has had an episode loaded."""
        return bool((self.envs["num_requests"] > 0).all())


def _previous(session: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return for every request the one before it in its session, -1 where there is none."""
    order = np.argsort(session, kind="stable")
    ranked = session[order]
    follows = (ranked[1:] == ranked[:-1]) & (ranked[1:] >= 0)
    previous = np.full(len(session), -1)
    previous[order[1:][follows]] = order[:-1][follows]
    return previous


_NEW_ENV = record_of(ENV, deciding=-1, held_head=-1, held_tail=-1)
_IDLE_REPLICA = record_of(REPLICA, head=-1, tail=-1, lru_head=-1, lru_tail=-1, next_finish=NEVER)
_NEW_REQUEST = record_of(
    REQUEST,
    replica=-1,
    next=-1,
    cached_tokens=-1,
    retry_s=np.nan,
    first_token_s=np.nan,
    finish_s=np.nan,
)
