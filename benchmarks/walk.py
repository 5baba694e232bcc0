"""A newcomer's day: each path from a wheel to an answer, with commands, lines and seconds.

    python -m build && python benchmarks/walk.py dist/*.whl

Everything happens in an empty folder outside the checkout: a virtual environment of its own, a
cache of compiled code that is empty at first, and the files that a user would have. Seconds are of
the wall, pip's downloads and the first compilation included where they are due; CPU seconds of all
processes stand beside them, as a busy machine says little by its wall. The table printed is that of
docs/walk.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SWITCHES = """SwitchName=s0 Nodes=n[0-7]
SwitchName=s1 Nodes=n[8-15]
SwitchName=top Switches=s[0-1]
"""
NODES = "NodeName=n[0-15] CPUTot=96 Gres=gpu:h100:8(S:0-1) State=IDLE\n"
RULE = '''from gpuyard.baselines import ScorePolicy


class Shortest(ScorePolicy):
    """The replica that should give the first token soonest."""

    decides = frozenset({"route"})

    def score(self, observation):
        wait_s = self.read(observation, "candidates", "route.wait_s")
        return -wait_s - self.read(observation, "candidates", "route.prefill_s")
'''


@dataclass(frozen=True)
class Walk:
    """One path.

    Attributes:
        name: what is wanted.
        commands: that are typed.
        lines: of code or configuration that the user writes.
        cold: with nothing compiled, whatever was walked before.
    """

    name: str
    commands: tuple[str, ...]
    lines: int = 0
    cold: bool = False


def imported(source: str, out: str) -> tuple[str, str]:
    """Return the commands from a cluster's file to a first table about it."""
    play = f"gpuyard evaluate --scenarios {out}.toml --policies gang/fifo,gang/sjf --seeds 8"
    return f"gpuyard import {source} --out {out}.toml", play


SLURM = "slurm topology.conf --nodes scontrol.txt --gpu h100=H100-SXM"
RULES = "routing/round-robin,routing/llm-d,routing/dynamo"
MAPPING = "arrival_s=time,prompt_tokens=in,output_tokens=out,session=user"
WHAT_IF = "gpuyard whatif routing-default --vary 'replicas[0].count=2..8' --policies routing/dynamo"
NODES_WHAT_IF = (
    "gpuyard whatif slurm.toml --vary 'cluster.pools[0].nodes=16..22..2' --policies gang/sjf "
    "--objective wait=3600"
)
WALKS = (
    Walk(
        "first result, from `pip install`",
        ("pip install gpuyard", f"gpuyard evaluate --policies {RULES} --seeds 8"),
    ),
    Walk(
        "own request trace",
        (f"gpuyard evaluate --trace requests.csv --columns {MAPPING} --policies {RULES}",),
    ),
    Walk(
        "own rule in the table",
        ("gpuyard evaluate --policies all,mine:Shortest --seeds 8",),
        len(RULE.splitlines()),
    ),
    Walk("what if: replicas", (WHAT_IF,)),
    Walk("what if: replicas, nothing compiled", (WHAT_IF,), cold=True),
    Walk("own cluster, Slurm, its engine not compiled", imported(SLURM, "slurm")),
    Walk("own cluster, Slurm, once compiled", imported(SLURM, "again")),
    Walk("own cluster, Kubernetes", imported("kubernetes nodes.json", "kubernetes")),
    Walk("what if: nodes for jobs", (NODES_WHAT_IF,)),
)
"""In the order of a day; the first of a kind of world compiles the engine for it."""


def files(folder: Path) -> None:
    """Write what a user has: a trace with names of its own, two clusters' files, a rule."""
    draw = random.Random(0)
    now_s, rows = 0.0, ["time,in,out,user"]
    for _ in range(2000):
        now_s += draw.expovariate(8.0)
        tokens = f"{draw.randint(100, 3000)},{draw.randint(20, 600)}"
        rows.append(f"{now_s:.3f},{tokens},user{draw.randint(0, 50)}")
    (folder / "requests.csv").write_text("\n".join(rows) + "\n")
    (folder / "topology.conf").write_text(SWITCHES)
    (folder / "scontrol.txt").write_text(NODES)
    items = [
        {
            "kind": "Node",
            "metadata": {
                "name": f"n{index}",
                "labels": {
                    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
                    "network.topology.nvidia.com/leaf": f"leaf{index // 8}",
                },
            },
            "status": {"allocatable": {"nvidia.com/gpu": "8"}},
        }
        for index in range(16)
    ]
    (folder / "nodes.json").write_text(json.dumps({"kind": "List", "items": items}))
    (folder / "mine.py").write_text(RULE)


def seconds(command: str, folder: Path, surroundings: dict[str, str]) -> tuple[float, float]:
    """Run a command line as a shell would; return wall and CPU seconds. It must succeed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, shell=True, cwd=folder, env=surroundings, capture_output=True, text=True
    )
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command}\n{done.stdout}{done.stderr}")
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Walk all paths and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wheel", type=Path, help="the built wheel, which 'gpuyard' stands for")
    parser.add_argument("--python", default=sys.executable, help="of the virtual environment")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}")
    print("| Path | Commands | Lines | Wall s | CPU s |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files(folder)
        seconds(f"{options.python} -m venv venv", folder, dict(os.environ))
        path = f"{folder / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        surroundings = {**os.environ, "PATH": path}
        surroundings.pop("PYTHONPATH", None)
        for walk in WALKS:
            surroundings["NUMBA_CACHE_DIR"] = str(folder / ("cold" if walk.cold else "cache"))
            commands = [
                command.replace("install gpuyard", f"install -q {options.wheel.resolve()}")
                for command in walk.commands
            ]
            spent = [seconds(command, folder, surroundings) for command in commands]
            wall_s, cpu_s = map(sum, zip(*spent, strict=True))
            print(
                f"| {walk.name} | {len(commands)} | {walk.lines or ''} | {wall_s:.0f} "
                f"| {cpu_s:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
