"""Encode replicas beside inline encoders: how long first tokens take, and how evenly others come.

    python benchmarks/encode_replicas.py          print the table of docs/engine.md, Encode replicas

Plays `routing-encoders` with its GPUs shared out in several ways, under one router.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard import baselines  # noqa: E402
from gpuyard.envs.scenario import Scenario, from_dict  # noqa: E402
from gpuyard.evaluation.rollout import rollout  # noqa: E402

FILE = ROOT / "envs" / "scenarios" / "routing-encoders.toml"
WAYS = ((8, 0), (7, 1), (6, 2), (5, 3), (4, 4))
ROUTER = "routing/least-requests"
SEEDS = 5
SHORTEST = 8
"""Output tokens from which on a request counts for the time between tokens."""


def scenario(replicas: int, encoders: int) -> Scenario:
    """Return the scenario with its GPUs shared out; without encode replicas all encode inline."""
    table = tomllib.loads(FILE.read_text())
    table["replicas"][0]["count"], table["encoders"]["count"] = replicas, encoders
    if encoders == 0:
        del table["encoders"]
    return from_dict(table)


def played(built: Scenario, seeds: int = SEEDS) -> dict[str, float]:
    """Return milliseconds: TTFT of images and of texts, mean and P99, and TPOT, median and P99."""
    router = baselines.make(ROUTER)
    episodes = (rollout(ROUTER, router, built, np.array([seed])) for seed in range(seeds))
    found = [times_ms(episode.first["requests"]) for episode in episodes]
    return {name: float(np.mean([row[name] for row in found])) for name in found[0]}


def times_ms(table: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the times of one episode."""
    ttft_ms = 1e3 * (table["first_token_s"] - table["arrival_s"])
    image, long = table["image"] >= 0, table["output_tokens"] >= SHORTEST
    decode_s = (table["finish_s"] - table["first_token_s"])[long]
    tpot_ms = 1e3 * decode_s / (table["output_tokens"][long] - 1)
    return {
        "image TTFT": ttft_ms[image].mean(),
        "P99": np.quantile(ttft_ms[image], 0.99),
        "text TTFT": ttft_ms[~image].mean(),
        "P99 ": np.quantile(ttft_ms[~image], 0.99),
        "median TPOT": np.median(tpot_ms),
        "P99  ": np.quantile(tpot_ms, 0.99),
    }


def main() -> None:
    """Print the table."""
    for number, (replicas, encoders) in enumerate(WAYS):
        row = played(scenario(replicas, encoders))
        if number == 0:
            print("| Replicas + encode replicas | " + " | ".join(map(str.strip, row)) + " |")
            print("|---" + "|---:" * len(row) + "|")
        cells = [f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in row.values()]
        print(f"| {replicas} + {encoders} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
