"""``gpuyard warmup``: compile the engine ahead of its first use."""

from __future__ import annotations

import argparse
import time

from .arguments import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.add_argument(
        "--processes", type=positive, default=2, help="compile in so many processes (default: 2)"
    )


def run(options: argparse.Namespace) -> int:
    """Compile and say how long it took; return the exit status."""
    from gpuyard.envs.warmup import tasks, warm_up

    start, total = time.perf_counter(), len(tasks())
    for number, (task, cpu_s) in enumerate(warm_up(options.processes), start=1):
        print(f"{number}/{total} {task}: {cpu_s:.1f} CPU s", flush=True)
    print(f"engine ready in {time.perf_counter() - start:.1f} s")
    return 0
