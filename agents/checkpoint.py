"""Checkpoints that continue a run exactly: weights, optimizer, environments and generators.

A checkpoint is a zip file with ``weights.pt`` (weights, those that played best so far, Adam's
moments, torch's generator), which torch reads as tensors and nothing else, and plain values and
arrays (decision count, last observation, environments, generators). Reading one runs no code of
whoever made it. It is taken between two updates, where nothing else is in flight.
"""

from __future__ import annotations

import io
import pickle
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
_WEIGHTS = "weights.pt"
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
    tensors = io.BytesIO()
    torch.save(_tensors(model) | {"best": best.weights}, tensors)
    with replacing(path) as unfinished, zipfile.ZipFile(unfinished, "w") as file:
        file.writestr(_WEIGHTS, tensors.getvalue())
        save_tree(file, _state(model) | {"best": (best.looked, best.reward)})
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
        tensors = read_tensors(file, _WEIGHTS)
        state = load_tree(file)
    model.policy.load_state_dict(tensors["policy"])
    model.policy.optimizer.load_state_dict(tensors["optimizer"])
    for name in _OF_MODEL:
        setattr(model, name, state["model"][name])
    monitor: Any = env.venv
    monitor.venv.env.set_state(state["env"])
    monitor.episode_returns, monitor.episode_lengths = state["episode"]
    env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count, env.returns = state["returns"]
    best.looked, best.reward = state["best"]
    best.weights = tensors["best"]
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(tensors["generator"])


def read_tensors(file: zipfile.ZipFile, name: str) -> Any:
    """Return tensors of a zip file that ``torch.save`` wrote; no other code is loaded or run.

    Raises:
        ValueError: it holds something else than tensors.
    """
    try:
        return torch.load(io.BytesIO(file.read(name)), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{name} holds something else than weights, which is not loaded"
        ) from error


def _tensors(model: BaseAlgorithm) -> dict[str, Any]:
    return {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "generator": torch.get_rng_state(),
    }


def _state(model: BaseAlgorithm) -> dict[str, Any]:
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
    }
