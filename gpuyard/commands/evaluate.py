"""``gpuyard evaluate``: compare baselines and trained models on the same held-out seeds."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard.ids import DEFAULT, default_scenario

from .arguments import Defaults, add_executor, add_trace, out_folder, positive

if TYPE_CHECKING:
    from gpuyard.baselines import Policy
    from gpuyard.envs.scenario import Scenario
    from gpuyard.evaluation.rollout import Rollout

USUAL = Path("runs/evaluation")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.formatter_class = Defaults
    parser.add_argument(
        "--policies",
        default="all",
        help="names (perhaps with options: routing/dynamo?temperature=0.5), module:Class, tuned "
        "policies (.json) and models (policy.safetensors; model.zip?allow_pickle=true, which can "
        "run code of whoever made it), comma separated",
    )
    parser.add_argument(
        "--scenarios",
        default="",
        help="scenario names and files, comma separated; empty: the default of the id",
    )
    add_trace(parser)
    parser.add_argument(
        "--seeds", type=positive, default=32, help="episodes per policy and scenario"
    )
    parser.add_argument(
        "--env", default="", help="environment id; empty: the one for each scenario's decisions"
    )
    add_executor(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=argparse.SUPPRESS,
        help=f"folder of results (default: {USUAL}, or that with a number where it has some)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite the results in it")


def run(options: argparse.Namespace) -> int:
    """Play, print and save; return the exit status."""
    from gpuyard.baselines.registry import names_in
    from gpuyard.evaluation.report import report

    from .choosing import baselines_for, is_model, policies, scenarios

    out = out_folder(getattr(options, "out", None), USUAL, options.force)
    worlds = scenarios(options.scenarios or default_scenario(options.env or DEFAULT))
    if options.trace:
        worlds = [_with_trace(world, options) for world in worlds]
    given = names_in(options.policies)
    named = policies([name for name in given if name != "all"], worlds)
    players = (policies(baselines_for(worlds), worlds) if "all" in given else {}) | named
    optional = players.keys() - named.keys()
    rollouts = _played(options, worlds, players, optional, out)
    learned = [name for name in given if is_model(name)]
    print(report(rollouts, learned, out, scenarios=worlds))
    return 0


def _played(
    options: argparse.Namespace,
    scenarios: list[Scenario],
    players: dict[str, Policy],
    optional: Collection[str],
    out: Path,
) -> list[Rollout]:
    """Return what :func:`gpuyard.evaluation.report.compare` does; keep what is finished in ``out``.

    A task has all seeds, as there: a policy that draws is seeded once for all of them.
    """
    from gpuyard.baselines.registry import names_in
    from gpuyard.envs.scenario.read import read_table
    from gpuyard.evaluation.report import FIRST_SEED, check, warn
    from gpuyard.evaluation.sweep.run import sweep, tasks_of
    from gpuyard.evaluation.sweep.task import Trace, World

    from .choosing import baselines_for, shown

    check(players, scenarios, options.env, optional)
    trace = Trace.of(options.trace, options.format, options.columns) if options.trace else None
    given = names_in(options.policies)
    names = shown([*baselines_for(scenarios), *(n for n in given if n != "all")], scenarios)
    files = (options.scenarios or default_scenario(options.env or DEFAULT)).split(",")
    seeds, tasks = range(FIRST_SEED, FIRST_SEED + options.seeds), []
    for scenario, file in zip(scenarios, files, strict=True):
        table, path = read_table(file)
        world = World.of(scenario.name, table, path.parent, trace)
        able = {
            short: names[short]
            for short, player in players.items()
            if scenario.decisions <= player.decides
        }
        tasks += tasks_of([world], able, seeds, options.env, options.seeds)
    rollouts = sweep(tasks, out, options.processes, options.executor, optional=optional)
    warn(rollouts)
    return rollouts


def _with_trace(scenario: Scenario, options: argparse.Namespace) -> Scenario:
    """Return the scenario fed by a trace, named after both."""
    fed = scenario.with_trace(options.trace, options.format, options.columns)
    return replace(fed, name=f"{scenario.name}-{options.trace.stem}")
