"""``gpuyard whatif``: what another fleet would give, and the smallest one that suffices."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import add_executor, add_trace, out_folder, positive

if TYPE_CHECKING:
    from gpuyard.evaluation.whatif.fleets import Fleet

USUAL = Path("runs/whatif")

POLICIES = {
    frozenset({"route"}): "routing/dynamo",
    frozenset({"place"}): "topology/kai",
}
"""Who plays if nobody is named; in all other worlds ``system/kubernetes`` does."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.description = (
        "Play a scenario with other values of some fields, and say which fleet meets an objective "
        "at the least price: the same requests or jobs for all of them."
    )
    parser.add_argument("scenario", help="name or file")
    parser.add_argument(
        "--vary",
        action="append",
        required=True,
        metavar="PATH=VALUES",
        help="a field of the scenario and its values: replicas[0].count=2..8, "
        "workload.rate_scale=0.5..2..0.25, cluster.fabric.oversubscription=1,2,4; again for more",
    )
    add_trace(parser)
    parser.add_argument(
        "--policies", default="", help="comma separated (default: one for the world's decisions)"
    )
    parser.add_argument(
        "--seeds", type=positive, default=16, help="episodes each (default: %(default)s)"
    )
    parser.add_argument(
        "--objective",
        default=argparse.SUPPRESS,
        metavar="METRIC=BOUND",
        help="what to meet, comma separated: slo=0.99 (the default where requests are routed), "
        "ttft=0.5 (P99, s), jct=36000 (mean, s), wait=600 (mean, s) or any metric's key",
    )
    add_executor(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=argparse.SUPPRESS,
        help=f"folder of results; one that was cut short goes on (default: {USUAL}, or that with "
        "a number where it has results)",
    )
    parser.add_argument(
        "--force", action="store_true", help="overwrite its results; finished tasks are kept"
    )


def run(options: argparse.Namespace) -> int:
    """Play, print and save; return the exit status."""
    from gpuyard.baselines.registry import names_in
    from gpuyard.envs.scenario.read import read_table
    from gpuyard.evaluation.report import FIRST_SEED
    from gpuyard.evaluation.sweep.run import sweep, tasks_of
    from gpuyard.evaluation.sweep.task import Trace
    from gpuyard.evaluation.tables import text
    from gpuyard.evaluation.whatif import answer, fleets, vary
    from gpuyard.evaluation.whatif.saved import save
    from gpuyard.evaluation.whatif.table import table

    out = out_folder(getattr(options, "out", None), USUAL, options.force)
    changes = vary.fleets([vary.variation(each) for each in options.vary])
    tables, path = read_table(options.scenario)
    trace = Trace.of(options.trace, options.format, options.columns) if options.trace else None
    base = fleets.base_world(path.stem, tables, path.parent, trace)
    asked = [fleets.fleet(base, change) for change in changes]
    decisions = asked[0].scenario.decisions
    given = options.policies or POLICIES.get(decisions, "system/kubernetes")
    policies = _checked(names_in(given), asked)
    usual = "slo=0.99" if "route" in decisions else ""
    wanted = answer.objectives(getattr(options, "objective", usual))

    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    tasks = tasks_of([fleet.world for fleet in asked], policies, seeds)
    by_name = {fleet.world.name: fleet for fleet in asked}
    played = sweep(tasks, out, options.processes, options.executor)
    priced = [fleets.priced(rollout, by_name[rollout.scenario]) for rollout in played]
    found = answer.rows(asked, priced, wanted)
    said, trust = answer.answer(found, wanted), answer.accuracy(asked)
    print(f"{text(table(found))}\n")
    print("\n".join(said + trust))
    save(out, f"What if: {base.name}", _command(options), found, wanted, said, trust)
    print(f"saved report.html, results.md and results.csv in {out}")
    return 0


def _checked(names: list[str], asked: list[Fleet]) -> dict[str, str]:
    """Return policies by what to show, all of which take every fleet."""
    from gpuyard.evaluation.report import check

    from .choosing import policies, shown

    scenarios = [fleet.scenario for fleet in asked]
    check(policies(names, scenarios), scenarios)
    return shown(names, scenarios)


def _command(options: argparse.Namespace) -> str:
    """Return what was typed, as far as it says what was played."""
    words = ["gpuyard", "whatif", options.scenario]
    words += [word for each in options.vary for word in ("--vary", each)]
    if options.columns:
        words += ["--columns", ",".join(f"{name}={own}" for name, own in options.columns.items())]
    for name in ("trace", "policies", "objective"):
        if getattr(options, name, None):
            words += [f"--{name}", str(getattr(options, name))]
    return shlex.join([*words, "--seeds", str(options.seeds)])
