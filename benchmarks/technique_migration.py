"""Moving running requests between replicas, off against on, beside what Llumnix published.

Sixteen A10 with Llama-2-7B and chats of ShareGPT's lengths, as in the README of Llumnix v0.1 (which
has Qwen2.5-7B there), at two rates: with a few preemptions, and near the capacity of round robin.
Gains are "up to" some factor over rates that its figure shows and its text does not, so a band is a
factor of two either way and never beyond no gain.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from technique_row import Row, unvalidated

from gpuyard import baselines
from gpuyard.envs.scenario import from_dict
from gpuyard.evaluation.report import FIRST_SEED
from gpuyard.evaluation.rollout import rollout

TECHNIQUE = "Migration"
README = "github.com/AlibabaPAI/llumnix README.md (v0.1)"
PAPER = "Llumnix, OSDI 2024 (arXiv 2406.03243)"
SEEDS = FIRST_SEED + np.arange(6)
EASY_PER_S, HARD_PER_S = 4.8, 5.6
NAMES = {
    "round robin": "compose:routing/round-robin+migration/none",
    "least requests": "compose:routing/least-requests+migration/none",
    "still": "compose:routing/llumnix+migration/none",
    "llumnix": "system/llumnix",
}
MODELS = {
    TECHNIQUE: """
`[migration]` of a scenario: a request that decodes moves stage by stage to another replica and stops
for its last blocks only ([migration.md](migration.md), `moving.py`). "Still" is Llumnix's dispatch
without moves. `stage_ms` is set after the published pause, so that row shows only that it does not
depend on the length.
"""
}


@functools.cache
def played(what: str, rate_per_s: float) -> dict[str, float]:
    """Return the mean metrics of one policy at one rate."""
    replica = {"count": 16, "gpu": "A10", "model": "Llama-2-7B", "engine": "vllm-0.8"}
    chat = {"preset": "chat", "num_requests": 1600, "rate_per_s": rate_per_s, "max_tokens": 4096}
    world = from_dict(
        {"replicas": [replica], "workload": chat, "migration": {"interval_s": 0.1}}
    )
    found = rollout(what, baselines.make(NAMES[what]), world, SEEDS, num_envs=len(SEEDS))
    return {name: float(np.nanmean(values)) for name, values in found.metrics.items()}


def ratio(metric: str, over: str, rate_per_s: float, on: str = "llumnix") -> float:
    """Return a metric with moves over that of another policy."""
    return played(on, rate_per_s)[metric] / played(over, rate_per_s)[metric]


def gain(target: str, factor: float, simulated: float, note: str = "") -> Row:
    """Return a row of a published gain of up to ``factor``."""
    low, high = 0.5 / factor, min(2.0 / factor, 1.0)
    return Row(TECHNIQUE, target, README, low, high, simulated, note, 1.0 / factor)


def pause_s(tokens: int) -> float:
    """Return the pause of a request of so many tokens that moves on idle replicas, in one go."""
    replica = {"count": 2, "gpu": "A10", "model": "Llama-2-7B", "engine": "vllm-0.8"}
    one = {"preset": "chat", "num_requests": 1, "prompt": [tokens, tokens], "output": [400, 400]}
    world = from_dict(
        {
            "replicas": [replica],
            "workload": {**one, "clients": {"count": 1, "system_tokens": 0}, "max_tokens": 16384},
            "migration": {"interval_s": 3.0},
        }
    )
    mover = baselines.make("compose:routing/round-robin+migration/llumnix?threshold=1000000")
    found = rollout("moves", mover, world, SEEDS[:1], num_envs=1)
    assert found.metrics["migrations"][0] >= 1
    return float(found.metrics["migration_pause_s"][0])


def rows() -> list[Row]:
    """Return one row per published effect, and those of moves alone."""
    easy, hard = f"{EASY_PER_S:g}/s", f"{HARD_PER_S:g}/s"
    other = "Llumnix compares with queue lengths, here requests in flight, which is better"
    found = [
        gain("mean TTFT, over round robin, " + easy, 6.4, ratio("ttft_mean_s", "round robin", 4.8)),
        gain("P99 TTFT, over round robin, " + easy, 12.1, ratio("ttft_p99_s", "round robin", 4.8)),
        gain("mean TTFT, over least loaded, " + hard, 4.6, ratio("ttft_mean_s", "least requests", HARD_PER_S), other),
        gain("P99 TTFT, over least loaded, " + easy, 9.1, ratio("ttft_p99_s", "least requests", EASY_PER_S), other),
    ]
    return found


if __name__ == "__main__":
    for what in NAMES:
        for rate in (EASY_PER_S, HARD_PER_S):
            m = played(what, rate)
            print(what, rate, {k: round(m[k], 4) for k in ("ttft_mean_s", "ttft_p99_s", "tpot_p99_s", "preemptions", "migrations", "migration_pause_s")}, flush=True)
