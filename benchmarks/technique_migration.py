"""Moving running requests between replicas, off against on, beside what Llumnix published.

Sixteen A10 with Llama-2-7B and chats of ShareGPT's lengths, as in the README of Llumnix v0.1 (which
has Qwen2.5-7B there), at two rates: with a few preemptions, and near the capacity of round robin.
Gains are "up to" some factor over rates that its figure shows and its text does not, so a band is a
factor of two either way and never beyond no gain.
"""

from __future__ import annotations

import numpy as np
from calls import Call, remembered
from technique_row import Row, near, unvalidated

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
    "least loaded": "compose:routing/least-requests+migration/none",
    "its dispatch alone": "compose:routing/llumnix+migration/none",
    "llumnix": "system/llumnix",
    "balanced": "compose:routing/llumnix+migration/llumnix?policy=balanced",
}
MODELS = {
    TECHNIQUE: """
`[migration]` of a scenario: a request that decodes moves stage by stage to another replica and
stops for its last blocks only ([migration.md](migration.md), `moving.py`). Rules are Llumnix's, for
dispatch and for moves. `stage_ms` is set after the published pause, of which only that it does not
depend on the length is an outcome.
"""
}
CALLS = tuple(
    Call(__name__, "played", play)
    for play in (
        *((what, HARD_PER_S) for what in NAMES),
        *((what, EASY_PER_S) for what in ("round robin", "least loaded", "llumnix")),
    )
)


@remembered
def played(what: str, rate_per_s: float) -> dict[str, float]:
    """Return the mean metrics of one policy at one rate."""
    replica = {"count": 16, "gpu": "A10", "model": "Llama-2-7B", "engine": "vllm-0.8"}
    chat = {"preset": "chat", "num_requests": 1600, "rate_per_s": rate_per_s, "max_tokens": 4096}
    world = from_dict({"replicas": [replica], "workload": chat, "migration": {"interval_s": 0.1}})
    found = rollout(what, baselines.make(NAMES[what]), world, SEEDS, num_envs=len(SEEDS))
    return {name: float(np.nanmean(values)) for name, values in found.metrics.items()}


def ratio(metric: str, over: str, rate_per_s: float, on: str = "llumnix") -> float:
    """Return a metric with moves over that of another policy."""
    return played(on, rate_per_s)[metric] / played(over, rate_per_s)[metric]


def gain(metric: str, target: str, over: str, rate_per_s: float, factor: float) -> Row:
    """Return a row of a published gain of up to ``factor``."""
    low, high = 0.5 / factor, min(2.0 / factor, 1.0)
    name, simulated = f"{target}, over {over}", ratio(metric, over, rate_per_s)
    note = ""
    if over == "least loaded":
        note = "Llumnix compares with queue lengths; requests in flight, as here, balance better"
    elif simulated > high:
        note = "its loads are not public, and model and engine are others"
    return Row(TECHNIQUE, name, README, low, high, simulated, note, 1.0 / factor)


def pause_s(tokens: int) -> float:
    """Return the mean pause of a request that moves between idle replicas, with such a prompt."""
    replica = {"count": 2, "gpu": "A10", "model": "Llama-2-7B", "engine": "vllm-0.8"}
    one = {"preset": "azure-conv", "num_requests": 1, "max_tokens": 8192}
    lengths = {"prompt": [tokens] * 30, "output": [400] * 30}
    moves = {"interval_s": 4.0}
    world = from_dict({"replicas": [replica], "workload": {**one, **lengths}, "migration": moves})
    mover = baselines.make("compose:routing/round-robin+migration/llumnix?threshold=1000000")
    found = rollout("moves", mover, world, SEEDS[:1], num_envs=1)
    assert found.metrics["migrations"][0] >= 1
    return float(found.metrics["migration_pause_s"][0])


def rows() -> list[Row]:
    """Return one row per published effect, and those of moves alone."""
    tail = near(
        *(TECHNIQUE, "P99 time per token, over round robin", README, 0.88, 0.2),
        *(ratio("tpot_p99_s", "round robin", EASY_PER_S), "", True),
    )
    stalls = Row(
        *(TECHNIQUE, "preemptions, over round robin", README, 0.0, 1.0),
        *(ratio("preemptions", "round robin", EASY_PER_S), "sign: it says how long, not how many"),
    )
    short, long = pause_s(500), pause_s(4000)
    second_hand = "figure at second hand; `stage_ms` is set after it"
    name = "pause of a request of 4,000 tokens, s"
    pause = Row(TECHNIQUE, name, PAPER, 0.02, 0.03, long, second_hand)
    return [
        gain("ttft_mean_s", "mean TTFT", "round robin", HARD_PER_S, 6.4),
        gain("ttft_p99_s", "P99 TTFT", "round robin", EASY_PER_S, 12.1),
        gain("ttft_mean_s", "mean TTFT", "least loaded", HARD_PER_S, 4.6),
        gain("ttft_p99_s", "P99 TTFT", "least loaded", EASY_PER_S, 9.1),
        tail,
        stalls,
        pause,
        Row(TECHNIQUE, "the same over one of 500", PAPER, 0.8, 1.25, long / short, "", 1.0),
        *moves_alone(),
    ]


def moves_alone() -> list[Row]:
    """Return what moves add to the dispatch, of which nothing was published by itself."""
    still, what = "its dispatch alone", "moves over dispatch alone"
    more = "who waits gets in, and fills the cache; with policy=balanced {:.2f}"
    balanced = ratio("preemptions", still, HARD_PER_S, "balanced")
    return [
        unvalidated(
            TECHNIQUE, f"P99 TTFT, {what}", ratio("ttft_p99_s", still, HARD_PER_S), "a gain"
        ),
        unvalidated(
            *(TECHNIQUE, f"preemptions, {what}", ratio("preemptions", still, HARD_PER_S)),
            more.format(balanced),
        ),
    ]


if __name__ == "__main__":
    for row in rows():
        print(f"{row.target}: {row.low:.3g} to {row.high:.3g}, {row.simulated:.4g}, {row.inside}")
