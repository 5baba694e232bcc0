"""A router for rollouts, learned on as many cores as there are and compared on unseen steps.

    python benchmarks/rollout_agent.py --minutes 8.5 --processes 16 --out runs/rollout-agent

1. ``cost``: search weighs the terms of a cost (``gpuyard tune cost``), all processes on one search.
2. Side by side: trainings that imitate it and go on with PPO, each on a core, and searches for the
   options of the rules that have numbers.
3. All of them and all rules play steps that none has seen; the learned ones that are shown are
   those with the highest reward on other steps (seeds from 3,000,000).

Every stage takes a share of the minutes and leaves its files in the folder at once; ``result.json``
is written after stage 1 and again at the end. The same command goes on in a folder that holds part
of a run: searches from their last generation, trainings that ended are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # here and in the processes to come: one core each

import numpy as np

from gpuyard.commands.choosing import baselines_for, policy
from gpuyard.envs.scenario import load
from gpuyard.evaluation.report import FIRST_SEED
from gpuyard.evaluation.rollout import rollout
from gpuyard.evaluation.search import Effort
from gpuyard.evaluation.statistics import mean_interval, paired_interval
from gpuyard.evaluation.tuning import tune

TUNED = (
    *("routing/session-margin", "routing/session-gate", "routing/length-aware"),
    *("routing/prefill-and-work", "routing/capability-aware", "routing/dynamo?policy=kv"),
)
"""Rules with numbers that search may set."""
FIRST_CHOOSING = 3_000_000
"""First seed of the steps by which learned policies are chosen, as in training's validation."""
SHARES = {"cost": 0.4, "learn": 0.87}
"""Shares of the minutes at whose end a stage ends; the rest is for the comparison."""
START_S = 75.0
"""Of a training beside its learning: imports, imitation, validation at the end."""
SETTINGS = tuple(product((1e-4, 3e-4, 1e-3), (0.95, 0.99), (0.999, 1.0)))
"""Learning rates, lambdas and gammas of the trainings, which go through them in turn."""


def makespans(name: str, scenario: str, first: int, steps: int) -> list[float]:
    """Return the makespans of a policy on steps with seeds from ``first`` up, seconds."""
    seeds = first + np.arange(steps)
    metrics = rollout(name, policy(name), load(scenario), seeds).metrics
    return [float(seconds) for seconds in metrics["makespan_s"]]


def search(
    name: str, scenario: str, effort: Effort, path: Path, processes: int, until: float
) -> Path:
    """Tune a policy until a moment of the monotonic clock, from where its file ends."""
    for generation, mean, best in tune(
        name, load(scenario), effort, path, resume=path.exists(), processes=processes
    ):
        print(f"{name} {generation}: {mean:.3f}, best {best:.3f}", flush=True)
        if time.monotonic() > until:
            break
    return path


def trainings(
    out: Path, scenario: str, teacher: Path, count: int, minutes: float, steps: int
) -> list[subprocess.Popen[bytes]]:
    """Start trainings that have not ended in this folder, each a process of its own."""
    started = []
    for number in range(count):
        folder = out / f"agent-{number}"
        if (folder / "policy.safetensors").exists():
            continue
        learning_rate, lambda_, gamma = SETTINGS[number % len(SETTINGS)]
        command = [sys.executable, "-m", "gpuyard", "train", "--no-eval"]
        if (folder / "config.json").exists():
            command += ["--resume", str(folder)]
        else:
            command += [
                *("--scenario", scenario, "--out", str(out), "--name", folder.name),
                *("--teacher", str(teacher), "--teacher-steps", str(min(100_000, steps))),
                *("--steps", str(steps), "--minutes", f"{minutes:.2f}", "--seed", str(number)),
                *("--learning-rate", str(learning_rate), "--gamma", str(gamma)),
                *("--gae-lambda", str(lambda_), "--critic-steps", str(min(60_000, steps // 10))),
                *("--n-steps", "512", "--batch-size", "4096"),
                *("--validate-every", "150000", "--checkpoint-every", "0"),
            ]
        with (out / f"agent-{number}.log").open("ab") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
    return started


def wait(processes: list[subprocess.Popen[bytes]], until: float) -> None:
    """Wait for processes until a moment, then interrupt those that are left, and end them."""
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
    for process in processes:
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()


def compared(
    pool: ProcessPoolExecutor, learned: list[str], rules: list[str], scenario: str, steps: int
) -> dict[str, object]:
    """Play unseen steps, and say what the best of the learned policies makes of them.

    Args:
        pool: who plays.
        learned: names of policies, of which the best on the choosing steps is "the agent".
        rules: names of all others.
        scenario: the world.
        steps: how many.
    """
    unseen = partial(makespans, scenario=scenario, first=FIRST_SEED, steps=steps)
    choosing = partial(makespans, scenario=scenario, first=FIRST_CHOOSING, steps=steps)
    chosen_by = dict(zip(learned, map(np.mean, pool.map(choosing, learned)), strict=True))
    names = [*learned, *rules]
    played = dict(zip(names, pool.map(unseen, names), strict=True))
    agent = min(learned, key=lambda name: chosen_by[name])
    rows = {}
    for name, seconds in sorted(played.items(), key=lambda item: np.mean(item[1])):
        mean, change = mean_interval(seconds), paired_interval(played[agent], seconds)
        rows[name] = {
            "makespan_s": [mean.mean, mean.half_width],
            "agent_against_it_percent": [
                100 * change.mean / mean.mean,
                100 * change.half_width / mean.mean,
            ],
            "seconds": seconds,
        }
    return {"agent": agent, "chosen_by": chosen_by, "steps": steps, "policies": rows}


def table(result: dict) -> str:
    """Return the comparison as text, the shortest makespan first."""
    lines = [f"the agent is {result['agent']}; makespan s, the agent against it in %"]
    for name, row in result["policies"].items():
        (mean, half), (change, around) = row["makespan_s"], row["agent_against_it_percent"]
        lines.append(f"{name:60s} {mean:8.1f} ± {half:5.1f} {change:+7.2f} ± {around:.2f}")
    return "\n".join(lines)


def main() -> None:
    """Learn, compare, and write what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scenario", default="rollout-longtail")
    parser.add_argument("--minutes", type=float, default=8.5, help="for all stages together")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--trainings", type=int, default=9, help="that run side by side")
    parser.add_argument("--steps", type=int, default=600_000, help="decisions of each at most")
    parser.add_argument("--seeds", type=int, default=32, help="unseen steps of the comparison")
    parser.add_argument("--out", type=Path, default=Path("runs/rollout-agent"))
    options = parser.parse_args()
    out, scenario = options.out.resolve(), options.scenario
    out.mkdir(parents=True, exist_ok=True)
    began, span_s = time.monotonic(), 60.0 * options.minutes
    makespans("routing/predicted-latency", scenario, 0, 1)  # compiles, before others need it
    print(f"compiled after {time.monotonic() - began:.0f} s", flush=True)

    samples = max(2 * options.processes, 8)
    cost = search(
        *("cost", scenario, Effort(5000, samples, 16), out / "cost.json", options.processes),
        began + SHARES["cost"] * span_s,
    )
    rules = baselines_for([load(scenario)])
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:

        def write(learned: list[str], others: list[str]) -> None:
            result = compared(pool, learned, others, scenario, options.seeds)
            (out / "result.json").write_text(json.dumps(result, indent=1), "utf-8")
            print(table(result), flush=True)

        write([str(cost)], ["routing/predicted-latency", "routing/sticky-least-loaded"])
        until = began + SHARES["learn"] * span_s
        left_s = until - time.monotonic()
        running = trainings(
            out, scenario, cost, options.trainings, max(left_s - START_S, 6.0) / 60, options.steps
        )
        files = [out / f"tuned-{name.partition('/')[2].partition('?')[0]}.json" for name in TUNED]
        tuned = [
            pool.submit(search, name, scenario, Effort(12, 12, 8), path, 1, until)
            for name, path in zip(TUNED, files, strict=True)
        ]
        wait(running, until)
        for future in tuned:
            future.result()
        agents = [str(path) for path in sorted(out.glob("agent-*/policy.safetensors"))]
        agents += [f"{path}?greedy=true" for path in agents]
        write([str(cost), *agents], [*rules, *map(str, files)])
    print(f"{time.monotonic() - began:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
