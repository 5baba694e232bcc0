"""The deployment search against simulation: its estimate, its order, and what it gains.

    python benchmarks/deployment_search.py                 # all parts, half an hour
    python benchmarks/deployment_search.py estimates       # theta against saturated replicas
    python benchmarks/deployment_search.py example         # aiconfigurator's published example
    python benchmarks/deployment_search.py two-machines helix-7b helix-3b   # unequal clusters

``docs/deployment.md`` has the tables. Seeds are held out; nothing here is fitted.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard import baselines  # noqa: E402
from gpuyard.envs.hardware.catalogue import gpu, model  # noqa: E402
from gpuyard.envs.perf import Deployment  # noqa: E402
from gpuyard.envs.perf.serving.deploy import (  # noqa: E402
    DEGREES,
    Chosen,
    Demand,
    Machine,
    best,
    configuration,
    configurations,
    tokens_per_s,
    uniform,
)
from gpuyard.envs.perf.serving.phases import best_split  # noqa: E402
from gpuyard.envs.scenario import Scenario, from_dict  # noqa: E402
from gpuyard.envs.scenario.machines import read  # noqa: E402
from gpuyard.evaluation.report import FIRST_SEED  # noqa: E402
from gpuyard.evaluation.rollout import rollout  # noqa: E402

TWO_MACHINES = ROOT / "benchmarks" / "two_machines.toml"
HELIX = "4*1xA100-40,6*1xV100-16,8*1xL4,4*2xL4,10*1xT4,6*2xT4,4*4xT4"
"""The 42 nodes of Helix's large cluster (ASPLOS 2025, artifact at commit 148b733)."""
CLUSTERS = {
    "two-machines": ("", {}),
    "helix-7b": (HELIX, {"model": "Llama-2-7B", "dtype": "fp16"}),
    "helix-3b": (HELIX, {"model": "Llama-3.2-3B", "dtype": "fp16"}),
}
"""Machines, and what they serve where it is not two_machines.toml's Llama-3-70B."""
REPLICAS = [
    *(("Llama-3-8B", name, tp) for name in ("H100-SXM", "A100-80", "L40S") for tp in (1, 2, 4)),
    *(("Llama-3-8B", name, 1) for name in ("L4", "RTX-4090", "A100-40")),
    *(("Llama-3-70B", "H100-SXM", tp) for tp in (4, 8)),
    *(("Llama-3-70B", "A100-80", tp) for tp in (2, 4, 8)),
    *(("Llama-3-70B", "L40S", tp) for tp in (4, 8)),
    *(("Qwen3-30B-A3B", "H100-SXM", tp) for tp in (1, 2)),
]
"""Models, GPUs and degrees of the replicas that are saturated."""
ROUTERS = ("random", "round-robin", "weighted-round-robin", "least-requests", "capability-aware")
COMPARED = ("round-robin", "least-requests", "capability-aware")
"""Routers whose goodput is looked for, which takes most of the time."""
ATTAINMENT = 0.9
"""Share of requests within the objectives that goodput asks for, as DistServe (OSDI 2024)."""
AT_ONCE = 1e4  # requests per second of a backlog


def with_load(scenario: Scenario, rate_per_s: float, requests: int) -> Scenario:
    """Return a scenario whose requests come at another rate."""
    assert scenario.workload is not None
    source = replace(scenario.workload.source, rate_per_s=rate_per_s)
    return replace(
        scenario, workload=replace(scenario.workload, source=source, num_requests=requests)
    )


def backlog(scenario: Scenario, router: str, requests: int) -> dict[str, NDArray]:
    """Return the requests of an episode in which all come at once."""
    policy = baselines.make(f"routing/{router}")
    scenario = with_load(scenario, AT_ONCE, requests)
    return rollout(router, policy, scenario, np.array([FIRST_SEED])).first["requests"]


def saturated(scenario: Scenario, requests: int = 4096) -> float:
    """Return output tokens per second of one replica whose queue never empties.

    Of the middle half of the requests by their finish: neither while the batch fills, nor while it
    drains.
    """
    table = backlog(scenario, "round-robin", requests)
    order = np.argsort(table["finish_s"])
    first, last = requests // 4, 3 * requests // 4
    seconds = table["finish_s"][order[last]] - table["finish_s"][order[first]]
    return float(table["output_tokens"][order[first + 1 : last + 1]].sum() / seconds)


def drained(scenario: Scenario, router: str, requests: int = 8192) -> float:
    """Return output tokens over the time in which a cluster works off a backlog."""
    table = backlog(scenario, router, requests)
    return float(table["output_tokens"].sum() / table["finish_s"].max())


def goodput(scenario: Scenario, router: str, most_per_s: float) -> float:
    """Return the highest rate in requests/s at which ATTAINMENT of them keep to the objectives.

    By bisection to 2 % of ``most_per_s``, over some 8,192 requests in episodes of 256 a replica: if
    they are short beside the time that a request stays, rates above the capacity pass.
    """
    policy = baselines.make(f"routing/{router}")
    requests = min(max(256 * len(scenario.replicas), 2048), 8192)
    held_out = FIRST_SEED + np.arange(8192 // requests)
    low, high = 0.0, most_per_s
    while high - low > 0.02 * most_per_s:
        rate = (low + high) / 2
        played = rollout(router, policy, with_load(scenario, rate, requests), held_out)
        if float(played.metrics["slo_attainment"].mean()) >= ATTAINMENT:
            low = rate
        else:
            high = rate
    return low


def print_table(rows: list[list[str]]) -> None:
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows[1:]:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def replica_scenario(name: str, device: str, tp: int, preset: str) -> Scenario:
    """Return one replica that serves a preset's requests of up to 4,096 tokens."""
    row = {"model": name, "gpu": device, "tp": tp}
    workload = {"preset": preset, "rate_per_s": 1.0, "max_tokens": 4096}
    return from_dict({"replicas": [row], "workload": workload})


def estimates() -> None:
    """Print theta against the rate of a saturated replica, for two kinds of requests."""
    rows = [
        ["model", "GPU", "tp", "theta", "simulated", "error", "code: theta", "simulated", "error"]
    ]
    errors: dict[str, list[float]] = {"azure-conv": [], "azure-code": []}
    for name, device, tp in REPLICAS:
        row = [name, device, str(tp)]
        for preset, found in errors.items():
            scenario = replica_scenario(name, device, tp, preset)
            theta, simulated = scenario.replicas[0].capacity, saturated(scenario)
            found.append(theta / simulated - 1)
            row += [f"{theta:,.0f}", f"{simulated:,.0f}", f"{100 * found[-1]:+.1f} %"]
        rows.append(row)
    print_table(rows)
    for preset, found in errors.items():
        size = np.abs(found)
        print(
            f"{preset}: {len(found)} replicas, median error {100 * np.median(size):.1f} %, "
            f"largest {100 * size.max():.1f} %, mean signed {100 * np.mean(found):+.1f} %"
        )
    print(flush=True)


def example() -> None:
    """Print the example of aiconfigurator's README beside its published numbers.

    Qwen3-32B in FP8 on H200 SXM, 4,000 prompt and 500 output tokens, TTFT 300 ms, TPOT 10 ms.
    Source: ai-dynamo/aiconfigurator, README at 0253f8e (run of 2025-10-03).
    """
    deployment = Deployment(
        gpu("H200-SXM"), model("Qwen3-32B"), dtype="fp8", kv_dtype="fp8", engine="trtllm"
    )
    machine = Machine(deployment, 8)
    demand = Demand(4000, 500, ttft_s=0.3, tpot_s=0.01)
    together = configurations(machine, demand)[0][0]
    rows = [["tokens/s per GPU", "published", "here"]]
    layout = f"tp {together.deployment.tp}, batch {together.batch}"
    rows.append(
        [
            "aggregated",
            "478.57 (tp 4, batch 20)",
            f"{together.tokens_per_s / 8:.1f} ({layout})",
        ]
    )
    for count, published in ((1, "812.92 (4 x tp 1 and 1 x tp 4, batch 60)"), (4, "")):
        split = best_split([machine] * count, demand)
        rate = split.requests_per_s * demand.output_tokens / (8 * count)
        pools = [
            f"{pool.instances} x tp {pool.deployment.tp}, batch {pool.batch}"
            for pair in split.pools
            for pool in pair
            if pool
        ]
        rows.append(
            [f"disaggregated, {8 * count} GPUs", published, f"{rate:.1f} ({'; '.join(pools)})"]
        )
    print_table(rows)


def layouts(machines: list[Machine], demand: Demand) -> Iterator[tuple[str, Chosen]]:
    """Yield the search's choice and one degree on all machines that can run it."""
    yield "search", best(machines, demand)
    for tp in DEGREES:
        chosen = uniform(machines, tp, demand)
        if any(chosen):
            yield f"tp {tp}", chosen


def unlimited(machines: list[Machine], chosen: Chosen, demand: Demand) -> float:
    """Return the estimate of a layout whose batches no objective bounds."""
    free = replace(demand, ttft_s=math.inf, tpot_s=math.inf)
    pairs = zip(machines, chosen, strict=True)
    return tokens_per_s([configuration(m, c.deployment.tp, free) if c else None for m, c in pairs])


Served = dict[tuple[str, str], float]
"""Output tokens per second by layout and router."""


def cluster(name: str) -> None:
    """Print what each layout and router serves on a cluster, and the gains."""
    machine_list, settings = CLUSTERS[name]
    fleet = read(TWO_MACHINES, machine_list, **settings)
    print(f"### {name}\n", flush=True)
    demand = fleet.demand(within_slo=True)
    machines = [machine for _, machine in fleet.machines]
    drains: Served = {}
    goodputs: Served = {}
    estimates_of: dict[str, tuple[float, float]] = {}
    for layout, chosen in layouts(machines, demand):
        scenario = from_dict(fleet.redeployed(chosen), folder=fleet.folder)
        within = tokens_per_s(chosen)
        estimates_of[layout] = unlimited(machines, chosen, demand), within
        most = 1.3 * within / demand.output_tokens
        for router in ROUTERS:
            drains[layout, router] = drained(scenario, router)
        for router in COMPARED:
            goodputs[layout, router] = demand.output_tokens * goodput(scenario, router, most)
    for title, served, which in (
        ("Output tokens/s while a backlog of 8,192 requests is worked off", drains, 0),
        ("Goodput, output tokens/s", goodputs, 1),
    ):
        print(f"{title}:\n")
        _print_served(served, {layout: pair[which] for layout, pair in estimates_of.items()})
    print("published: +122.5 % and +33.6 % (arXiv 2504.15303); Helix +14 to 22 % by routing,")
    print("2.0x by placement and routing (70B, single cluster)\n", flush=True)


def _print_served(served: Served, estimated: dict[str, float]) -> None:
    """Print what layouts and routers serve, the order of the layouts, and the gains."""
    routers = list(dict.fromkeys(router for _, router in served))
    rows = [["layout", "estimate", *routers]]
    for name, estimate in estimated.items():
        rows.append([name, f"{estimate:,.0f}", *(f"{served[name, r]:,.0f}" for r in routers)])
    print_table(rows)
    pairs = [(estimated[name], served[name, "capability-aware"]) for name in estimated]
    print(f"{_in_order(pairs)} pairs of layouts in the estimated order (capability-aware)")
    ours = served["search", "capability-aware"]
    for name in estimated:
        gains = [
            f"{router} {100 * (ours / served[name, router] - 1):+.1f} %"
            if served[name, router]
            else ""
            for router in routers
        ]
        print(f"search + capability-aware against {name} with {', '.join(gains)}")
    print(flush=True)


def _in_order(pairs: list[tuple[float, float]]) -> str:
    """Say how many pairs with different estimates are served in the same order."""
    told = [
        (a[0] - b[0]) * (a[1] - b[1]) > 0
        for i, a in enumerate(pairs)
        for b in pairs[:i]
        if not math.isclose(a[0], b[0])
    ]
    return f"{sum(told)} of {len(told)}"


PARTS: dict[str, Callable[[], None]] = {
    "estimates": estimates,
    "example": example,
    **{name: partial(cluster, name) for name in CLUSTERS},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*by analogy.*")
    for part in options.parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
