"""Fixed, HPA and planners over a day of a real service's load.

    python benchmarks/scaling_day.py                               # 24 hours, 12 policies
    python benchmarks/scaling_day.py --hours 6                     # a short look
    python benchmarks/scaling_day.py --service conv                # a flatter day
    python benchmarks/scaling_day.py --apart                       # prefill and decode apart
    python benchmarks/scaling_day.py --plot docs/images/scaling_day.png

One deployment on L40S GPUs gets the requests of Azure's code service, or of its conversation
service, whose rate follows the hour of the day. Every autoscaler starts with two replicas; fixed
fleets have as many as their names say. With ``--apart``, prefill and decode replicas are counted
apart and Dynamo's planner by objectives plays with each of its forecasts (two need
``gpuyard[forecast]``). Prints a row per policy: requests within the objectives,
TTFT, GPU hours of replicas, starts; the last line is JSON. ``docs/studies.md`` has the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playing import begin  # noqa: E402

from gpuyard.baselines.scaling.predictors import Kind  # noqa: E402
from gpuyard.envs.scenario import Scenario, from_dict  # noqa: E402
from gpuyard.evaluation.requests import attained, request_latencies  # noqa: E402

# Requests by the hour (UTC) over their mean, working days of May 2024, read off the published plots
# of Azure's LLM inference trace 2024 (Stojkovic et al., DynamoLLM, HPCA 2025; CC-BY-4.0).
DAYS = {
    "conv": (
        0.86, 0.95, 0.94, 0.78, 0.79, 0.85, 0.99, 1.06, 1.1, 1.07, 0.96, 1.03,
        1.16, 1.28, 1.36, 1.25, 1.14, 1.09, 1.11, 1.04, 0.94, 0.78, 0.72, 0.76,
    ),
    "code": (
        0.7, 0.68, 0.64, 0.52, 0.42, 0.34, 0.3, 0.25, 0.23, 0.24, 0.26, 0.38,
        0.7, 1.19, 1.69, 1.82, 1.72, 1.98, 2.18, 2.23, 2.06, 1.52, 1.1, 0.82,
    ),
}  # fmt: skip
FIXED = (1, 2, 3, 4)
SCALERS = ("hpa", "hpa-queue", "keda", "wva", "wva-tokens", "dynamo", "dynamo?defaults=code")
APART = tuple(f"dynamo-sla?forecast={kind}" for kind in get_args(Kind))
FIRST, MOST, SAMPLE_S = 2, 8, 300.0


class Played(NamedTuple):
    """One policy's days: the numbers of its row, and replicas serving by time of the first seed."""

    numbers: dict[str, float]
    hour: NDArray[np.float64]
    serving: NDArray[np.float64]


def scenario(
    service: str, hours: float, rate_per_s: float, initial: int, apart: bool = False
) -> Scenario:
    """Return the service on three nodes of eight L40S, its roles on replicas apart or not."""
    counts: dict[str, Any] = {"min": 1, "max": MOST, "initial": initial}
    if apart:
        counts = {"roles": [{"kind": kind, **counts} for kind in ("prefill", "decode")]}
    return from_dict(
        {
            "cluster": {"pools": [{"gpu": "L40S", "nodes": 3}]},
            "jobs": {"num_jobs": 1, "max_gpus": 1, "profiles": {"VGG-16": 1.0}},
            "deployments": [
                {
                    "name": "chat",
                    "gpu": "L40S",
                    "model": "Llama-3-8B",
                    **counts,
                    "workload": {
                        "preset": f"azure-{service}",
                        "num_requests": round(hours * 3600 * rate_per_s),
                        "rate_per_s": rate_per_s,
                        "max_tokens": 8192,
                        "modulation": {"hour_profile": list(DAYS[service]), "start_hour": 0.0},
                    },
                }
            ],
            "scaler": {"interval_s": 15.0},
            "slo": {"ttft_s": 2.0, "tpot_s": 0.1},
        },
        "scaling-day",
    )


def play(policy: str, world: Scenario, seeds: int) -> Played:
    """Play the days of all seeds at once."""
    policy = f"compose:routing/least-requests+gang/fifo+{policy}"
    env, player, observation, info = begin(policy, world, range(seeds))
    done = np.zeros(seeds, bool)
    samples: list[tuple[float, float]] = []
    gpu_s, before_s = np.zeros(seeds), np.zeros(seeds)
    while not done.all():
        held = info["serving"] + info["starting"] + info["draining"]
        observation, _, terminated, truncated, info = env.step(player.act(observation))
        now_s = np.asarray(info["time_s"])
        gpu_s += np.where(done, 0.0, held * (now_s - before_s))
        before_s = np.where(done, before_s, now_s)
        done |= terminated | truncated
        if not done[0] and now_s[0] >= len(samples) * SAMPLE_S:
            samples.append((float(now_s[0]) / 3600, float(info["serving"][0])))
    tables = [env.results(i)["requests"] for i in range(seeds)]
    found = [numbers(table, world) for table in tables]
    mean = {key: float(np.mean([f[key] for f in found])) for key in found[0]}
    mean["gpu_hours"] = float(gpu_s.mean()) / 3600
    mean["starts"] = float(np.mean(info["starts"]))
    env.close()
    hour, serving = np.array(samples).T
    return Played(mean, hour, serving)


def numbers(requests: dict[str, NDArray[Any]], world: Scenario) -> dict[str, float]:
    """Return what a service's owner looks at, of the whole day."""
    ttft_s = request_latencies(requests)["ttft"]
    return {
        "slo_percent": 100 * float(attained(requests, world.slo).mean()),
        "ttft_mean_s": float(np.nanmean(ttft_s)),
        "ttft_p99_s": float(np.nanpercentile(ttft_s, 99)),
    }


def plot(found: dict[str, Played], rates_per_s: NDArray[np.float64], path: Path) -> None:
    """Draw replicas serving by the hour, one line per autoscaler, the load behind."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
    load = axis.twinx()
    load.fill_between(np.arange(24), rates_per_s, step="post", color="0.9", zorder=0)
    load.set(ylabel="requests/s", ylim=(0, None))
    axis.set_zorder(load.get_zorder() + 1)
    axis.patch.set_visible(False)
    for name, played in found.items():
        if not name.startswith("fixed"):
            hours = np.arange(int(played.hour.max()) + 1)
            mean = [played.serving[played.hour.astype(int) == hour].mean() for hour in hours]
            axis.plot(hours + 0.5, mean, "o-", markersize=3, label=name)
    axis.set(xlabel="hour of the day", ylabel="replicas serving, mean of the hour", ylim=(0, None))
    axis.legend(fontsize=8, ncols=3, loc="upper left")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print a row per policy."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--service", choices=DAYS, default="code")
    parser.add_argument("--rate", type=float, default=2.0, help="mean requests/s of the day")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--apart", action="store_true", help="prefill and decode replicas apart")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    options = parser.parse_args()
    runs = {f"fixed {n}": ("scaling/fixed", n) for n in FIXED}
    runs |= {name: (f"scaling/{name}", FIRST) for name in (APART if options.apart else SCALERS)}
    found: dict[str, Played] = {}
    for name, (policy, initial) in runs.items():
        world = scenario(options.service, options.hours, options.rate, initial, options.apart)
        found[name] = play(policy, world, options.seeds)
        if len(found) == 1:
            print("| policy | " + " | ".join(found[name].numbers) + " |")
            print("|---|" + "---:|" * len(found[name].numbers))
        cells = " | ".join(f"{value:,.4g}" for value in found[name].numbers.values())
        print(f"| {name} | {cells} |", flush=True)
    if options.plot:
        plot(found, options.rate * np.array(DAYS[options.service]), options.plot)
    print(json.dumps({name: played.numbers for name, played in found.items()}))


if __name__ == "__main__":
    main()
