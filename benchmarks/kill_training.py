"""Kill a small training at random moments, resume it each time, and compare the weights.

    python benchmarks/kill_training.py --kills 20

Prints how far each run got, and whether all of them end in the weights of one that was never
killed. One kill falls while a checkpoint is written; before one resumption the newest checkpoint is
cut short. Takes some minutes: every start loads torch and the engine.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

SETTINGS = (
    *("--scenario", "routing-default", "--steps", "6144", "--num-envs", "8", "--n-steps", "64"),
    *("--batch-size", "256", "--width", "16", "--checkpoint-every", "512", "--no-eval"),
)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        began = time.perf_counter()
        train(out / "whole").wait()
        whole_s = time.perf_counter() - began
        wanted = weights(out / "whole")
        same = 0
        for kill in range(options.kills):
            run = out / f"run-{kill}"
            at_write = kill == 1
            process = train(run)
            wait_for(process, run, rng.uniform(0.3, 0.95) * whole_s, at_write)
            process.send_signal(signal.SIGKILL)
            process.wait()
            saved = sorted((run / "checkpoints").glob("[0-9]*.zip"))
            if kill == 2 and saved:
                saved[-1].write_bytes(saved[-1].read_bytes()[:-1000])
            equal = finish(run) and weights(run) == wanted
            same += equal
            left = saved[-1].stem if saved else "no checkpoint"
            print(
                f"kill {kill + 1}: {left}; {'same weights' if equal else 'OTHER WEIGHTS'}",
                flush=True,
            )
    print(f"{same} of {options.kills} killed runs resume to the same weights")
    return 0 if same == options.kills else 1


def train(run: Path) -> subprocess.Popen:
    """Begin a run in a process of its own."""
    place = ("--out", str(run.parent), "--name", run.name)
    return start("train", *SETTINGS, *place)


def start(*arguments: str) -> subprocess.Popen:
    code = "import sys; from gpuyard.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(process: subprocess.Popen, run: Path, seconds: float, at_write: bool) -> None:
    """Wait for a moment of a run, or until a checkpoint is being written."""
    end = time.perf_counter() + (60.0 if at_write else seconds)
    while time.perf_counter() < end and process.poll() is None:
        if at_write and any((run / "checkpoints").glob("unfinished-*")):
            return
        time.sleep(0.0002 if at_write else 0.01)


def finish(run: Path) -> bool:
    """Bring a run to its end, whatever the kill left of it; return whether it has a model."""
    if not (run / "config.json").exists():
        train(run).wait()
    elif not (run / "model.zip").exists():
        start("train", "--resume", str(run), "--no-eval").wait()
    return (run / "model.zip").exists()


def weights(run: Path) -> bytes:
    """Return the weights of a finished run, as they lie in its model."""
    with zipfile.ZipFile(run / "model.zip") as file:
        return file.read("policy.pth")


if __name__ == "__main__":
    sys.exit(main())
