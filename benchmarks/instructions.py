"""Instructions per decision, which neighbours on the machine do not move, of one or two versions.

    python benchmarks/instructions.py                    of this version
    python benchmarks/instructions.py --before ../old    and of a checkout of another one

Worlds without techniques and the joint world of `cluster_steps.py` are played, 16 environments, the
feasible candidates in turn, first to compile and then under valgrind, which counts all that the
process executes in the steps that are played last, Python's part too. Needs valgrind; code is made
for a processor that it knows.
The two versions must play the same: the sums of rewards are compared.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster_steps import joint

ROOT = Path(__file__).resolve().parents[1]
REPLICA = {"gpu": "H100-SXM", "model": "Llama-3-8B", "count": 8, "gpu_memory_utilization": 0.9}
PINNED = {"max_num_seqs": 128, "max_num_batched_tokens": 2048, "engine": "vllm-0.12"}
ROUTING = {
    "replicas": [{**REPLICA, **PINNED, "frontend_ms": 0.0}],
    "workload": {"preset": "chat", "num_requests": 1000, "rate_per_s": 40.0},
}
WORLDS: dict[str, tuple[str, Any]] = {
    "routing": ("gpuyard/Routing-v0", ROUTING),
    "placement": ("gpuyard/Placement-v0", "placement-default"),
    "joint": ("gpuyard/Cluster-v0", joint()),
}
NUM_ENVS = 16


def play(kind: str, warm: int, steps: int) -> None:
    """Play ``warm`` steps, then ``steps`` that are counted if valgrind watches."""
    import gymnasium as gym
    import numpy as np

    import gpuyard  # noqa: F401
    from gpuyard.envs.scenario import from_dict

    env_id, tables = WORLDS[kind]
    scenario = from_dict(tables, kind) if isinstance(tables, dict) else tables
    env: Any = gym.make_vec(env_id, num_envs=NUM_ENVS, scenario=scenario, autoreset_mode="SameStep")
    observation, _ = env.reset(seed=0)
    total = 0.0
    for step in range(warm + steps):
        if step == warm:
            count("on")
        mask = observation["action_mask"]
        order = np.roll(np.arange(mask.shape[1]), -step)
        observation, reward, *_ = env.step(order[np.argmax(mask[:, order] > 0, axis=1)])
        total += float(reward.sum())
    count("off")
    print(f"return {total!r}")


def count(switch: str) -> None:
    """Begin or end counting."""
    if "GPUYARD_COUNTED" in os.environ:
        subprocess.run(
            ["callgrind_control", "-i", switch, str(os.getpid())],
            stdout=subprocess.DEVNULL,
            check=True,
        )


def counted(root: Path, kind: str, warm: int, steps: int) -> tuple[float, str]:
    """Return the instructions per decision of a version, and the sum of its rewards."""
    environ = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0"}
    environ |= {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}
    played = [sys.executable, __file__, "--play", kind, "--warm", str(warm), "--steps", str(steps)]
    subprocess.run(played, env=environ, cwd=root, check=True, capture_output=True)
    watched = ["valgrind", "--tool=callgrind", "--instr-atstart=no", *played]
    watched.insert(3, "--callgrind-out-file=/dev/null")
    out = subprocess.run(
        watched, env={**environ, "GPUYARD_COUNTED": "1"}, cwd=root, capture_output=True, text=True
    )
    found = re.search(r"Collected : (\d+)", out.stderr)
    if out.returncode or found is None:
        raise SystemExit(f"valgrind: {out.stderr[-2000:]}")
    return int(found[1]) / (NUM_ENVS * steps), out.stdout.strip()


def main() -> None:
    """Count."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--before", type=Path, help="root of a checkout to compare with")
    parser.add_argument("--kinds", nargs="+", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--play", choices=list(WORLDS), help=argparse.SUPPRESS)
    parser.add_argument("--warm", type=int, default=100, help="steps before counting (100)")
    parser.add_argument("--steps", type=int, default=150, help="steps that are counted (150)")
    options = parser.parse_args()
    if options.play:
        play(options.play, options.warm, options.steps)
        return
    for kind in options.kinds:
        now, result = counted(ROOT, kind, options.warm, options.steps)
        print(f"{kind}: {now:,.0f} instructions a decision, {result}")
        if options.before:
            before, other = counted(options.before.resolve(), kind, options.warm, options.steps)
            print(f"{kind} before: {before:,.0f}, {other}; ratio {now / before:.3f}")


if __name__ == "__main__":
    main()
