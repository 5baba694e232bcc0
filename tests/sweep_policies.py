"""Policies that a sweep's workers import by name."""

import os
import signal
from pathlib import Path

from gpuyard.baselines.routing import BASELINES


class DiesOnce(BASELINES["least-requests"]):
    """Least requests, but the first worker that plays it is killed."""

    def reset(self, scenario, num_envs, seed=None):
        mark = Path(os.environ["GPUYARD_TEST_MARK"])
        if not mark.exists():
            mark.write_text("a worker was here")
            os.kill(os.getpid(), signal.SIGKILL)
        super().reset(scenario, num_envs, seed)


class InterruptsOnce(BASELINES["least-requests"]):
    """Least requests, but somebody types Ctrl-C when it has decided a few times."""

    decisions = 0

    def act(self, observation):
        mark = Path(os.environ["GPUYARD_TEST_MARK"])
        self.decisions += 1
        if self.decisions == 10 and not mark.exists():
            mark.write_text("interrupted")
            signal.raise_signal(signal.SIGINT)
        return super().act(observation)
