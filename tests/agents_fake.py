"""A tiny world with the package's spaces and info keys: C servers with queues, one decision each.

It steps without the engine, truncates on demand, and its best rule is known (join the server that
will be free first), so that the tests of the adapter and of training are fast and exact.
"""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from gpuyard.baselines import Policy, ScorePolicy
from gpuyard.envs.observation import Layout

LAYOUT = Layout({"route"})
SLO = SimpleNamespace(ttft_s=0.5, tpot_s=0.2)
SCENARIO = SimpleNamespace(
    name="queues",
    decisions=frozenset({"route"}),
    layout=LAYOUT,
    services=(),
    workload=None,
    objectives=(SLO,),
)
COLUMNS = {key: len(LAYOUT.columns(key)) for key in ("cluster", "queue", "candidates")}
BACKLOG, SPEED = (LAYOUT.index("candidates", name) for name in ("wait_s", "capacity"))
REQUEST = LAYOUT.index("queue", "is_request")
SIZE, PROGRESS = LAYOUT.index("queue", "size"), LAYOUT.index("cluster", "progress")
ROUTE = LAYOUT.index("cluster", "kind_route")


class QueueVectorEnv(VectorEnv):
    """``servers`` queues of different speed; reward = -waiting time of each request."""

    def __init__(
        self, num_envs=1, scenario=None, autoreset_mode="NextStep", servers=4, requests=32,
        truncate=False, max_episode_steps=None,
    ):  # fmt: skip
        self.num_envs, self.servers, self.requests = num_envs, servers, requests
        self.truncate = truncate
        self.scenario = SCENARIO
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        box = lambda *shape: spaces.Box(0.0, 1.0, shape, np.float32)  # noqa: E731
        self.single_observation_space = spaces.Dict(
            cluster=box(COLUMNS["cluster"]),
            device_memory=box(2 * servers),
            device_load=box(2 * servers),
            link_load=box(3),
            queue=box(2, COLUMNS["queue"]),
            candidates=box(servers, COLUMNS["candidates"]),
            action_mask=spaces.Box(0, 1, (servers,), np.int8),
        )
        self.single_action_space = spaces.Discrete(servers)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.speed = 1.0 + np.arange(servers) % 3
        self.rngs = [np.random.default_rng(i) for i in range(num_envs)]
        self.backlog_s = np.zeros((num_envs, servers))
        self.size = np.zeros(num_envs)
        self.shut = np.zeros(num_envs, int)  # one infeasible server per decision
        self.count = np.zeros(num_envs, int)
        self.waits = np.zeros((num_envs, requests))

    def reset(self, *, seed=None, options=None):
        chosen = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed
        for i in np.flatnonzero(chosen):
            if seeds is not None:
                self.rngs[i] = np.random.default_rng(seeds[i])
            self._restart(i)
        return self._observe(), self._info()

    def step(self, actions):
        rows = np.arange(self.num_envs)
        taken = np.where(actions == self.shut, (actions + 1) % self.servers, actions)
        wait = self.backlog_s[rows, taken]
        self.waits[rows, np.minimum(self.count, self.requests - 1)] = wait
        self.backlog_s[rows, taken] += self.size / self.speed[taken]
        self.count += 1
        done = self.count >= self.requests
        for i in rows:
            self._arrive(i)
        info, observation = self._info(), self._observe()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and done.any():
            finals = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(done):
                finals[i] = {key: value[i] for key, value in observation.items()}
            final_info = info
            for i in np.flatnonzero(done):
                self._restart(i)
            info, observation = self._info(), self._observe()
            info |= {"final_obs": finals, "_final_obs": done}
            info |= {"final_info": final_info, "_final_info": done}
        no = np.zeros_like(done)
        ends = (no, done) if self.truncate else (done, no)
        return observation, -wait, *ends, info

    def action_masks(self):
        return np.arange(self.servers) != self.shut[:, None]

    def results(self, i):
        n = self.count[i]
        arrival = np.arange(n, dtype=float)
        first = arrival + self.waits[i, :n]
        requests = {
            "arrival_s": arrival,
            "first_token_s": first,
            "finish_s": first + 1.0,
            "output_tokens": np.full(n, 11),
            "prompt_tokens": np.full(n, 100),
            "cached_tokens": np.zeros(n, int),
            "priority": np.zeros(n),
        }
        return {"requests": requests}

    def get_state(self):
        state = {
            k: getattr(self, k).copy() for k in ("backlog_s", "size", "shut", "count", "waits")
        }
        return state | {"rngs": [rng.bit_generator.state for rng in self.rngs]}

    def set_state(self, state):
        for key, value in state.items():
            if key != "rngs":
                setattr(self, key, value.copy())
        for rng, inner in zip(self.rngs, state["rngs"], strict=True):
            rng.bit_generator.state = inner

    def _restart(self, i):
        self.backlog_s[i], self.count[i] = 0.0, 0
        self._arrive(i)

    def _arrive(self, i):
        gap, self.size[i] = self.rngs[i].exponential(0.15), self.rngs[i].exponential(1.0)
        self.backlog_s[i] = np.maximum(self.backlog_s[i] - gap, 0.0)
        self.shut[i] = self.rngs[i].integers(self.servers)

    def _observe(self):
        space = self.observation_space
        values = {key: np.zeros(space[key].shape, space[key].dtype) for key in space}
        values["candidates"][..., BACKLOG] = self.backlog_s / (self.backlog_s + 1.0)
        values["candidates"][..., SPEED] = self.speed / 3.0
        values["queue"][:, 0, REQUEST] = 1.0
        values["queue"][:, 0, SIZE] = self.size / (self.size + 1.0)
        values["cluster"][:, ROUTE] = self.count < self.requests
        values["cluster"][:, PROGRESS] = np.minimum(self.count / self.requests, 1.0)
        values["action_mask"][:] = self.action_masks()
        return values

    def _info(self):
        wait = np.array(
            [w[: max(n, 1)].mean() for w, n in zip(self.waits, self.count, strict=True)]
        )
        return {"ttft_mean_s": wait, "_ttft_mean_s": np.ones(self.num_envs, bool)}


class JoinShortest(ScorePolicy):
    """The best rule here: the server that is free first, then the fastest."""

    def score(self, observation):
        backlog = self.column(observation, "candidates", "route.wait_s")
        return -backlog + 1e-3 * self.column(observation, "candidates", "route.capacity")


class AnyServer(Policy):
    """A feasible server at random."""

    def reset(self, scenario, num_envs, seed=0):
        super().reset(scenario, num_envs, seed)
        self.rng = np.random.default_rng(seed)

    def act(self, observation):
        mask = observation["action_mask"]
        return np.where(mask > 0, self.rng.random(mask.shape), -1.0).argmax(axis=1)


gym.register(
    "gpuyard-tests/Queue-v0", vector_entry_point=QueueVectorEnv, entry_point=QueueVectorEnv
)
