"""``gpuyard tune``: search the options of a policy, or the weights of a linear score."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from gpuyard.evaluation.search import Effort

from .arguments import Defaults, positive

EFFORT = {
    "generations": "in all, those of an earlier run included",
    "samples": "policies that are tried in each generation",
    "episodes": "that each of them plays",
    "seed": "of the samples; training episodes count up from it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.description = (
        "Search the numeric options of a policy, or the weights of a linear score of all candidate "
        "columns (linear) or of a cost of a dozen terms (cost), by their reward on training seeds."
    )
    parser.formatter_class = Defaults
    parser.add_argument(
        "policy", help="a name; options written into it stay as they are; linear, cost"
    )
    parser.add_argument("--processes", type=positive, default=1, help="that play")
    parser.add_argument("--scenario", required=True, help="a scenario's name or file")
    for name, value in asdict(Effort()).items():
        parser.add_argument(f"--{name}", type=int, default=value, help=EFFORT[name])
    parser.add_argument("--out", type=Path, help="file of the result (runs/POLICY-SCENARIO.json)")
    parser.add_argument("--resume", action="store_true", help="go on from that file")
    parser.add_argument("--force", action="store_true", help="begin anew over that file")


def run(options: argparse.Namespace) -> int:
    """Search; return the exit status."""
    from gpuyard.envs.scenario import load
    from gpuyard.evaluation.tuning import tune

    scenario = load(options.scenario)
    effort = Effort(options.generations, options.samples, options.episodes, options.seed)
    plain = options.policy.partition("?")[0].replace("/", "-")
    path = options.out or Path("runs") / f"{plain}-{scenario.name}.json"
    if path.exists() and not (options.resume or options.force):
        raise ValueError(f"{path} exists: --resume goes on from it, --force overwrites it")
    again = f"gpuyard tune '{options.policy}' --scenario {options.scenario} --resume --out {path}"
    try:
        found = tune(options.policy, scenario, effort, path, options.resume, options.processes)
        for generation, mean, best in found:
            shown = f"{generation}/{effort.generations}: reward {mean:.2f}, best sample {best:.2f}"
            print(shown, file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"interrupted; continue with the same settings: {again}", file=sys.stderr)
        return 130
    print(f"saved {path}; compare it: gpuyard evaluate --policies all,{path}")
    return 0
