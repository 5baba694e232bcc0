"""The isolation study: vClos and OCS-vClos against ECMP, and against no contention at all.

    python benchmarks/isolation_study.py                            the whole table, 5,000 jobs
    python benchmarks/isolation_study.py --jobs 300 --betas 241     a short look
    python benchmarks/isolation_study.py --plot --table isolation.md

Clusters of 8,192 GPUs, workload and inter-arrival times of arXiv 2308.05692 as its simulator has
them; what is ours and what is not reproduced stands in docs/isolation.md. Every run is kept in a
results file, so that an interrupted study goes on where it was. The last line printed is JSON: mean
JCT, JRT and JWT by policy and inter-arrival.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym

import gpuyard  # noqa: F401
from gpuyard import baselines
from gpuyard.envs.scenario import from_dict

ROOT = Path(__file__).parents[1]
BETAS = (241, 285, 360, 375, 390, 421, 555)  # published mean inter-arrival times, s
LONG_WAIT_S = 10.0  # the study counts jobs that waited longer
SAME = 1.001  # equal means: the jobs of two policies lie on other servers, not on other rates


@dataclass(frozen=True)
class Setup:
    """A policy of the study: who places, on which fabric, and how flows find their way."""

    baseline: str
    cluster: str = "vclos-8192"
    network: dict[str, Any] = field(default_factory=dict)


SETUPS = {
    "ECMP": Setup("isolation/best-fit", network={"routing": "ecmp"}),
    "Balanced ECMP": Setup("isolation/best-fit", network={"routing": "balanced"}),
    "Source routing": Setup("isolation/best-fit", network={"routing": "source"}),
    "vClos": Setup("isolation/vclos", network={"routing": "source"}),
    "OCS-vClos": Setup("isolation/ocs-vclos", "vclos-8192-ocs", {"routing": "source"}),
    "Best": Setup("isolation/best-fit", network={"fidelity": "none"}),
}
Row = dict[str, float]
Rows = dict[tuple[str, int], Row]


def scenario_of(setup: Setup, beta: int, jobs: int, fidelity: str) -> Any:
    """Return the scenario of one run; a flow is hashed whole, as the study does it."""
    table = {
        "cluster": {"preset": setup.cluster},
        "jobs": {"preset": "vclos", "num_jobs": jobs, "interarrival_s": float(beta)},
        "network": {"fidelity": fidelity, "queue_pairs": 1, **setup.network},
        "scheduler": {"window": 1},
        "observation": {"aggregate": True},
    }
    return from_dict(table, f"{setup.cluster}-{beta}")


def measure(label: str, beta: int, jobs: int, fidelity: str, seed: int) -> Row:
    """Run all jobs under one policy and return the study's metrics."""
    setup = SETUPS[label]
    scenario = scenario_of(setup, beta, jobs, fidelity)
    env: Any = gym.make_vec(
        "gpuyard/Placement-v0", num_envs=1, scenario=scenario, autoreset_mode="Disabled"
    )
    policy: Any = baselines.make(setup.baseline)
    policy.reset(scenario, 1)
    policy.attach(env)
    began, shown = time.process_time(), time.monotonic()
    observation, info = env.reset(seed=seed)
    done = False
    while not done:
        observation, _, terminated, truncated, info = env.step(policy.act(observation))
        done = bool(terminated[0] | truncated[0])
        if done or time.monotonic() > shown + 1.0:
            shown = time.monotonic()
            _show(f"{label}, {beta} s: {int(info['finished'][0])} of {jobs} jobs")
    table = env.unwrapped.results(0)["jobs"]
    env.close()
    return _metrics(table, info, policy) | {"cpu_s": time.process_time() - began}


def _metrics(table: dict[str, Any], info: dict[str, Any], policy: Any) -> Row:
    waited = table["waited_s"]
    reasons = Counter(policy.reasons(0).values())
    solver = getattr(policy, "solver", None)
    return {
        "jct_s": float((table["finish_s"] - table["arrival_s"]).mean()),
        "jrt_s": float(table["ran_s"].mean()),
        "jwt_s": float(waited.mean()),
        "waiting_share": float((waited > LONG_WAIT_S).mean()),
        "contention": float((table["ran_s"] / table["ideal_run_s"]).mean()),
        "contention_max": float((table["ran_s"] / table["ideal_run_s"]).max()),
        "refused_by_network": float(reasons["network fragmentation"]),
        "network_wait_share": float(info["network_wait_share"][0]),
        "utilisation": float(info["utilisation"][0]),
        "invalid_actions": float(info["invalid_actions"][0]),
        "programs": float(solver.solved if solver else 0),
        "programs_out_of_time": float(solver.stopped if solver else 0),
    }


def _show(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{line:<60}", end="", file=sys.stderr, flush=True)


def study(args: argparse.Namespace) -> Rows:
    """Return all rows, those in the results file first; every new one is appended to it."""
    kept: dict[str, Row] = {}
    if args.results.exists() and not args.fresh:
        kept = dict(json.loads(line) for line in args.results.read_text().splitlines() if line)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    if args.fresh:
        args.results.write_text("")
    rows: Rows = {}
    for beta in args.betas:
        for label in SETUPS:
            key = f"{label}/{beta}/{args.jobs}/{args.fidelity}/{args.seed}"
            from_file = key in kept
            if not from_file:
                kept[key] = measure(label, beta, args.jobs, args.fidelity, args.seed)
                with args.results.open("a") as file:
                    file.write(json.dumps([key, kept[key]]) + "\n")
            row = rows[label, beta] = kept[key]
            _show("")
            print(
                f"\r{label:<15} {beta:4d} s  JCT {row['jct_s']:8.1f}  JRT {row['jrt_s']:8.1f}  "
                f"JWT {row['jwt_s']:8.1f}  {row['cpu_s']:6.1f} CPU s"
                + ("  (from the results file)" if from_file else ""),
                flush=True,
            )
    return rows


def orderings(rows: Rows, betas: list[int]) -> list[str]:
    """Return what the study claims, with the numbers found and whether it holds."""
    lines: list[str] = []

    def claim(text: str, holds: bool, numbers: str) -> None:
        lines.append(f"{'holds' if holds else 'DOES NOT HOLD':<13}  {text}: {numbers}")

    def ordered(metric: str, *labels: str, beta: int) -> tuple[bool, str]:
        values = [rows[label, beta][metric] for label in labels]
        rising = all(a <= b * SAME for a, b in pairwise(values))
        return rising, ", ".join(
            f"{label} {value:.1f}" for label, value in zip(labels, values, strict=True)
        )

    for beta in betas:
        holds, numbers = ordered("jct_s", "Best", "OCS-vClos", "vClos", beta=beta)
        claim(f"{beta} s, JCT Best <= OCS-vClos <= vClos", holds, numbers)
        jrt = [rows[label, beta]["jrt_s"] for label in ("vClos", "Best")]
        claim(
            f"{beta} s, JRT vClos = Best",
            max(jrt) <= min(jrt) * SAME,
            f"vClos {jrt[0]:.2f}, Best {jrt[1]:.2f} ({100 * (jrt[0] / jrt[1] - 1):+.3f} %)",
        )
        holds, numbers = ordered("jrt_s", "Source routing", "Balanced ECMP", "ECMP", beta=beta)
        claim(f"{beta} s, JRT source routing <= balanced <= ECMP", holds, numbers)
        holds, numbers = ordered("jwt_s", "OCS-vClos", "vClos", beta=beta)
        claim(f"{beta} s, JWT OCS-vClos <= vClos", holds, numbers)
    heavy = min(betas)
    jct = {label: rows[label, heavy]["jct_s"] for label in SETUPS}
    cut = 100 * (1 - min(jct["vClos"], jct["OCS-vClos"]) / jct["ECMP"])
    above = 100 * (jct["OCS-vClos"] / jct["Best"] - 1)
    claim(f"{heavy} s, isolation cuts JCT of ECMP by 30 % or more", cut >= 30, f"{cut:.1f} %")
    claim(f"{heavy} s, OCS-vClos within 10 % of Best", above <= 10, f"{above:+.2f} %")
    return lines


def markdown(rows: Rows, betas: list[int]) -> str:
    """Return the table: seconds, shares in percent."""
    head = (
        "| inter-arrival (s) | policy | JCT | JRT | JWT | waiting > 10 s | run time / alone, mean "
        "(max) | of the head's wait: network |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for beta in betas:
        for label in SETUPS:
            row = rows[label, beta]
            lines.append(
                f"| {beta} | {label} | {row['jct_s']:.0f} | {row['jrt_s']:.0f} "
                f"| {row['jwt_s']:.1f} | {100 * row['waiting_share']:.1f} % "
                f"| {row['contention']:.3f} ({row['contention_max']:.2f}) "
                f"| {100 * row['network_wait_share']:.1f} % "
                f"({row['refused_by_network']:.0f} jobs) |"
            )
    return "\n".join(lines)


def plot(rows: Rows, betas: list[int], jobs: int, path: Path) -> None:
    """Draw JCT, JRT and JWT over the inter-arrival time."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'gpuyard[plot]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = (("jct_s", "JCT"), ("jrt_s", "JRT, running"), ("jwt_s", "JWT, waiting"))
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.8), constrained_layout=True)
    for axis, (metric, title) in zip(axes, panels, strict=True):
        for label, marker in zip(SETUPS, "osv^D*", strict=True):
            values = [rows[label, beta][metric] for beta in betas]
            axis.plot(betas, values, marker=marker, label=label, alpha=0.8)
        axis.set(title=f"mean {title} (s)", xlabel="mean inter-arrival time (s)")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle(f"Isolation on 8,192 GPUs, {jobs:,} jobs")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Run the study; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=5000, help="jobs per run (5000)")
    parser.add_argument("--betas", type=int, nargs="+", default=list(BETAS), help="inter-arrivals")
    parser.add_argument("--fidelity", default="fluid", choices=("fluid", "flow", "occupancy"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--results", type=Path, default=ROOT / "runs" / "isolation_study.jsonl", help="kept runs"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the results file")
    parser.add_argument(
        "--plot", nargs="?", type=Path, const=ROOT / "docs" / "images" / "isolation.png"
    )
    parser.add_argument("--table", type=Path, help="write the markdown table there")
    args = parser.parse_args()
    rows = study(args)
    print("\n" + markdown(rows, args.betas) + "\n")
    print("\n".join(orderings(rows, args.betas)))
    if args.table:
        args.table.write_text(markdown(rows, args.betas) + "\n")
    if args.plot:
        plot(rows, args.betas, args.jobs, args.plot)
    means: dict[str, dict[str, Row]] = {label: {} for label in SETUPS}
    for (label, beta), row in rows.items():
        means[label][str(beta)] = {key: round(row[key], 1) for key in ("jct_s", "jrt_s", "jwt_s")}
    print(json.dumps(means))


if __name__ == "__main__":
    main()
