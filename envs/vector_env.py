"""The native vector environment: one engine call steps all environments."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from gpuyard.ids import check_decisions

from .actions import wholes
from .batch import Batch
from .cluster_env import ClusterEnv
from .cluster_view import ClusterView, Plan
from .engine.core.records import IDLE, START, STEP
from .observation import Layout
from .scenario import Scenario, load
from .scenario.provenance import Fact, provenance, warn_of_analogies
from .scene import Scene
from .world import Outputs, check_keys

Observation = dict[str, NDArray]


class ClusterVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """A batch of :class:`~gpuyard.envs.cluster_env.ClusterEnv` in one engine call.

    Environment i with seed s gives the same trajectory, byte for byte, as the single environment
    with seed s + i. Observations, rewards and infos are fresh arrays with a leading axis of
    ``num_envs``; ``info`` holds an array per key and a boolean mask per ``_key``.

    With "Disabled", start new episodes by ``reset(options={"reset_mask": bool array})``; until then
    a finished environment repeats its last observation with reward 0.

    Each of ``num_threads`` threads steps a contiguous range of environments, at most one thread for
    each; the bytes are the same for any number.

    Args:
        num_envs: environments in the batch.
        scenario: as for the single environment.
        autoreset_mode: an ``AutoresetMode`` or its value: "NextStep", "SameStep", "Disabled".
        max_episode_steps: truncate an episode after so many decisions (None: never).
        render_mode: as for the single environment.
        decisions: as for the single environment.
        num_threads: threads that share the environments, at least 1 (1).
    """

    metadata = {  # noqa: RUF012
        **ClusterEnv.metadata,
        "render_modes": ["ansi", "rgb_array"],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str | Path | Scenario = "routing-default",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        decisions: Collection[str] | None = None,
        num_threads: int = 1,
    ) -> None:
        for name, number in (("num_envs", num_envs), ("num_threads", num_threads)):
            if number < 1 or number != int(number):
                raise ValueError(f"{name} = {number} must be a whole number, at least 1")
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise ValueError(f"render_mode = {render_mode!r} must be None or one of {modes}")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.num_envs = num_envs
        self.scenario = load(scenario)
        if decisions is not None:
            check_decisions(self.scenario, decisions)
        self.max_episode_steps = max_episode_steps
        warn_of_analogies(self.scenario)
        self.render_mode = render_mode
        self._batch = Batch(self.scenario, num_envs, num_threads)
        self._world = self._batch.world
        self.single_action_space = self._world.action_space
        self.single_observation_space = self._world.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._generators: list[np.random.Generator] = []
        self._ended = np.zeros(num_envs, np.bool_)
        self._step_all = np.full(num_envs, STEP)
        self._info_masks = tuple(f"_{key}" for key in self._world.info_keys)
        self._outputs = self._world.outputs()

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Start episodes in all environments, or in those of ``options["reset_mask"]``.

        Args:
            seed: environment i gets ``seed + i``, or ``seed[i]``; None goes on with its generator.
            options: ``reset_mask``, bool (num_envs,): the environments to reset.
        """
        mask = np.ones(self.num_envs, np.bool_)
        if options is not None and options.get("reset_mask") is not None:
            mask = np.array(options["reset_mask"], np.bool_)
            if mask.shape != (self.num_envs,):
                raise ValueError(f"reset_mask has shape {mask.shape}, expected ({self.num_envs},)")
        self._seed(seed, mask)
        if not mask.all() and not self._world.is_loaded:
            raise ValueError("reset all environments once before resetting some by reset_mask")
        self._outputs = self._outputs.copy()
        self._begin(mask, self._outputs)
        return self._world.observation(self._outputs), self._infos(self._outputs.numbers)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[
        Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        """Take one candidate per environment; see the class for the autoreset modes.

        Raises:
            InvalidAction: the actions are no whole numbers, or not one each; see :mod:`.actions`.
            ResetNeeded: some environment has no episode yet.
        """
        self._world.check_loaded()
        actions = wholes(actions, self.num_envs)
        outputs = self._world.outputs()
        waiting = self._ended
        some_wait = np.count_nonzero(waiting)  # a tenth of what any() takes
        if some_wait:
            self._repeat(waiting, outputs)
        orders = np.where(waiting, IDLE, STEP) if some_wait else self._step_all
        self._world.run(orders, actions, outputs)
        terminated = self._world.terminated & ~waiting
        truncated = self._world.done & ~terminated & ~waiting
        if self.max_episode_steps is not None:
            too_long = self._world.decisions >= self.max_episode_steps
            truncated |= too_long & ~terminated & ~waiting
        rewards = outputs.numbers[:, 0].copy()
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            if some_wait:
                self._begin(waiting, outputs)
            self._ended = terminated | truncated
        elif self.autoreset_mode is AutoresetMode.DISABLED:
            self._ended = waiting | terminated | truncated
            terminated |= waiting & self._world.terminated
            truncated |= waiting & ~self._world.terminated
        elif np.count_nonzero(terminated) or np.count_nonzero(truncated):
            infos = self._reset_at_once(terminated | truncated, outputs)
        self._outputs = outputs
        infos = {**self._infos(outputs.numbers), **infos}
        return self._world.observation(outputs), rewards, terminated, truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which candidates are feasible, bool (num_envs, C)."""
        return self._outputs.mask.astype(np.bool_)

    def results(self, index: int) -> dict[str, dict[str, NDArray]]:
        """Return the tables of environment ``index`` by name: ``requests``, ``jobs``."""
        return self._batch.results(index)

    @property
    def layout(self) -> Layout:
        """Where each column of the observations stands."""
        return self.scenario.layout

    def provenance(self) -> tuple[Fact, ...]:
        """Return where the constants of this world are from, and how far to trust each."""
        return provenance(self.scenario)

    def view(self, index: int) -> ClusterView:
        """Return what a planner may read of placement world ``index``."""
        return self._batch.view(index)

    def scene(self, index: int, first_request: int = 0) -> Scene:
        """Return where everything stands in world ``index``; see the single environment."""
        return self._batch.scene(index, first_request)

    def propose(self, index: int, plan: Plan) -> int:
        """Hand over a plan for world ``index`` and return the action that carries it out."""
        return self._batch.gangs.propose(index, plan)

    def ask_planner(self) -> None:
        """Stop for a decision whenever a gang is pending, even if no candidate is feasible."""
        self._batch.gangs.ask_planner()

    def get_state(self) -> dict[str, Any]:
        """Return a copy of all worlds, to come back to with :meth:`set_state`.

        The generators of future episodes are part of it.
        """
        return {
            "worlds": [self._world.get_state(index) for index in range(self.num_envs)],
            "generators": [generator.bit_generator.state for generator in self._generators],
            "ended": self._ended.copy(),
            "outputs": self._outputs.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> tuple[Observation, dict[str, Any]]:
        """Put all worlds into ``state`` and return their observations and infos.

        Raises:
            ValueError: the state is of another scenario or number of environments; these worlds
                are left as they are.
        """
        check_keys(state, ("worlds", "generators", "ended", "outputs"))
        worlds = state["worlds"]
        if len(worlds) != self.num_envs:
            raise ValueError(f"state of {len(worlds)} environments, but there are {self.num_envs}")
        for world in worlds:
            self._world.check_state(world, state["outputs"])
        generators = [np.random.default_rng() for _ in state["generators"]]
        for generator, saved in zip(generators, state["generators"], strict=True):
            generator.bit_generator.state = saved
        self._generators = generators
        for index, world in enumerate(worlds):
            self._world.set_state(index, world)
        self._ended = state["ended"].copy()
        self._outputs = Outputs(*state["outputs"]).copy()
        return self._world.observation(self._outputs), self._infos(self._outputs.numbers)

    def render(self) -> tuple[Any, ...] | None:
        """Return one picture per environment; see the single environment."""
        if self.render_mode is None:
            return None
        mode = self.render_mode
        return tuple(self._batch.render(index, mode) for index in range(self.num_envs))

    def _seed(self, seed: int | Sequence[int | None] | None, mask: NDArray[np.bool_]) -> None:
        """Give the masked environments their own generators, as Gymnasium seeds a single one."""
        if isinstance(seed, (int, np.integer)):
            seeds: Sequence[int | None] = [int(seed) + index for index in range(self.num_envs)]
        else:
            seeds = [None] * self.num_envs if seed is None else seed
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds given for {self.num_envs} environments")
        fresh = not self._generators
        if fresh:
            self._generators = [np.random.default_rng() for _ in range(self.num_envs)]
        for index, value in enumerate(seeds):
            if value is not None and mask[index]:
                self._generators[index] = np.random.default_rng(value)

    def _begin(self, mask: NDArray[np.bool_], outputs: Outputs) -> None:
        """Start episodes in the masked environments and write their rows."""
        for index in np.flatnonzero(mask):
            self._batch.load(int(index), self._generators[index])
        nothing = np.zeros(self.num_envs, np.int64)
        self._world.run(np.where(mask, START, IDLE), nothing, outputs)
        self._ended = self._ended & ~mask

    def _repeat(self, waiting: NDArray[np.bool_], outputs: Outputs) -> None:
        """Copy the last rows of environments that have ended, with reward 0."""
        last = self._world.observation(self._outputs)
        for key, array in self._world.observation(outputs).items():
            array[waiting] = last[key][waiting]
        outputs.numbers[waiting] = self._outputs.numbers[waiting]
        outputs.numbers[waiting, 0] = 0.0

    def _reset_at_once(self, ended: NDArray[np.bool_], outputs: Outputs) -> dict[str, Any]:
        """SAME_STEP: keep what the episodes ended with in the infos, then start the next ones."""
        final_obs = np.full(self.num_envs, None, object)
        last = self._world.observation(outputs)
        for index in np.flatnonzero(ended):
            final_obs[index] = {key: array[index].copy() for key, array in last.items()}
        final_info = self._infos(outputs.numbers.copy(), ended)
        self._begin(ended, outputs)
        return {
            "final_obs": final_obs,
            "_final_obs": ended,
            "final_info": final_info,
            "_final_info": ended,
        }

    def _infos(
        self, numbers: NDArray[np.float64], mask: NDArray[np.bool_] | None = None
    ) -> dict[str, Any]:
        """Return an array per info key, each with its mask."""
        if mask is None:
            mask = self._step_all == STEP  # all of them, in a fresh array
        infos: dict[str, Any] = dict(zip(self._world.info_keys, numbers.T[1:], strict=True))
        return infos | dict.fromkeys(self._info_masks, mask)
