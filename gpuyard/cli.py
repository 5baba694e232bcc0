"""The console command ``gpuyard``: train, evaluate, render, tune, show, deploy and others."""

from __future__ import annotations

import argparse
import codecs
import io
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from gymnasium.error import Error as GymnasiumError

from gpuyard.agents.config import OWN_DEFAULTS, TrainConfig
from gpuyard.ids import DEFAULT, default_scenario, listed

if TYPE_CHECKING:
    from gpuyard.baselines import Policy
    from gpuyard.envs.scenario import Scenario

USER_ERRORS = (ValueError, KeyError, OSError, ImportError, GymnasiumError)
"""What bad input raises; anything else is a bug and keeps its traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status.

    Bad input ends with one line on stderr. With ``GPUYARD_DEBUG=1`` it raises instead.
    """
    _degrade(sys.stdout)
    _degrade(sys.stderr)
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("gpuyard: interrupted", file=sys.stderr)
        return 130
    except USER_ERRORS as error:
        if os.environ.get("GPUYARD_DEBUG"):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        if isinstance(error, ImportError) and "install" not in str(error):
            message = f"{error}; pip install 'gpuyard[train]'"
        print(f"gpuyard {options.command}: error: {message}", file=sys.stderr)
        return 2


def _degrade(stream: TextIO) -> None:
    """Have a terminal that lacks a sign show a plain one instead of failing."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="gpuyard.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Stand in for signs that an encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in text), error.end


PLAIN = {"±": "+-", "×": "x", "–": "-", "—": "-", "µ": "u", "…": "..."}
codecs.register_error("gpuyard.plain", _plain)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands; it needs neither torch nor numba."""
    top = argparse.ArgumentParser(prog="gpuyard", description="A Gymnasium world of GPU clusters.")
    commands = top.add_subparsers(dest="command", required=True)
    _add_train(commands)
    _add_evaluate(commands)
    _add_render(commands)
    _add_tune(commands)
    scenarios = commands.add_parser("scenarios", help="list the scenarios of the package")
    scenarios.set_defaults(run=_scenarios)
    _add_show(commands)
    _add_deploy(commands)
    warmup = commands.add_parser("warmup", help="compile the engine ahead of its first use")
    warmup.add_argument(
        "--processes", type=_positive, default=2, help="compile in so many processes (default: 2)"
    )
    warmup.set_defaults(run=_warmup)
    return top


def _add_train(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "train",
        help="train an agent, then compare it with all baselines",
        description="Train an agent, then compare it with all baselines on held-out seeds.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for entry in fields(TrainConfig):
        flag = "--" + entry.name.replace("_", "-")
        text = f"{entry.metadata['help']} {_defaults(entry)}"
        sub.add_argument(flag, type=type(entry.default), default=argparse.SUPPRESS, help=text)
    sub.add_argument("--resume", type=Path, metavar="RUN", help="continue this run's folder")
    sub.add_argument(
        "--eval-seeds", type=_positive, default=32, help="held-out episodes per policy"
    )
    sub.add_argument("--no-eval", action="store_true", help="only train")
    sub.set_defaults(run=_train)


def _defaults(entry: Field) -> str:
    """Return a setting's default, and those of decisions that have their own, for its help."""
    own = [
        f"; {listed(decisions)}: {table[entry.name]}"
        for decisions, table in OWN_DEFAULTS.items()
        if entry.name in table
    ]
    return f"(default: {entry.default}{''.join(own)})"


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "evaluate",
        help="compare policies on scenarios or on a trace",
        description="Compare baselines and trained models on the same held-out seeds.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sub.add_argument(
        "--policies",
        default="all",
        help="names (perhaps with options: routing/dynamo?temperature=0.5), module:Class, tuned "
        "policies (.json) and models (.zip), comma separated; a model file is read as weights and "
        "JSON, so that one from elsewhere runs no code",
    )
    sub.add_argument(
        "--scenarios",
        default="",
        help="scenario names and files, comma separated; empty: the default of the id",
    )
    sub.add_argument("--trace", type=Path, help="request trace that replaces the workload")
    sub.add_argument("--format", default="auto", help="format of the trace")
    sub.add_argument("--seeds", type=_positive, default=32, help="episodes per policy and scenario")
    sub.add_argument(
        "--env", default="", help="environment id; empty: the one for each scenario's decisions"
    )
    sub.add_argument("--out", type=Path, default=Path("runs/evaluation"), help="folder of results")
    sub.set_defaults(run=_evaluate)


def _add_render(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "render",
        help="play one episode and write it as a page, a trace or a picture",
        description="Play one episode with a policy and write it as one HTML page (.html), a trace "
        "for Perfetto (.json) or a picture (.png).",
    )
    sub.add_argument("scenario", help="a scenario's name or file")
    sub.add_argument(
        "--policy",
        required=True,
        help="a name (perhaps with options), module:Class, a tuned policy (.json), a model (.zip)",
    )
    sub.add_argument("--seed", type=int, default=0, help="of the episode (default: 0)")
    sub.add_argument(
        "--out", type=Path, nargs="+", default=[Path("episode.html")], help="files to write"
    )
    sub.add_argument("--force", action="store_true", help="overwrite them")
    sub.set_defaults(run=_render)


def _add_tune(commands: argparse._SubParsersAction) -> None:
    from dataclasses import asdict

    from gpuyard.evaluation.search import Effort

    sub = commands.add_parser(
        "tune",
        help="search the options of a policy, or the weights of a linear score",
        description="Search the numeric options of a policy, or the weights of a linear score of "
        "all candidate columns (linear), by their reward on training seeds.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sub.add_argument("policy", help="a name; options written into it stay as they are; or linear")
    sub.add_argument("--scenario", required=True, help="a scenario's name or file")
    for name, value in asdict(Effort()).items():
        sub.add_argument(f"--{name}", type=int, default=value)
    sub.add_argument("--out", type=Path, help="file of the result (runs/POLICY-SCENARIO.json)")
    sub.add_argument("--resume", action="store_true", help="go on from that file")
    sub.set_defaults(run=_tune)


def _add_show(commands: argparse._SubParsersAction) -> None:
    from gpuyard.show import KINDS

    sub = commands.add_parser(
        "show",
        help="show a model or a GPU of the catalogue, or a model's config.json",
        description="Show the fields of a model or GPU with their units and where they are from.",
    )
    sub.add_argument("kind", choices=KINDS, help="what to show")
    sub.add_argument("name", help="a name of the catalogue, or the path of a model's config.json")
    sub.set_defaults(run=_show)


def _add_deploy(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "deploy",
        help="search what the machines of a scenario should run",
        description="Search the tensor-parallel degree and number of instances of every machine "
        "of a scenario, by their estimated throughput for its workload.",
    )
    sub.add_argument("scenario", help="a scenario's name or file")
    sub.add_argument(
        "--machines",
        default="",
        help="other machines than the scenario's, comma separated: 8xH100-SXM,4*2xL4 is one of "
        "eight GPUs and four of two",
    )
    for name, meaning in (("--model", "another model"), ("--dtype", "another format of weights")):
        sub.add_argument(name, default=argparse.SUPPRESS, help=f"{meaning} than the scenario's")
    sub.add_argument(
        "--slo",
        action="store_true",
        help="keep to the scenario's objectives: time per token, and time to prefill the mean "
        "prompt",
    )
    then = sub.add_mutually_exclusive_group()
    then.add_argument(
        "--phases",
        action="store_true",
        help="search which instances should prefill and which decode, instead",
    )
    then.add_argument("--out", type=Path, help="save the scenario with the best replicas here")
    sub.set_defaults(run=_deploy)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _train(options: argparse.Namespace) -> int:
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
    if trained.model is None:
        print(f"interrupted; continue with: gpuyard train --resume {trained.folder}")
        return 130
    print(f"trained in {time.perf_counter() - start:.0f} s: {trained.model}", file=sys.stderr)
    if not options.no_eval:
        _compare_trained(trained.folder, options.eval_seeds)
    return 0


def _compare_trained(folder: Path, seeds: int) -> None:
    from gpuyard.agents.callbacks import read_curve
    from gpuyard.envs.scenario import load
    from gpuyard.evaluation.report import compare, report

    config = TrainConfig.load(folder / "config.json")
    scenario = load(config.scenario)
    baselines = _policies(_baselines([scenario]), [scenario])
    policies = {"learned": _policy(str(folder / "model.zip")), **baselines}
    rollouts = compare(policies, [scenario], seeds, config.env, optional=baselines.keys())
    curve = read_curve(folder / "learning_curve.csv")
    print(report(rollouts, ["learned"], folder, curve, [scenario]))


def _evaluate(options: argparse.Namespace) -> int:
    from gpuyard.baselines.registry import names_in
    from gpuyard.envs.scenario import load
    from gpuyard.evaluation.report import compare, report

    chosen = options.scenarios or default_scenario(options.env or DEFAULT)
    scenarios = told_apart([load(name) for name in chosen.split(",")], chosen.split(","))
    if options.trace:
        scenarios = [_with_trace(scenario, options.trace, options.format) for scenario in scenarios]
    given = names_in(options.policies)
    named = _policies([name for name in given if name != "all"], scenarios)
    policies = (_policies(_baselines(scenarios), scenarios) if "all" in given else {}) | named
    optional = policies.keys() - named.keys()
    rollouts = compare(policies, scenarios, options.seeds, options.env, optional=optional)
    learned = [name for name in given if name.endswith(".zip")]
    print(report(rollouts, learned, options.out, scenarios=scenarios))
    return 0


def told_apart(scenarios: Sequence[Scenario], given: Sequence[str]) -> list[Scenario]:
    """Return scenarios under names of their own: those of one name get their folder's in front.

    Raises:
        ValueError: one is given twice.
    """
    names = [scenario.name for scenario in scenarios]
    for depth in range(1, max(len(Path(name).resolve().parts) for name in given)):
        if len(set(names)) == len(names):
            return [replace(s, name=name) for s, name in zip(scenarios, names, strict=True)]
        twins = {name for name in names if names.count(name) > 1}
        names = [
            "-".join([*Path(path).resolve().parts[-depth - 1 : -1], scenario.name])
            if name in twins
            else name
            for name, path, scenario in zip(names, given, scenarios, strict=True)
        ]
    raise ValueError(f"--scenarios: {', '.join(given)} names one scenario twice; name it once")


def _with_trace(scenario: Scenario, trace: Path, trace_format: str) -> Scenario:
    """Return the scenario fed by a trace, named after both."""
    fed = scenario.with_trace(trace, trace_format)
    return replace(fed, name=f"{scenario.name}-{trace.stem}")


def _baselines(scenarios: Sequence[Scenario]) -> list[str]:
    """Return the names of all baselines for just the decisions of one of the scenarios."""
    from gpuyard.baselines import decides, names

    asked = {scenario.decisions for scenario in scenarios}
    return [name for name in names() if decides(name) in asked]


def _policies(chosen: Sequence[str], scenarios: Sequence[Scenario]) -> dict[str, Policy]:
    """Return policies by the names to show: without their family if the scenarios have but one."""
    families = {name.partition("/")[0] for name in _baselines(scenarios)}
    family = f"{families.pop()}/" if len(families) == 1 else ""
    return {name.removeprefix(family): _policy(name) for name in chosen}


def _policy(name: str) -> Policy:
    from gpuyard.baselines import make

    if not name.endswith(".zip"):
        return make(name)
    from gpuyard.agents.policy import LearnedPolicy

    return LearnedPolicy.load(name)


def _render(options: argparse.Namespace) -> int:
    from gpuyard.envs.scenario import load
    from gpuyard.render import check, render

    check(options.out, options.force)
    scenario, policy = load(options.scenario), _policy(options.policy)
    for line in render(scenario, options.policy, policy, options.seed, options.out):
        print(line)
    return 0


def _tune(options: argparse.Namespace) -> int:
    from gpuyard.envs.scenario import load
    from gpuyard.evaluation.search import Effort
    from gpuyard.evaluation.tuning import tune

    scenario = load(options.scenario)
    effort = Effort(options.generations, options.samples, options.episodes, options.seed)
    plain = options.policy.partition("?")[0].replace("/", "-")
    path = options.out or Path("runs") / f"{plain}-{scenario.name}.json"
    again = f"gpuyard tune '{options.policy}' --scenario {options.scenario} --resume --out {path}"
    try:
        for generation, mean, best in tune(options.policy, scenario, effort, path, options.resume):
            shown = f"{generation}/{effort.generations}: reward {mean:.2f}, best sample {best:.2f}"
            print(shown, file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"interrupted; continue with the same settings: {again}", file=sys.stderr)
        return 130
    print(f"saved {path}; compare it: gpuyard evaluate --policies all,{path}")
    return 0


def _scenarios(options: argparse.Namespace) -> int:
    from gpuyard.envs.scenario import load, names

    width = max(len(name) for name in names())
    for name in names():
        print(f"{name.ljust(width)}  {load(name).description}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from gpuyard.show import KINDS

    print(KINDS[options.kind](options.name))
    return 0


def _deploy(options: argparse.Namespace) -> int:
    from gpuyard.deploy import phases_report, report
    from gpuyard.envs.perf.serving.deploy import best
    from gpuyard.envs.scenario import from_dict
    from gpuyard.envs.scenario.machines import read
    from gpuyard.envs.scenario.write import toml

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


def _warmup(options: argparse.Namespace) -> int:
    from gpuyard.envs.warmup import tasks, warm_up

    start, total = time.perf_counter(), len(tasks())
    for number, (task, cpu_s) in enumerate(warm_up(options.processes), start=1):
        print(f"{number}/{total} {task}: {cpu_s:.1f} CPU s", flush=True)
    print(f"engine ready in {time.perf_counter() - start:.1f} s")
    return 0
