"""What happens beside the learning: scalars, learning curve, progress bar, checkpoints."""

from __future__ import annotations

import csv
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from . import checkpoint
from .disk import replacing, rows_of
from .network import CandidatePolicy

APART_S = 60.0
"""Most seconds of training that a crash costs."""
NOT_METRICS = ("terminal_observation", "TimeLimit.truncated", "episode")


class MetricsCallback(BaseCallback):
    """Logs the mean reward and metrics of the episodes that ended in each update.

    They go to TensorBoard (``episode/...``) and, one row per update, to ``learning_curve.csv``.
    Episodes that were under way when training began are left out.

    Args:
        curve: the CSV file; rows beyond the model's decision count (of a run that was cut off
            after its last checkpoint) are dropped when training starts.
    """

    def __init__(self, curve: Path):
        super().__init__()
        self.curve = curve
        self.latest: dict[str, float] = {}
        self._finished: list[dict[str, float]] = []

    def _on_training_start(self) -> None:
        at = self.model.num_timesteps
        kept = [entry for entry in read_curve(self.curve) if entry["decisions"] <= at]
        with replacing(self.curve) as unfinished:
            unfinished.write_text("", encoding="utf-8")
            for entry in kept:
                _append(unfinished, entry)

    def _on_step(self) -> bool:
        for i in np.flatnonzero(self.locals["dones"]):
            info = self.locals["infos"][i]
            if info["episode"]["l"] * self.training_env.num_envs >= self.num_timesteps:
                continue  # began before training did (see SB3VecEnv): its return is not whole
            metrics = {k: float(v) for k, v in info.items() if k not in NOT_METRICS}
            self._finished.append({"reward": float(info["episode"]["r"]), **metrics})
        return True

    def _on_rollout_end(self) -> None:
        if not self._finished:
            return
        names = self._finished[0]
        self.latest = {k: float(np.mean([e[k] for e in self._finished])) for k in names}
        self._finished = []
        for key, value in self.latest.items():
            self.logger.record(f"episode/{key}", value)
        _append(self.curve, {"decisions": float(self.num_timesteps), **self.latest})


def _append(curve: Path, entry: dict[str, float]) -> None:
    """Add a row to a learning curve, which begins with their names."""
    with curve.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(entry))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(entry)


def read_curve(path: Path) -> list[dict[str, float]]:
    """Return the rows of a learning curve, oldest first; none if no episode has ended yet."""
    return [{key: float(value) for key, value in row.items()} for row in rows_of(path)]


SHOWN = {
    "reward": "reward",
    "ttft_mean_s": "TTFT s",
    "slo_attainment": "SLO",
    "jct_mean_s": "JCT s",
    "utilisation": "utilisation",
}
"""Metrics beside the progress bar, and how they are called there."""


class ProgressCallback(BaseCallback):
    """A progress bar with the latest reward and metrics."""

    def __init__(self, metrics: MetricsCallback, total: int):
        super().__init__()
        self.metrics, self.total = metrics, total

    def _on_training_start(self) -> None:
        at = self.model.num_timesteps
        self.bar = tqdm(
            total=self.total, initial=at, desc="training", unit="decision", unit_scale=True,
            mininterval=0.5 if sys.stderr.isatty() else 10.0,
        )  # fmt: skip

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        latest = self.metrics.latest
        shown = {text: f"{latest[key]:.3g}" for key, text in SHOWN.items() if key in latest}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(min(self.num_timesteps, self.total) - self.bar.n)

    def _on_training_end(self) -> None:
        self.bar.close()


class CriticFirstCallback(BaseCallback):
    """Lets only the values learn at first, so that advantages mean something when the rest does.

    After an imitation the policy is good and the critic knows nothing; learning from its errors
    would undo what was imitated.

    Args:
        steps: decisions until then.
    """

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def _on_rollout_start(self) -> None:
        policy = cast(CandidatePolicy, self.model.policy)
        policy.requires_grad_(self.num_timesteps >= self.steps)
        for parameter in policy.critic_parameters():
            parameter.requires_grad_(True)

    def _on_step(self) -> bool:
        return True


class ClockCallback(BaseCallback):
    """Ends training by the clock; the run is then finished like one that took all its steps.

    Args:
        minutes: of learning, an earlier part of a resumed run not counted.
    """

    def __init__(self, minutes: float):
        super().__init__()
        self.minutes = minutes

    def _on_training_start(self) -> None:
        self._end_s = time.monotonic() + 60.0 * self.minutes

    def _on_step(self) -> bool:
        return time.monotonic() < self._end_s


class CheckpointCallback(BaseCallback):
    """Saves a checkpoint at intervals, and one more when the user presses Ctrl-C.

    Ctrl-C ends training before the next update, where a checkpoint is exact; a second Ctrl-C
    ends it at once.

    Args:
        folder: where checkpoints go.
        best: what validation has found, which belongs to them.
        every: decisions between two, which are :data:`APART_S` apart at most; 0 for none but that
            of Ctrl-C.
    """

    def __init__(self, folder: Path, best: checkpoint.Best, every: int):
        super().__init__()
        self.folder, self.best, self.every = folder, best, every
        self.interrupted = False
        self.stopped_at: Path | None = None
        self._last, self._saved_at = 0, time.monotonic()

    def _on_training_start(self) -> None:
        self._last, self._saved_at = self.model.num_timesteps, time.monotonic()

    def _on_rollout_start(self) -> None:
        many = self.model.num_timesteps - self._last >= self.every
        long = time.monotonic() - self._saved_at >= APART_S
        due = self.every and self.model.num_timesteps > self._last and (many or long)
        if not (due or self.interrupted):
            return
        path = checkpoint.save(self.model, self.best, self.folder)
        self._last, self._saved_at = self.model.num_timesteps, time.monotonic()
        self.stopped_at = path if self.interrupted else None

    def _on_step(self) -> bool:
        return self.stopped_at is None

    def __enter__(self) -> CheckpointCallback:
        """Take over Ctrl-C (in the main thread, the only one that may)."""
        self._previous: Any = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        """Give Ctrl-C back."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._previous)

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, self._previous)
        self.interrupted = True
