"""CPU seconds of compiling the engine, cold and warm, unit by unit.

    python benchmarks/compile.py

Each figure is the CPU time of a process of its own: `gym.make` and `reset` of each environment, one
after the other with a cache that was empty, so that each finds what those before it have compiled;
again with the full one; then every unit alone. The bound to compare with is numba itself: 600
lines of arithmetic, compiled beside it, say how fast the machine compiles at this moment.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

IDS = ("gpuyard/Routing-v0", "gpuyard/Placement-v0", "gpuyard/Cluster-v0")
START = """
import resource, sys
import gymnasium as gym, gpuyard
gym.make(sys.argv[1]).reset(seed=0)
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime)
"""
UNITS = """
from gpuyard.envs.warmup import run, tasks
for task in tasks():
    print(*run(task))
"""
YARDSTICK = """
import resource, numba
lines = "".join(f"    x = x * {k}.5 + {k}\\n" for k in range(600))
space = {}
exec(f"def f(x):\\n{lines}    return x", space)
began = resource.getrusage(resource.RUSAGE_SELF)
numba.njit(space["f"])(1.0)
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime - began.ru_utime - began.ru_stime)
"""


def output(code: str, cache: str, *arguments: str) -> str:
    """Run code in a process with its own folder of compiled functions; return what it prints."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return run.stdout


def starts(runs: int) -> dict[str, float]:
    """Return CPU seconds of starts: with what those before have compiled, and warm."""
    found: dict[str, list[float]] = {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as cache:
            cold = [float(output(START, cache, env_id)) for env_id in IDS]
            warm = [float(output(START, cache, env_id)) for env_id in IDS]
        for what, seconds in (("cold", cold), ("warm", warm)):
            for env_id, cpu_s in zip(IDS, seconds, strict=True):
                found.setdefault(f"{env_id.partition('/')[2]} {what}", []).append(cpu_s)
        found.setdefault("all three, cold", []).append(sum(cold))
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Run the benchmark; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=1, help="the median counts (1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        yardstick = statistics.median(float(output(YARDSTICK, cache)) for _ in range(3))
        print(f"yardstick, 600 lines of arithmetic: {yardstick:.2f} CPU s")
        for line in output(UNITS, cache).splitlines():
            name, cpu_s = line.split()
            print(f"  {name:16s} {float(cpu_s):6.2f} CPU s")
    found = starts(options.runs)
    for name, cpu_s in found.items():
        print(f"{name:20s} {cpu_s:6.1f} CPU s, {cpu_s / yardstick:5.1f} yardsticks")
    print(json.dumps({name: round(cpu_s, 2) for name, cpu_s in found.items()}))


if __name__ == "__main__":
    main()
