"""Replay the peers' common workload through the Python API: requests per CPU second.

    python benchmarks/replay.py

Work: 10,000 requests with lengths of the Azure 2023 conversation trace, Poisson arrivals at 24/s,
on four replicas (Llama-3-8B on A100-80) with every feature of the engine on: chunked prefill,
paged KV cache, prefix cache, preemption. Each request is one ``env.step`` with the action of the
least-requests policy on the observation. Then 100,000 requests at 96/s on 16 replicas, for the
memory. The yardstick is Gymnasium's numpy CartPole, stepped beside it.

The workload is `W8_10k_r24` of the data folder if that is there, else the same recipe over the
package's own fit of that trace; the printed line says which.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stepping import recorded, yardstick_per_cpu_s

import gpuyard  # noqa: F401
from gpuyard import baselines
from gpuyard.envs.scenario import Scenario, Workload, from_dict
from gpuyard.envs.workload.requests import presets, readers
from gpuyard.envs.workload.requests.stream import RequestStream

PEERS = (
    (
        "NVIDIA AISimulate 0.13",
        "6,100 to 8,000 requests per CPU second, 177 MB; 100,000 requests on 16: 6,000, 410 MB",
        "October 2026, 2-core Xeon VM; GPUYard 115,345 and 193 MB in that hour; it reads operator "
        "tables and routes round robin only",
    ),
    (
        "BLIS (Go)",
        "3,279 requests per CPU second; 100,000 requests on 16: 2,664, 3,050 MB",
        "2026, 2-core Xeon VM; regressed step times, no kernels",
    ),
)
DATA = Path(os.environ.get("GPUYARD_DATA", Path(__file__).parents[2] / "shared" / "data"))


def resample(lengths: RequestStream, count: int, rate_per_s: float) -> RequestStream:
    """Draw lengths with replacement and Poisson arrivals: the recipe of the common workloads."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(lengths), count)
    gaps = rng.exponential(1.0 / rate_per_s, count)
    gaps[0] = 0.0
    return RequestStream(
        arrival_s=np.cumsum(gaps),
        prompt_tokens=lengths.prompt_tokens[rows],
        output_tokens=lengths.output_tokens[rows],
        max_tokens=lengths.max_tokens[rows],
        session=np.full(count, -1, np.int32),
        prefix_offsets=np.zeros(count + 1, np.int64),
        prefix_ids=np.zeros(0, np.int32),
        prefix_block_tokens=0,
        priority=np.zeros(count, np.float32),
    )


def workload() -> tuple[RequestStream, str]:
    """Return the 10,000 requests and where they come from."""
    path = DATA / "perf" / "peer_workloads" / "W8_10k_r24.csv.gz"
    if path.exists():
        return readers.read(path), path.name
    fit = presets.preset("azure-conv", max_tokens=4096).sample(np.random.default_rng(0), 10_000)
    return resample(fit, 10_000, 24.0), "fitted Azure lengths (data folder not found)"


def pool(stream: RequestStream, count: int) -> Scenario:
    """Return ``count`` equal replicas that serve ``stream``."""
    replica = {
        "gpu": "A100-80",
        "model": "Llama-3-8B",
        "count": count,
        "max_num_batched_tokens": 2048,
    }
    table = {"replicas": [replica], "workload": {"preset": "azure-conv", "num_requests": 1}}
    scenario = from_dict(table, name="replay")
    return replace(scenario, workload=Workload(stream, len(stream)))


def replay(scenario: Scenario) -> tuple[float, dict[str, NDArray]]:
    """Play one episode step by step; return its CPU seconds and the table of requests."""
    env = gym.make("gpuyard/Routing-v0", scenario=scenario)
    policy = baselines.make("routing/least-requests")
    policy.reset(scenario, 1)
    env.reset(seed=0)
    began = time.process_time()
    observation, _ = env.reset(seed=0)
    done = False
    while not done:
        batch = {key: value[None] for key, value in observation.items()}
        observation, _, done, _, _ = env.step(policy.act(batch)[0])
    seconds = time.process_time() - began
    return seconds, env.unwrapped.results()["requests"]


def main() -> None:
    """Run the benchmark; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs, the median counts (5)")
    parser.add_argument("--large", type=int, default=100_000, help="requests of the memory run")
    args = parser.parse_args()
    warm_up = "import gymnasium as gym, gpuyard; gym.make('gpuyard/Routing-v0').reset(seed=0)"
    # compile in another process, so that the memory measured is the replay's
    subprocess.run([sys.executable, "-c", warm_up], check=True)
    stream, source = workload()
    scenario = pool(stream, 4)
    runs = [replay(scenario) for _ in range(args.runs)]
    rate = len(stream) / statistics.median(seconds for seconds, _ in runs)
    table = runs[0][1]
    ttft = table["first_token_s"] - table["arrival_s"]
    print(f"workload: {source}, {len(stream):,} requests on 4 replicas, least requests")
    print(f"mean TTFT {ttft.mean() * 1e3:.1f} ms, last finish {table['finish_s'].max():.1f} s")
    yardstick = statistics.median(yardstick_per_cpu_s(1, 8192) for _ in range(args.runs))
    print(
        f"{rate:,.0f} requests per CPU second (median of {args.runs}); yardstick in this run: "
        f"{yardstick:,.0f} steps of one numpy CartPole; ratio {rate / yardstick:.2f}"
    )
    seconds, _ = replay(pool(resample(stream, args.large, 96.0), 16))
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{args.large:,} requests on 16 replicas: {args.large / seconds:,.0f} requests per CPU "
        f"second, peak memory {rss_mb:.0f} MB"
    )
    print(recorded(PEERS))
    print(json.dumps({"requests_per_cpu_s": round(rate), "rss_mb": round(rss_mb)}))


if __name__ == "__main__":
    main()
