"""Checkpoints that continue a run exactly: weights, optimizer, environments and generators.

A checkpoint is a folder with ``model.zip`` (SB3's own format: weights, Adam's moments, decision
count, last observation) and ``state.pt`` (environments and random generators). It is taken
between two updates, where nothing else is in flight.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

KEEP = 2
"""Newest checkpoints that stay on disk."""


def save(model: BaseAlgorithm, folder: Path) -> Path:
    """Write a checkpoint below ``folder`` and return its path; older ones are removed."""
    path = folder / f"{model.num_timesteps:012d}"
    unfinished = folder / f"unfinished-{path.name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    model.save(unfinished / "model.zip")
    torch.save(_state(model.get_vec_normalize_env()), unfinished / "state.pt")
    shutil.rmtree(path, ignore_errors=True)
    unfinished.rename(path)  # atomic: a killed run leaves no half checkpoint
    for old in _all(folder)[:-KEEP]:
        shutil.rmtree(old)
    return path


def latest(folder: Path) -> Path:
    """Return the newest checkpoint below ``folder``.

    Raises:
        FileNotFoundError: if there is none.
    """
    found = _all(folder)
    if not found:
        raise FileNotFoundError(f"{folder}: no checkpoint to resume from")
    return found[-1]


def load(path: Path, env: VecNormalize, device: str) -> MaskablePPO:
    """Return the model of a checkpoint, with ``env`` and all generators as they were."""
    model = MaskablePPO.load(path / "model.zip", env=env, device=device, force_reset=False)
    state = torch.load(path / "state.pt", weights_only=False)
    monitor: Any = env.venv
    monitor.venv.env.set_state(state["env"])
    monitor.episode_returns, monitor.episode_lengths = state["episode"]
    env.ret_rms, env.returns = state["returns"]
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    return model


def _state(env: VecNormalize | None) -> dict[str, Any]:
    assert env is not None  # training.make_env wraps it last
    monitor: Any = env.venv
    return {
        "env": monitor.venv.env.get_state(),
        "episode": (monitor.episode_returns, monitor.episode_lengths),
        "returns": (env.ret_rms, env.returns),
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
    }


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir())
