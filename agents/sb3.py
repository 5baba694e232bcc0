"""The native vector environment as a stable-baselines3 ``VecEnv``.

SB3 takes no Gymnasium ``VectorEnv``. This adapter hands batches through unchanged, so no
environment is stepped, copied or stacked in Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from gpuyard.baselines import Policy

from . import sets
from . import stagger as staggered

Indices = None | int | Iterable[int]


class SB3VecEnv(VecEnv):
    """Adapter for PPO, MaskablePPO and other algorithms of SB3.

    A finished environment's info holds ``terminal_observation``, ``TimeLimit.truncated`` and the
    episode's final metrics (the keys of the environment's own ``info``).

    Args:
        env: a vector environment in SAME_STEP autoreset mode, for example
            ``gym.make_vec("gpuyard/Routing-v0", num_envs=64, autoreset_mode="SameStep")``.
        stagger: leave the environments at different moments of their episodes after a reset; see
            :mod:`.stagger`.
        keys: the observations to hand on; all by default. A learner copies every one of them many
            times, whether its network reads it or not. ``"sets"`` is the summary of devices and
            links, see :mod:`.sets`.
        teacher: plays until then; None: chance.

    Raises:
        ValueError: if the environment resets in another mode.
    """

    def __init__(
        self,
        env: VectorEnv,
        stagger: bool = False,
        keys: Sequence[str] = (),
        teacher: Policy | None = None,
    ):
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"SB3 needs autoreset_mode='SameStep', this environment has {mode}; "
                "make it with gym.make_vec(id, num_envs=n, autoreset_mode='SameStep')"
            )
        self.env: Any = env  # first: the parent's constructor asks for attributes
        self.stagger, self.teacher = stagger, teacher
        self._actions: np.ndarray | None = None
        offered = dict(cast(spaces.Dict, env.single_observation_space).spaces)
        self.keys = tuple(keys) or tuple(offered)
        offered["sets"] = spaces.Box(0.0, 1.0, (sets.SIZE,), np.float32)
        space = spaces.Dict({key: offered[key] for key in self.keys})
        super().__init__(env.num_envs, space, env.single_action_space)

    def reset(self) -> Any:
        """Reset every environment, with the seeds given to ``seed()``, and return observations."""
        seed = None if self._seeds[0] is None else list(self._seeds)
        observation, info = self.env.reset(seed=seed, options=self._options[0] or None)
        if self.stagger:
            observation = self._stagger(observation)
        self.reset_infos = [row(info, i) for i in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return sets.chosen(observation, self.keys)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step all environments; return observations, rewards (n,), dones (n,), infos."""
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done).tolist():
            infos[i] = row(info.get("final_info", {}), i)
            infos[i]["terminal_observation"] = sets.chosen(info["final_obs"][i], self.keys)
            infos[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        return sets.chosen(observation, self.keys), reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def has_attr(self, attr_name: str) -> bool:
        """Tell whether the environment has an attribute, such as ``action_masks``."""
        return hasattr(self.env, attr_name)

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return the vector environment's attribute, once per index."""
        return [getattr(self.env, attr_name)] * len(self._chosen(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of the vector environment, which all indices share."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method that returns one row per environment; return the rows asked for."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return result if indices is None else [result[i] for i in self._chosen(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        """Return False per index: a native environment holds no wrapped ones."""
        return [False] * len(self._chosen(indices))

    def _stagger(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.teacher is None:
            return staggered.by_chance(self.env)
        self.teacher.reset(self.env.unwrapped.scenario, self.num_envs)
        return staggered.by_teacher(self.env, observation, self.teacher)

    def _chosen(self, indices: Indices) -> list[int]:
        return list(self._get_indices(indices))


def row(info: dict[str, Any], i: int) -> dict[str, Any]:
    """Return environment ``i``'s entries of a vector ``info``, without the mask keys."""
    return {key: value[i] for key, value in info.items() if not key.startswith("_")}
