"""``gpuyard deploy``: search what the machines of a scenario should run."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.description = (
        "Search the tensor-parallel degree and number of instances of every machine of a scenario, "
        "by their estimated throughput for its workload."
    )
    parser.add_argument("scenario", help="a scenario's name or file")
    parser.add_argument(
        "--machines",
        default="",
        help="other machines than the scenario's, comma separated: 8xH100-SXM,4*2xL4 is one of "
        "eight GPUs and four of two",
    )
    for name, meaning in (("--model", "another model"), ("--dtype", "another format of weights")):
        parser.add_argument(name, default=argparse.SUPPRESS, help=f"{meaning} than the scenario's")
    parser.add_argument(
        "--slo",
        action="store_true",
        help="keep to the scenario's objectives: time per token, and time to prefill the mean "
        "prompt",
    )
    then = parser.add_mutually_exclusive_group()
    then.add_argument(
        "--phases",
        action="store_true",
        help="search which instances should prefill and which decode, instead",
    )
    then.add_argument("--out", type=Path, help="save the scenario with the best replicas here")
    parser.add_argument("--force", action="store_true", help="overwrite that file")


def run(options: argparse.Namespace) -> int:
    """Search, print and save; return the exit status."""
    from gpuyard.envs.perf.serving.deploy import best
    from gpuyard.envs.scenario import from_dict
    from gpuyard.envs.scenario.machines import read
    from gpuyard.envs.scenario.write import toml

    from .deploy_text import phases_report, report

    if options.out and options.out.exists() and not options.force:
        raise ValueError(f"--out {options.out} exists: add --force to overwrite it")
    settings = {key: getattr(options, key) for key in ("model", "dtype") if key in options}
    fleet = read(options.scenario, options.machines, **settings)
    machines = [machine for _, machine in fleet.machines]
    demand = fleet.demand(options.slo)
    if options.phases:
        print(phases_report(machines, demand))
        return 0
    print(report(machines, demand))
    table = fleet.redeployed(best(machines, demand))
    print(f"\n{toml({'replicas': table['replicas']})}", end="")
    if options.out:
        from_dict(table, folder=fleet.folder)  # what else the scenario says is sound, too
        options.out.write_text(toml(table), encoding="utf-8")
        print(f"\nsaved {options.out}; try it: gpuyard evaluate --scenarios {options.out}")
    return 0
