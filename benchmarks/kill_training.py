"""Kill a small training at random moments, resume it each time, and compare the weights.

    python benchmarks/kill_training.py --kills 20

Prints how far each run got, whether it went on from its newest sound checkpoint, and whether it
ends in the weights of one that was never killed: a run that begins again ends in them too, and
proves nothing. A kill falls at a random moment between the start of the process and the last
checkpoint but one; the second while a checkpoint is written; before the third run goes on its
newest checkpoint is cut short. Takes some minutes: every start loads torch and the engine.
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
CHECKPOINTS = 12  # of a whole run


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        train(out / "whole").wait()
        wanted = weights(out / "whole")
        same = 0
        for kill in range(options.kills):
            run = out / f"run-{kill}"
            at_write, cut = kill == 1, kill == 2
            process = train(run)
            wait_for(process, run, rng.randint(2 if cut else 0, CHECKPOINTS - 2), at_write)
            if not at_write:
                time.sleep(rng.uniform(0.0, 0.5))  # a checkpoint takes about so long
            process.send_signal(signal.SIGKILL)
            process.wait()
            saved = sorted((run / "checkpoints").glob("[0-9]*.zip"))
            if cut:
                saved[-1].write_bytes(saved[-1].read_bytes()[:-1000])
            passed_over = finish(run)
            equal = passed_over == cut and weights(run) == wanted
            same += equal
            left = saved[-1].stem if saved else "no checkpoint"
            print(
                f"kill {kill + 1}: {left}; {passed_over} passed over; "
                f"{'same weights' if equal else 'FAILED'}",
                flush=True,
            )
    print(f"{same} of {options.kills} killed runs go on to the same weights")
    return 0 if same == options.kills else 1


def train(run: Path) -> subprocess.Popen:
    """Begin a run in a process of its own."""
    place = ("--out", str(run.parent), "--name", run.name)
    return start("train", *SETTINGS, *place)


def start(*arguments: str, stderr: int = subprocess.DEVNULL) -> subprocess.Popen:
    """Begin a command in a process of its own."""
    code = "import sys; from gpuyard.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, text=True)


def wait_for(process: subprocess.Popen, run: Path, checkpoints: int, at_write: bool) -> None:
    """Wait until a run has written so many checkpoints, and is writing a further one if asked."""
    folder, seen = run / "checkpoints", set[str]()
    while process.poll() is None:
        seen |= {path.name for path in folder.glob("[0-9]*.zip")}
        writes = not at_write or any(folder.glob("unfinished-*"))
        if len(seen) >= checkpoints and writes:
            return
        time.sleep(0.0002 if at_write else 0.005)


def finish(run: Path) -> int:
    """Bring a run to its end, whatever the kill left of it; return the checkpoints passed over."""
    if not (run / "config.json").exists():
        train(run).wait()
    elif not (run / "model.zip").exists():
        process = start("train", "--resume", str(run), "--no-eval", stderr=subprocess.PIPE)
        return process.communicate()[1].count("going on from an older one")
    return 0


def weights(run: Path) -> bytes:
    """Return the weights of a finished run, as they lie in its model."""
    with zipfile.ZipFile(run / "model.zip") as file:
        return file.read("policy.pth")


if __name__ == "__main__":
    sys.exit(main())
