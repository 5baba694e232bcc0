"""Training: MaskablePPO on the native vector environment, after an optional warm start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import gymnasium as gym
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat, configure
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from gpuyard.baselines import make

from . import checkpoint, model_file
from .buffer import ProgressRolloutBuffer
from .callbacks import (
    CheckpointCallback,
    ClockCallback,
    CriticFirstCallback,
    MetricsCallback,
    ProgressCallback,
)
from .config import TrainConfig
from .disk import replacing
from .imitation import imitate
from .network import KEYS, CandidatePolicy, trained_for
from .sb3 import SB3VecEnv
from .validation import ValidationCallback

POLICY, MODEL = "policy.safetensors", "model.zip"
"""Files of a finished run: one that can run no code when it is read, and one for SB3."""


@dataclass(frozen=True)
class Trained:
    """What a run left behind.

    Attributes:
        folder: the run's folder: ``config.json``, ``learning_curve.csv``, ``tensorboard/``,
            ``checkpoints/``, ``policy.safetensors`` and ``model.zip``.
        policy: what :meth:`.policy.LearnedPolicy.load` reads, or None if the run was interrupted.
        model: what ``MaskablePPO.load`` reads, with pickles in it, or None.
    """

    folder: Path
    policy: Path | None = None
    model: Path | None = None


def train(config: TrainConfig, progress: bool = True) -> Trained:
    """Train from the start in a new folder.

    Args:
        config: the settings.
        progress: show a progress bar.

    Raises:
        ValueError: the scenario has other decisions than the environment id or the teacher is for,
            or torch has no such device here.
    """
    _check_device(config.device)
    _set_up(config)
    env = make_env(config)
    worlds = cast(SB3VecEnv, env.unwrapped)
    scenario, teacher = worlds.env.unwrapped.scenario, worlds.teacher
    if teacher is not None:
        teacher.check(scenario)  # before there is a folder
    folder = _new_folder(config)
    config = replace(config, name=folder.name)
    config.save(folder / "config.json")
    return _begin(config, env, folder, progress)


def resume(folder: Path, progress: bool = True) -> Trained:
    """Continue an interrupted run from its newest sound checkpoint, as if it had never stopped.

    One that was stopped before its first checkpoint begins again: it comes to the same weights.

    Raises:
        FileNotFoundError: the folder holds no run.
        FileExistsError: the run is finished; its model is never overwritten.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: no config.json, so no run to resume")
    if (folder / MODEL).exists():
        raise FileExistsError(
            f"{folder}: the run is finished ({folder / POLICY}); train a new one, "
            "with --steps for as long as you want"
        )
    config = TrainConfig.load(folder / "config.json")
    _set_up(config)
    env = make_env(config)
    model = _model(config, env)
    best = checkpoint.Best()
    if checkpoint.restore_latest(folder / "checkpoints", model, env, best):
        return _learn(model, env, best, config, folder, progress)
    env.close()
    return _begin(config, make_env(config), folder, progress)


def _begin(config: TrainConfig, env: VecNormalize, folder: Path, progress: bool) -> Trained:
    """Train from the start in a folder that is there."""
    model, worlds = _model(config, env), cast(SB3VecEnv, env.unwrapped)
    if (teacher := worlds.teacher) is not None:
        network = cast(CandidatePolicy, model.policy)
        imitate(network, teacher, worlds.env, config.teacher_steps, config.seed, progress=progress)
    return _learn(model, env, checkpoint.Best(), config, folder, progress)


def _check_device(name: str) -> None:
    """Refuse a device that torch does not have, where SB3 would quietly take the CPU instead."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter: torch without CUDA
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"device = {name!r}: torch cannot use it: {reason}") from None


def _set_up(config: TrainConfig) -> None:
    """Set what torch does in this whole process."""
    torch.set_num_threads(config.threads)
    # Checking every distribution for NaN takes a fifth of the time to act.
    torch.distributions.Distribution.set_default_validate_args(False)


def _model(config: TrainConfig, env: VecNormalize) -> MaskablePPO:
    """Return a new model; it sets all generators by the seed of the settings."""
    scenario = cast(SB3VecEnv, env.unwrapped).env.unwrapped.scenario
    model = MaskablePPO(
        CandidatePolicy,
        env,
        learning_rate=partial(linear, config.learning_rate),
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        rollout_buffer_class=ProgressRolloutBuffer,
        policy_kwargs={"width": config.width, **trained_for(scenario.layout)},
        seed=config.seed,
        device=config.device,
    )
    cast(ProgressRolloutBuffer, model.rollout_buffer).of_a_kind = config.of_a_kind
    return model


def make_env(config: TrainConfig) -> VecNormalize:
    """Return the training environments, adapted to SB3, with rewards of unit scale."""
    env = gym.make_vec(
        config.env,
        num_envs=config.num_envs,
        scenario=config.scenario,
        autoreset_mode="SameStep",
    )
    teacher = make(config.teacher) if config.teacher else None
    monitored = VecMonitor(SB3VecEnv(env, stagger=True, keys=KEYS, teacher=teacher))
    return VecNormalize(monitored, norm_obs=False, gamma=config.gamma)


def linear(initial: float, remaining: float) -> float:
    """Return a rate that falls from ``initial`` to 0 with the remaining progress (1 to 0)."""
    return initial * remaining


def _learn(
    model: MaskablePPO,
    env: VecNormalize,
    best: checkpoint.Best,
    config: TrainConfig,
    folder: Path,
    progress: bool,
) -> Trained:
    logger = configure(None, [])
    logger.output_formats = [TensorBoardOutputFormat(str(folder / "tensorboard"))]
    model.set_logger(logger)
    metrics = MetricsCallback(folder / "learning_curve.csv")
    saver = CheckpointCallback(folder / "checkpoints", best, config.checkpoint_every)
    validation = ValidationCallback(config, best)
    callbacks: list[BaseCallback] = [validation] if config.validate_every else []
    callbacks += [saver, CriticFirstCallback(config.critic_steps), metrics]
    callbacks += [ClockCallback(config.minutes)] if config.minutes else []
    callbacks += [ProgressCallback(metrics, config.steps)] if progress else []
    with saver:
        model.learn(
            max(config.steps - model.num_timesteps, 0),
            callback=callbacks,
            reset_num_timesteps=False,
        )
    if config.validate_every and not saver.stopped_at:
        validation.look()
        model.policy.load_state_dict(best.weights)
    logger.close()
    env.close()
    if saver.stopped_at:
        return Trained(folder)
    trained = Trained(folder, folder / POLICY, folder / MODEL)
    model_file.save(cast(CandidatePolicy, model.policy), folder / POLICY)
    with replacing(folder / MODEL) as unfinished:  # last: it says that the run is finished
        model.save(unfinished)
    return trained


def _new_folder(config: TrainConfig) -> Path:
    """Create the run's folder; a given name must be free (or empty), a default one gets a number.

    Raises:
        FileExistsError: if the given name is taken.
    """
    base = config.name or Path(config.scenario).stem
    number, folder = 1, Path(config.out) / base
    while folder.exists() and any(folder.iterdir()):
        if config.name:
            raise FileExistsError(
                f"{folder} exists; continue it with --resume {folder} or choose another --name"
            )
        number += 1
        folder = Path(config.out) / f"{base}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
