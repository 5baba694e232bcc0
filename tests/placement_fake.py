"""A tiny placement world in plain Python: whole gangs on a few nodes, no network, two plans.

It has the spaces, columns, info and results of the real one, so that the tests of evaluation,
training and planners need no compiled engine. Shortest-first beats first-come there.
"""

import pickle
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from views import make_view

from gpuyard.baselines import ScorePolicy
from gpuyard.baselines.planner import Planner
from gpuyard.baselines.room import Room as WhatIf
from gpuyard.baselines.room import pack, place
from gpuyard.envs.cluster_view import Plan
from gpuyard.envs.observation import Layout

LAYOUT = Layout({"place"})
NODES, PER_NODE, WINDOW, PLANS = 3, 4, 4, ("pack", "spread")
SCENARIO = SimpleNamespace(
    name="yard",
    decisions=frozenset({"place"}),
    layout=LAYOUT,
    cluster=SimpleNamespace(num_gpus=NODES * PER_NODE),
    jobs=SimpleNamespace(tenants=("all",)),
)
ROWS = WINDOW * len(PLANS) + 2


class Yard:
    """One world: an event-driven simulation of gangs on ``NODES`` nodes."""

    def __init__(self, jobs, rng):
        arrival = np.cumsum(rng.exponential(8.0, jobs)) - 1.0
        self.jobs = {
            "arrival_s": arrival - arrival[0],
            "gpus": rng.choice([1, 2, 4, 8], jobs),
            "duration_s": rng.exponential(40.0, jobs) + 1.0,
            "start_s": np.full(jobs, np.nan),
            "finish_s": np.full(jobs, np.nan),
        }
        self.now, self.held, self.cost, self.invalid = 0.0, {}, 0.0, 0
        self.holder = np.full(NODES * PER_NODE, -1)
        self._run_on()

    @property
    def pending(self):
        here = (self.jobs["arrival_s"] <= self.now) & np.isnan(self.jobs["start_s"])
        return np.flatnonzero(here)

    @property
    def done(self):
        return bool(np.isfinite(self.jobs["start_s"]).all() and not self.held)

    def plan(self, job, kind):
        """GPUs of one plan for one job, or None: nodes by free GPUs, few first to pack."""
        gpus = int(self.jobs["gpus"][job])
        free = (self.holder.reshape(NODES, PER_NODE) < 0).sum(axis=1)
        each = min(gpus, PER_NODE)
        order = np.argsort(free if kind == "pack" else -free, kind="stable")
        nodes = [n for n in order if free[n] >= each][: gpus // each]
        if len(nodes) < gpus // each:
            return None
        open_ = [np.flatnonzero(self.holder[n * PER_NODE :][:PER_NODE] < 0)[:each] for n in nodes]
        return np.concatenate([n * PER_NODE + slots for n, slots in zip(nodes, open_, strict=True)])

    def candidates(self):
        """GPUs per row, None where masked; then whether waiting is open."""
        rows = []
        for job in self.pending[:WINDOW]:
            packed, spread = (self.plan(job, kind) for kind in PLANS)
            same = packed is None or set(packed) == set(spread)
            rows += [packed, None if same else spread]
        rows += [None] * (ROWS - 2 - len(rows))
        later = (self.jobs["arrival_s"] > self.now).any() or bool(self.held)
        return rows, later

    def act(self, action, proposal):
        rows, later = self.candidates()
        before = self.cost
        job, gpus = -1, None
        if action == ROWS - 1 and proposal is not None:
            job, gpus = proposal.gang, proposal.gpus
            assert job in self.pending and (self.holder[gpus] < 0).all()
            assert len(gpus) == self.jobs["gpus"][job]
        elif action < ROWS - 2 and rows[action] is not None:
            job, gpus = self.pending[action // len(PLANS)], rows[action]
        elif action != ROWS - 2 or not later:
            self.invalid += 1
        if gpus is None:
            self._next_event()
        else:
            self.holder[gpus] = job
            self.jobs["start_s"][job] = self.now
            self.held[job] = self.now + self.jobs["duration_s"][job]
        self._run_on()
        return before - self.cost

    def _next_event(self):
        future = self.jobs["arrival_s"][self.jobs["arrival_s"] > self.now]
        time = min([*future, *self.held.values()])
        present = (self.jobs["arrival_s"] <= self.now) & ~np.isfinite(self.jobs["finish_s"])
        self.cost += present.sum() * (time - self.now)
        self.now = time
        for job in [job for job, end in self.held.items() if end <= time]:
            self.jobs["finish_s"][job] = self.held.pop(job)
            self.holder[self.holder == job] = -1

    def _run_on(self):
        while not self.done and not any(gpus is not None for gpus in self.candidates()[0]):
            self._next_event()


class YardVectorEnv(VectorEnv):
    """A batch of :class:`Yard`; reward = minus the job-seconds in the system."""

    def __init__(self, num_envs=1, scenario=None, autoreset_mode="NextStep", jobs=24):
        self.num_envs, self.num_jobs, self.scenario = num_envs, jobs, SCENARIO
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        widths = {key: len(LAYOUT.columns(key)) for key in ("cluster", "queue", "candidates")}
        box = lambda *shape: spaces.Box(0.0, 1.0, shape, np.float32)  # noqa: E731
        self.single_observation_space = spaces.Dict(
            cluster=box(widths["cluster"]),
            device_memory=box(NODES * PER_NODE),
            device_load=box(NODES * PER_NODE),
            link_load=box(NODES),
            queue=box(WINDOW, widths["queue"]),
            candidates=box(ROWS, widths["candidates"]),
            action_mask=spaces.Box(0, 1, (ROWS,), np.int8),
        )
        self.single_action_space = spaces.Discrete(ROWS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.rngs = [np.random.default_rng(i) for i in range(num_envs)]
        self.worlds = [None] * num_envs
        self.proposals = [None] * num_envs

    def reset(self, *, seed=None, options=None):
        chosen = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed
        for i in np.flatnonzero(chosen):
            if seeds is not None:
                self.rngs[i] = np.random.default_rng(seeds[i])
            self.worlds[i] = Yard(self.num_jobs, self.rngs[i])
        return self._observe(), self._info()

    def step(self, actions):
        reward = np.zeros(self.num_envs)
        for i, world in enumerate(self.worlds):
            if not world.done:
                reward[i] = world.act(int(actions[i]), self.proposals[i])
            self.proposals[i] = None
        done = np.array([world.done for world in self.worlds])
        info, observation = self._info(), self._observe()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and done.any():
            finals = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(done):
                finals[i] = {key: value[i] for key, value in observation.items()}
                self.worlds[i] = Yard(self.num_jobs, self.rngs[i])
            final_info = info
            info, observation = self._info(), self._observe()
            info |= {"final_obs": finals, "_final_obs": done}
            info |= {"final_info": final_info, "_final_info": done}
        return observation, reward, done, np.zeros_like(done), info

    def action_masks(self):
        return self._observe()["action_mask"] > 0

    def view(self, i):
        world = self.worlds[i]
        gang = lambda j: {  # noqa: E731
            "id": int(j), "gpus": int(world.jobs["gpus"][j]),
            "arrival_s": world.jobs["arrival_s"][j], "estimate_s": world.jobs["duration_s"][j],
        }  # fmt: skip
        running = [{**gang(j), "on": np.flatnonzero(world.holder == j)} for j in world.held]
        return make_view(
            [gang(j) for j in world.pending], running, nodes=NODES, gpus_per_node=PER_NODE,
            nodes_per_leaf=1, now_s=world.now,
        )  # fmt: skip

    def propose(self, i, plan):
        self.proposals[i] = plan
        return ROWS - 1

    def ask_planner(self):
        self.asked = True

    def results(self, i):
        jobs = {key: column.copy() for key, column in self.worlds[i].jobs.items()}
        zeros = np.zeros(self.num_jobs)
        jobs |= {"ran_s": jobs["finish_s"] - jobs["start_s"]}
        jobs |= {"waited_s": jobs["start_s"] - jobs["arrival_s"], "network_wait_s": zeros}
        jobs |= dict.fromkeys(("tenant", "preemptions", "failures"), zeros.astype(int))
        jobs |= {"priority": zeros}
        return {"jobs": jobs}

    def get_state(self):
        """One array of bytes: a checkpoint keeps plain values and arrays, not Python objects."""
        return {"worlds": np.frombuffer(pickle.dumps((self.worlds, self.rngs)), np.uint8)}

    def set_state(self, state):
        self.worlds, self.rngs = pickle.loads(state["worlds"].tobytes())

    def _info(self):
        finish = np.array([world.jobs["finish_s"] for world in self.worlds])
        jct = finish - np.array([world.jobs["arrival_s"] for world in self.worlds])
        known = np.isfinite(jct)
        mean = np.where(known, jct, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        invalid = np.array([float(world.invalid) for world in self.worlds])
        yes = np.ones(self.num_envs, bool)
        info = {"jct_mean_s": mean, "invalid_actions": invalid, "finished": known.sum(axis=1)}
        return info | {f"_{key}": yes for key in info}

    def _observe(self):
        space = self.observation_space
        values = {key: np.zeros(space[key].shape, space[key].dtype) for key in space}
        for i, world in enumerate(self.worlds):
            finished = np.isfinite(world.jobs["finish_s"]).mean()
            self._write(values["cluster"][i], "cluster", kind_place=1, progress=finished)
            for key in ("device_memory", "device_load"):
                values[key][i] = world.holder >= 0
            for place_, job in enumerate(world.pending[:WINDOW]):
                self._write(values["queue"][i, place_], "queue", **self._gang(world, job))
            rows, later = world.candidates()
            for row, gpus in enumerate(rows):
                if gpus is None:
                    continue
                place_, kind = divmod(row, len(PLANS))
                nodes = len(np.unique(gpus // PER_NODE))
                self._write(
                    values["candidates"][i, row], "candidates", is_place=1, position=place_,
                    nodes=nodes, leafs=nodes, speed=1, **{f"plan_{PLANS[kind]}": 1},
                    **self._gang(world, world.pending[place_], flag=False),
                )  # fmt: skip
                values["action_mask"][i, row] = 1
            self._write(values["candidates"][i, -2], "candidates", is_wait=1)
            self._write(values["candidates"][i, -1], "candidates", is_own=1)
            values["action_mask"][i, -2] = later
        return values

    def _gang(self, world, job, flag=True):
        age = world.now - world.jobs["arrival_s"][job]
        row = {"gpus": world.jobs["gpus"][job], "age_s": age}
        row["estimate_s"] = 100.0 * world.jobs["duration_s"][job]  # spread over the column's range
        return row | ({"is_gang": 1} if flag else {})

    def _write(self, row, key, **values):
        for at, column in enumerate(LAYOUT.columns(key)):
            value = values.get(column.name, 0.0)
            row[at] = value if column.scale is None else value / (value + column.scale)


class FirstCome(ScorePolicy):
    """Oldest gang first, packed; waits only if nothing is open."""

    def score(self, observation):
        waits = 100.0 * (self.column(observation, "candidates", "place.is_place") == 0)
        return -self.read(observation, "candidates", "place.position") - waits


class Shortest(Planner):
    """Shortest gang that fits first, by a plan of its own."""

    def plan(self, view):
        for gang in view.pending[np.argsort(view.pending["estimate_s"], kind="stable")]:
            gpus = place(WhatIf(view), gang, np.ones(1), pack)
            if gpus is not None:
                return Plan(int(gang["id"]), gpus)
        return None


gym.register("gpuyard-tests/Yard-v0", vector_entry_point=YardVectorEnv, entry_point=YardVectorEnv)
