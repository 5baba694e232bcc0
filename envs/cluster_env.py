"""The single environment; its class docstring is the documentation page."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from gpuyard.ids import check_decisions

from .actions import whole
from .batch import Batch
from .cluster_view import ClusterView, Plan
from .engine.core.records import START, STEP
from .observation import Layout
from .rendering.window import Window
from .scenario import Scenario, load
from .scenario.provenance import Fact, provenance, warn_of_analogies
from .scene import Scene
from .world import Outputs, check_keys

Observation = dict[str, NDArray]
_STEP, _START = np.array([STEP]), np.array([START])


class ClusterEnv(gym.Env[Observation, np.int64]):
    """A GPU cluster that stops whenever someone must decide.

    ## Description

    Requests for a large language model arrive at a router in front of unequal replicas. For each
    one the agent picks the replica that will serve it (or holds it back for a moment, where the
    scenario allows). Replicas batch continuously with vLLM v1's semantics: a token budget per
    step, decodes first, chunked prefill, a cap on sequences, block-paged KV with preemption by
    recomputation, and a prefix cache with LRU eviction. Step times come from a cost model that is
    held against measured kernels and real serving runs (`docs/accuracy.md`). Between events the
    engine advances in closed form.

    `gpuyard/Placement-v0` is the same class with scenarios that have a `[cluster]`: training jobs
    arrive as gangs, and for each decision the agent picks a gang and a plan of where it starts, or
    waits. Its description and tables stand in `docs/placement.md`. `gpuyard/Cluster-v0` is the
    same class with `[[deployments]]` on that cluster: replicas are gangs beside the jobs, and the
    agent also adds and takes away replicas; see `docs/cluster.md`. What follows is routing.

    ## Action Space

    `Discrete(C)`: the candidate to take. In `gpuyard/Routing-v0` there is one candidate per
    replica, in the scenario's order, and a last one to hold the request back for `router.hold_s`
    seconds if that is above 0. `action_masks()` and the observation's `action_mask` say which are
    feasible: replicas whose KV cache can hold the request; holding, while the request has waited
    less than `router.hold_limit_s`. An infeasible action is counted in `info["invalid_actions"]`
    and replaced by the feasible replica with the fewest requests in flight. What is no whole number
    is refused (:mod:`.actions`).

    ## Observation Space

    A flat `Dict` of float32 `Box`es in [0, 1]; `action_mask` is int8. R replicas, D devices, C
    candidates. A column holds a share, or a quantity x >= 0 squashed to x / (x + scale), which
    `gpuyard.envs.observation.read` undoes. Columns marked "reported" are what the replica last told the
    router, every `router.signal_interval_s` seconds (0: always up to date); the others are the
    router's own knowledge. Output lengths are estimates (`[estimates]` of the scenario); the mask asks
    whether a replica holds the request up to the bound that it states (`max_tokens`). A cached prefix
    counts from the report that follows it until it is evicted.

    | Key | Shape | What |
    |-----|-------|------|
    | `cluster` | (11,) | the world as a whole |
    | `device_memory` | (D,) | share of each device's memory in use (reported) |
    | `device_load` | (D,) | share of each device's peak FLOP/s in use by the step under way (reported) |
    | `link_load` | (R,) | utilisation of each replica's scale-up links by tensor parallelism (reported) |
    | `queue` | (Q, 8) | the request under decision, then those held back, oldest first |
    | `candidates` | (C, 21) | what taking each candidate would mean |
    | `action_mask` | (C,) | 1 = feasible |

    `cluster`:

    | # | Column | Unit | Stored as | Meaning |
    |---|--------|------|-----------|---------|
    | 0 | `kind_route` | flag | x | a request waits for a replica |
    | 1 | `kind_place` | flag | x | a gang waits for devices |
    | 2 | `kind_scale` | flag | x | a replica may be added or removed |
    | 3 | `progress` | share | x | requests decided and gangs finished, of all |
    | 4 | `arrival_rate` | request/s | x / (x + 20) | moving average over about 32 arrivals |
    | 5 | `prompt_rate` | token/s | x / (x + 20000) | prompt tokens arriving, same average |
    | 6 | `in_flight` | request | x / (x + 256) | requests sent to any replica and not finished |
    | 7 | `held` | request | x / (x + 8) | requests held back at the router |
    | 8 | `slo_attainment` | share | x | finished requests that met both objectives |
    | 9 | `prefix_hit_rate` | share | x | prompt tokens served from a prefix cache so far |
    | 10 | `report_age_s` | s | x / (x + 0.2) | time since the replicas' last report |

    `queue`, rows beyond the queue are 0:

    | # | Column | Unit | Stored as | Meaning |
    |---|--------|------|-----------|---------|
    | 0 | `is_request` | flag | x | the row holds a request |
    | 1 | `is_gang` | flag | x | the row holds a gang |
    | 2 | `size` | token or device | x / (x + 2048) | prompt tokens of a request, devices of a gang |
    | 3 | `estimate` | token or s | x / (x + 512) | estimated output tokens or duration |
    | 4 | `age_s` | s | x / (x + 1) | time since arrival |
    | 5 | `priority` | share | x | 0 lowest, 1 highest |
    | 6 | `ttft_slo_s` | s | x / (x + 1) | objective for the time to first token |
    | 7 | `tpot_slo_s` | s | x / (x + 0.05) | objective for the time per output token |

    Holding back is shown as the feasible replica of the least `wait_s` + `prefill_s`, with
    `router.hold_s` more of `wait_s`: no better than that replica in any column.

    `candidates`:

    | # | Column | Unit | Stored as | Meaning |
    |---|--------|------|-----------|---------|
    | 0 | `running` | request | x / (x + 32) | sequences in the batch (reported) |
    | 1 | `waiting` | request | x / (x + 8) | requests queued at the replica (reported) |
    | 2 | `in_flight` | request | x / (x + 32) | sent by this router and not finished |
    | 3 | `in_flight_tokens` | token | x / (x + 32768) | their prompt plus estimated output tokens |
    | 4 | `queued_tokens` | token | x / (x + 8192) | prompt tokens not yet computed (reported) |
    | 5 | `kv_usage` | share | x | KV blocks held by running requests (reported) |
    | 6 | `kv_blocks` | block | x / (x + 4096) | KV blocks held by running requests (reported) |
    | 7 | `kv_demand` | share | x | blocks this request needs at its estimated length |
    | 8 | `request_blocks` | block | x / (x + 64) | KV blocks of this request's prompt |
    | 9 | `prefix_match` | share | x | share of the prompt cached there (reported) |
    | 10 | `prefix_sent` | share | x | share of the prompt this router ever sent there |
    | 11 | `session_last` | flag | x | this session's last request went there |
    | 12 | `session_home` | flag | x | consistent hashing maps this session there |
    | 13 | `prefill_s` | s | x / (x + 0.5) | predicted time to prefill this prompt alone, hits deducted |
    | 14 | `wait_s` | s | x / (x + 0.5) | predicted wait before its prefill starts (reported) |
    | 15 | `step_s` | s | x / (x + 0.05) | predicted decode step with this request added (reported) |
    | 16 | `work_s` | s | x / (x + 5) | estimated compute time of everything in flight there |
    | 17 | `capacity` | share | x | expected output throughput, the fastest replica = 1 |
    | 18 | `load` | share | x | in flight over the sequence cap |
    | 19 | `price` | $/h | x / (x + 10) | price of the replica's devices |
    | 20 | `is_hold` | flag | x | holds the request back; the row is what it costs |

    ## Rewards

    The change of a weighted sum of terms since the last decision; the scenario's `[reward]` table
    has the weights, `gpuyard.envs.reward` the terms. Default: minus the time that requests have
    spent waiting for their first token, so the return is minus N times the mean TTFT (seconds).

    ## Starting State

    All replicas are empty and the first request has just arrived. `reset(seed=...)` draws new
    requests: from the workload's generator, or a window of its trace from a random start.

    ## Episode End

    Terminated when all `workload.num_requests` requests are finished: after the last decision the
    world runs on until then. Truncated only by `[limits]` of the scenario: at `max_time_s`, or when
    all is finished after `max_decisions`, beyond which the engine decides itself. What a truncated
    episode leaves is counted up to its end, by reward and metrics. `info["truncated_reason"]` is 0,
    or an index into `gpuyard.envs.rules.TRUNCATED`. After the end the candidates are 0.

    ## Information

    `reset` and `step` return the same keys, floats, as they stand: `time_s`, `arrived`,
    `finished`, `invalid_actions`, `preemptions`, `ttft_mean_s`, `tpot_mean_s`, `e2e_mean_s`,
    `slo_attainment`, `goodput` (requests within both objectives per second),
    `output_tokens_per_s`, `prefix_hit_rate`, `truncated_reason`. `results()["requests"]` is the table of all requests.

    ## Arguments

    | Argument | Default | Meaning |
    |----------|---------|---------|
    | `scenario` | `"routing-default"` | name, path of a TOML file, or a `Scenario` |
    | `render_mode` | `None` | `"ansi"` (text), `"rgb_array"` (uint8 image; needs matplotlib) or `"human"` (a window, or the cell of a notebook, redrawn at every decision) |
    | `decisions` | `None` | refuse a scenario that does not ask for exactly these; set by the ids |

    ```python
    import gymnasium as gym
    import gpuyard

    env = gym.make("gpuyard/Routing-v0", scenario="routing-default")
    ```

    ## Vectorized environment

    `gym.make_vec("gpuyard/Routing-v0", num_envs=64)` gives
    :class:`~gpuyard.envs.vector_env.ClusterVectorEnv`: the same engine and, seed for seed, the
    same trajectories.

    ## References

    vLLM v1 scheduler and block pool; the cost model's sources stand in `envs/perf`.

    ## Version History

    * v0: initial version.
    """

    metadata = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        scenario: str | Path | Scenario = "routing-default",
        render_mode: str | None = None,
        decisions: Collection[str] | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            allowed = ", ".join(self.metadata["render_modes"])
            raise ValueError(f"render_mode = {render_mode!r} must be None or one of {allowed}")
        self.scenario = load(scenario)
        if decisions is not None:
            check_decisions(self.scenario, decisions)
        warn_of_analogies(self.scenario)
        self.render_mode = render_mode
        self._window = Window()
        self._batch = Batch(self.scenario, 1)
        self._world = self._batch.world
        self._action = np.zeros(1, np.int64)
        self.action_space = self._world.action_space
        self.observation_space = self._world.observation_space
        self._outputs = self._world.outputs()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode with new requests and return its first decision."""
        super().reset(seed=seed)
        self._batch.load(0, self.np_random)
        first = self._run(_START)
        if self.render_mode == "human":
            self.render()
        return first

    def step(
        self, action: np.int64 | int
    ) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take candidate ``action`` and return the next decision.

        After the last decision the world runs until everything has ended.

        Raises:
            InvalidAction: the action is no whole number; see :mod:`.actions`.
            ResetNeeded: no episode has begun.
        """
        self._world.check_loaded()
        self._action[0] = whole(action)
        observation, info = self._run(_STEP)
        terminated = bool(self._world.terminated[0])
        truncated = bool(self._world.done[0]) and not terminated
        if self.render_mode == "human":
            self.render()
        return observation, float(self._outputs.numbers[0, 0]), terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which candidates are feasible, bool (C,)."""
        return self._outputs.mask[0].astype(np.bool_)

    def results(self) -> dict[str, dict[str, NDArray]]:
        """Return the tables of this episode by name: ``requests``, ``jobs``."""
        return self._batch.results(0)

    @property
    def layout(self) -> Layout:
        """Where each column of the observations stands."""
        return self.scenario.layout

    def provenance(self) -> tuple[Fact, ...]:
        """Return where the constants of this world are from, and how far to trust each."""
        return provenance(self.scenario)

    def view(self) -> ClusterView:
        """Return what a planner may read of a placement world; see :mod:`.cluster_view`."""
        return self._batch.view(0)

    def scene(self, first_request: int = 0) -> Scene:
        """Return where everything stands, to record it; see :mod:`.scene`.

        Args:
            first_request: requests before this one are left out.
        """
        return self._batch.scene(0, first_request)

    def propose(self, plan: Plan) -> int:
        """Hand over a plan of one's own and return the action that carries it out in this step."""
        return self._batch.gangs.propose(0, plan)

    def ask_planner(self) -> None:
        """Stop for a decision whenever a gang is pending, even if no candidate is feasible."""
        self._batch.gangs.ask_planner()

    def get_state(self) -> dict[str, Any]:
        """Return a copy of the world, to come back to with :meth:`set_state`.

        The generator of future episodes is part of it.
        """
        return {
            "world": self._world.get_state(0),
            "np_random": self.np_random.bit_generator.state,
            "outputs": self._outputs.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> tuple[Observation, dict[str, Any]]:
        """Put the world into ``state`` and return its observation and info.

        Raises:
            ValueError: the state is of another scenario; this world is left as it is.
        """
        check_keys(state, ("world", "np_random", "outputs"))
        self._world.check_state(state["world"], state["outputs"])
        self.np_random.bit_generator.state = state["np_random"]
        self._world.set_state(0, state["world"])
        self._outputs = Outputs(*state["outputs"]).copy()
        return self._world.first_observation(self._outputs), self._info()

    def render(self) -> Any:
        """Return the world as text ("ansi") or as a uint8 image (h, w, 3); "human" shows that."""
        if self.render_mode is None:
            return None
        if self.render_mode == "human":
            return self._window.show(self._batch.render(0, "rgb_array"))
        return self._batch.render(0, self.render_mode)

    def close(self) -> None:
        """Close the window, if there is one."""
        self._window.close()

    def _run(self, orders: NDArray[np.int64]) -> tuple[Observation, dict[str, Any]]:
        """Let the engine step or reset the world; return fresh observation and info."""
        self._outputs = self._world.outputs()
        self._world.run(orders, self._action, self._outputs)
        return self._world.first_observation(self._outputs), self._info()

    def _info(self) -> dict[str, Any]:
        return dict(zip(self._world.info_keys, self._outputs.numbers[0, 1:].tolist(), strict=True))
