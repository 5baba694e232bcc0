"""Checkpoints that continue a run exactly: weights, optimizer, environments and generators.

A checkpoint is a zip file of plain values and arrays: weights, those that played best so far,
Adam's moments, decision count, last observation, environments, generators. There is no pickle in
it, so reading one runs no code of whoever made it. It is taken between two updates, where nothing
else is in flight.
"""

from __future__ import annotations

import random
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from .disk import load_tree, replacing, save_tree

KEEP = 2
"""Newest checkpoints that stay on disk."""
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile)
"""What reading a damaged file raises."""
_OF_MODEL = ("num_timesteps", "_n_updates", "_last_obs", "_last_episode_starts")


@dataclass
class Best:
    """What validation has found so far.

    Attributes:
        looked: decisions after which the policy was last looked at; -1: never.
        reward: highest mean reward.
        weights: those that had it.
    """

    looked: int = -1
    reward: float = -np.inf
    weights: dict[str, Tensor] = field(default_factory=dict)


def save(model: BaseAlgorithm, best: Best, folder: Path) -> Path:
    """Write a checkpoint below ``folder`` and return its path; older ones are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model.num_timesteps:012d}.zip"
    found_so_far = (best.looked, best.reward, _arrays(best.weights))
    with replacing(path) as unfinished, zipfile.ZipFile(unfinished, "w") as file:
        save_tree(file, _learner(model) | _worlds(model) | {"best": found_so_far})
    for old in found(folder)[:-KEEP]:
        old.unlink()
    return path


def found(folder: Path) -> list[Path]:
    """Return the checkpoints below ``folder``, the newest last."""
    return sorted(folder.glob("[0-9]*.zip"))


def restore_latest(folder: Path, model: MaskablePPO, env: VecNormalize, best: Best) -> bool:
    """Bring a new model, ``env`` and ``best`` to where the newest sound checkpoint left them.

    A damaged one is passed over with a warning. Returns whether there was one.
    """
    for path in reversed(found(folder)):
        try:
            restore(path, model, env, best)
            return True
        except DAMAGED as error:
            warnings.warn(
                f"{path}: damaged ({type(error).__name__}: {error}); going on from an older one",
                stacklevel=2,
            )
    return False


def restore(path: Path, model: MaskablePPO, env: VecNormalize, best: Best) -> None:
    """Bring a new model, ``env``, ``best`` and all generators to where a checkpoint left them."""
    with zipfile.ZipFile(path) as file:
        state = load_tree(file)
    moments = {number: _tensors(arrays) for number, arrays in state["moments"]}
    model.policy.load_state_dict(_tensors(state["policy"]))
    model.policy.optimizer.load_state_dict({"state": moments, "param_groups": state["groups"]})
    for name in _OF_MODEL:
        setattr(model, name, state["model"][name])
    monitor: Any = env.venv
    monitor.venv.env.set_state(state["env"])
    monitor.episode_returns, monitor.episode_lengths = state["episode"]
    env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count, env.returns = state["returns"]
    best.looked, best.reward, weights = state["best"]
    best.weights = _tensors(weights)
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(torch.from_numpy(state["torch"]))


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy(force=True) for name, tensor in tensors.items()}


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _learner(model: BaseAlgorithm) -> dict[str, Any]:
    """Return weights and what Adam keeps of each; its numbers of parameters are no keys of JSON."""
    optimizer = model.policy.optimizer.state_dict()
    return {
        "policy": _arrays(model.policy.state_dict()),
        "moments": [(number, _arrays(kept)) for number, kept in optimizer["state"].items()],
        "groups": optimizer["param_groups"],
    }


def _worlds(model: BaseAlgorithm) -> dict[str, Any]:
    """Return where environments and generators are."""
    env = model.get_vec_normalize_env()
    assert env is not None  # training.make_env wraps it last
    monitor: Any = env.venv
    rms = env.ret_rms
    return {
        "model": {name: getattr(model, name) for name in _OF_MODEL},
        "env": monitor.venv.env.get_state(),
        "episode": (monitor.episode_returns, monitor.episode_lengths),
        "returns": (np.asarray(rms.mean), np.asarray(rms.var), rms.count, env.returns),
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state().numpy(),
    }
