"""``gpuyard train``: train an agent, then compare it with all baselines on held-out seeds."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import Field, fields
from pathlib import Path

from gpuyard.agents.config import OWN_DEFAULTS, TrainConfig
from gpuyard.ids import listed

from .arguments import Defaults, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.formatter_class = Defaults
    for entry in fields(TrainConfig):
        flag = "--" + entry.name.replace("_", "-")
        text = f"{entry.metadata['help']} {_defaults(entry)}".rstrip()
        parser.add_argument(flag, type=type(entry.default), default=argparse.SUPPRESS, help=text)
    parser.add_argument("--resume", type=Path, metavar="RUN", help="continue this run's folder")
    parser.add_argument(
        "--eval-seeds", type=positive, default=32, help="held-out episodes per policy"
    )
    parser.add_argument("--no-eval", action="store_true", help="only train")


def _defaults(entry: Field) -> str:
    """Return a setting's default, and those of decisions that have their own, for its help."""
    own = [
        f"; {listed(decisions)}: {table[entry.name]}"
        for decisions, table in OWN_DEFAULTS.items()
        if entry.name in table
    ]
    usual = entry.default if entry.default != "" else "none" if own else ""
    return f"(default: {usual}{''.join(own)})" if usual != "" else ""


def run(options: argparse.Namespace) -> int:
    """Train or go on, then compare; return the exit status."""
    from gpuyard.agents import training

    given = {f.name: getattr(options, f.name) for f in fields(TrainConfig) if f.name in options}
    if options.resume and given:
        raise ValueError(
            f"--resume goes on with the settings of {options.resume}: leave out "
            f"{', '.join('--' + name.replace('_', '-') for name in given)}, or train a new run"
        )
    start = time.perf_counter()
    trained = (
        training.resume(options.resume)
        if options.resume
        else training.train(TrainConfig.of(**given))
    )
    if trained.policy is None:
        print(f"interrupted; continue with: gpuyard train --resume {trained.folder}")
        return 130
    print(f"trained in {time.perf_counter() - start:.0f} s: {trained.policy}", file=sys.stderr)
    if not options.no_eval:
        _compare(trained.folder, options.eval_seeds)
    return 0


def _compare(folder: Path, seeds: int) -> None:
    """Set the agent of a run beside all baselines of its scenario; results stand in its folder."""
    from gpuyard.agents import training
    from gpuyard.agents.callbacks import read_curve
    from gpuyard.envs.scenario import load
    from gpuyard.evaluation.report import compare, report

    from .choosing import baselines_for, policies, policy

    config = TrainConfig.load(folder / "config.json")
    scenario = load(config.scenario)
    baselines = policies(baselines_for([scenario]), [scenario])
    players = {"learned": policy(str(folder / training.POLICY)), **baselines}
    rollouts = compare(players, [scenario], seeds, config.env, optional=baselines.keys())
    curve = read_curve(folder / "learning_curve.csv")
    print(report(rollouts, ["learned"], folder, curve, [scenario]))
