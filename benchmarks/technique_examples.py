"""Each technique off and on, all else alike, on a shipped scenario: one command for each.

    python benchmarks/technique_examples.py        # all of them, a minute of one core

``EXAMPLES`` is the table; its commands are ``gpuyard whatif`` with the two values of one switch.
What the effect is worth against what others measured stands in the other sections of the page; here
it shows that the switch works in a world that anyone can play.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from calls import Call, remembered  # noqa: E402

from gpuyard.baselines import make  # noqa: E402
from gpuyard.envs.scenario.read import read_table  # noqa: E402
from gpuyard.evaluation.report import FIRST_SEED  # noqa: E402
from gpuyard.evaluation.rollout import rollout  # noqa: E402
from gpuyard.evaluation.sweep.task import World  # noqa: E402
from gpuyard.evaluation.whatif.vary import UNSET, changed  # noqa: E402

SEEDS = 2
REPLICA = "replicas[0]."
NAMES = {
    "ttft_mean_s": "mean TTFT, s",
    "ttft_p99_s": "P99 TTFT, s",
    "tpot_mean_s": "mean TPOT, s",
    "tpot_p99_s": "P99 TPOT, s",
    "e2e_mean_s": "mean end to end, s",
    "makespan_s": "makespan, s",
}
"""Metrics that show an effect, all better if lower, and what the page calls them."""


@dataclass(frozen=True)
class Example:
    """One switch of a shipped scenario.

    Attributes:
        technique: its name.
        scenario: a shipped one.
        path: of the switch.
        off, on: its two values; ``unset`` leaves it out.
        metric: that is better, that is lower, with it on.
        fixed: further fields that both have, by path.
        policy: that plays.
        test: that holds the technique's model, in ``tests/``.
        hurts: the metric is worse with it on: an effect that the technique is known for, too.
    """

    technique: str
    scenario: str
    path: str
    off: Any
    on: Any
    metric: str
    test: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    policy: str = "routing/least-requests"
    hurts: bool = False

    @property
    def command(self) -> str:
        """The command line that plays it."""
        both = f"{self.path}={_text(self.off)},{_text(self.on)}"
        fixed = [f"{path}={_text(value)}" for path, value in self.fixed.items()]
        vary = [word for each in (both, *fixed) for word in ("--vary", each)]
        words = ["gpuyard", "whatif", self.scenario, *vary]
        return shlex.join([*words, "--policies", self.policy, "--seeds", str(SEEDS)])

    def play(self) -> tuple[float, float]:
        """Return the metric without and with the technique, the mean over seeds."""
        table, path = read_table(self.scenario)
        found = []
        for value in (self.off, self.on):
            tables = changed(table, {**self.fixed, self.path: value})
            scenario = World.of(path.stem, tables, path.parent).scenario()
            seeds = np.arange(FIRST_SEED, FIRST_SEED + SEEDS)
            played = rollout(self.policy, make(self.policy), scenario, seeds)
            found.append(float(played.metrics[self.metric].mean()))
        return found[0], found[1]


def _text(value: Any) -> str:
    """Return a value as ``--vary`` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key} = {_quoted(each)}" for key, each in value.items())
        return f"{{{inside}}}"
    return str(value)


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else _text(value)


BURST, LONG, AGENTS = "routing-burst", "routing-long-context", "rollout-agentic"
FEW = {"workload.num_requests": 192}
H100 = {REPLICA + "gpu": "H100-SXM", **FEW}
CALM = {**H100, "workload.rate_per_s": 3.0}
CROWD = {
    **{REPLICA + "gpu": "H100-SXM", "workload.num_requests": 768, "workload.rate_per_s": 400.0},
    **{REPLICA + "max_num_seqs": 256, REPLICA + "max_num_batched_tokens": 8192},
    **{REPLICA + "engine": "vllm-0.12", REPLICA + "speculation.kind": "ngram"},
    REPLICA + "speculation.acceptance": 0.27,
}
PADDED = {
    **{REPLICA + "chunked_prefill": False, REPLICA + "kv_reservation": "contiguous"},
    **{REPLICA + "prefix_caching": False, REPLICA + "max_num_batched_tokens": 16_384, **FEW},
}
UNMOVED = {"migration.interval_s": 0.0, REPLICA + "prefix_caching": False, **FEW}
EXPERTS = {REPLICA + "model": "Qwen3-30B-A3B", **H100, "workload.rate_per_s": 120.0}
IMAGES = {
    **{REPLICA + "model": "Molmo-7B-D", **H100, "workload.preset": "azure-conv"},
    **{"workload.images.model": "Molmo-7B-D", "workload.images.distinct": 64},
}
TTFT, LATE, GAP, LAST_GAP, WHOLE, STEP = NAMES


def _of_replica(technique: str, scenario: str, name: str, *rest: Any, **more: Any) -> Example:
    """Return an example of a field of all replicas."""
    return Example(technique, scenario, REPLICA + name, *rest, **more)


_R = _of_replica
_HOLD = {"policy": "routing/sticky-least-loaded"}
EXAMPLES = (
    _R("continuous batching", BURST, "batching", "static", "continuous", WHOLE,
       "test_scheduling_exact.py", PADDED),
    _R("prompts in chunks", LONG, "max_num_batched_tokens", 65_536, 2048, LAST_GAP,
       "test_reference_serving.py", FEW),
    _R("decodes before prompts", LONG, "prefill_first", True, False, LAST_GAP,
       "test_scheduling_exact.py", FEW),
    _R("long-prefill threshold", LONG, "long_prefill_token_threshold", 0, 1024, LAST_GAP,
       "test_scheduling_exact.py", FEW),
    _R("response ratio (HRRN)", LONG, "scheduling_policy", "fcfs", "hrrn", TTFT,
       "test_scheduling_exact.py", {**FEW, "workload.rate_per_s": 8.0}),
    _R("paged KV blocks", "routing-migration", "kv_reservation", "contiguous", "paged", WHOLE,
       "test_scheduling_exact.py", UNMOVED),
    _R("prefix caching", AGENTS, "prefix_caching", False, True, STEP, "test_engine_exact.py",
       **_HOLD),
    Example("shared KV store", LONG, "kv_store.capacity_gb", 0, 2000, TTFT,
            "test_kv_tiers_exact.py", {"workload.num_requests": 256, "kv_store.gbps": 400},
            "routing/round-robin"),
    _R("host memory for KV", AGENTS, "host_kv_gb", 0, 200, STEP, "test_session_tiers_exact.py",
       {"workload.sessions": 96}, **_HOLD),
    _R("KV cache in fp8", AGENTS, "kv_dtype", "bf16", "fp8", STEP,
       "test_techniques_quantisation.py"),
    _R("FlashAttention", LONG, "attention", "naive", "flash", TTFT, "test_techniques_kernels.py",
       {**FEW, "workload.rate_per_s": 1.0}),
    _R("CUDA graphs", BURST, "cuda_graphs", 0, UNSET, GAP, "test_techniques_kernels.py", CALM),
    _R("scheduling ahead", BURST, "scheduling", "sync", "async", GAP,
       "test_techniques_kernels.py", CALM),
    _R("weights in fp8", BURST, "dtype", "bf16", "fp8", GAP, "test_techniques_quantisation.py",
       CALM),
    _R("weights in int4", BURST, "dtype", "bf16", "int4", GAP, "test_techniques_quantisation.py",
       CALM),
    _R("drafts at low load", BURST, "speculation", UNSET, {"kind": "eagle"}, GAP,
       "test_speculation_engine.py", CALM),
    _R("no drafts in a crowd", BURST, "speculation.most_sequences", 0, 32, GAP,
       "test_speculation_engine.py", CROWD),
    _R("tensor parallelism", BURST, "tp", 1, 2, GAP, "test_perf_iteration.py", CALM),
    _R("pipeline stages", BURST, "pp", 1, 2, WHOLE, "test_techniques_parallel.py",
       {**H100, "workload.rate_per_s": 120.0}),
    _R("experts apart", BURST, "ep", 1, 4, GAP, "test_techniques_parallel.py",
       {**EXPERTS, REPLICA + "tp": 4}),
    _R("encoder cache", BURST, "encoder_cache_tokens", 1024, 65_536, TTFT,
       "test_images_exact.py", {**IMAGES, "workload.rate_per_s": 12.0}),
    Example("LoRA adapters", BURST, "lora.adapters", 0, 200, TTFT, "test_adapters.py", FEW,
            hurts=True),
    Example("deadlines", BURST, "router.deadline_s", 0.0, 0.5, LATE, "test_refusal.py",
            {**FEW, "workload.rate_per_s": 120.0}),
)  # fmt: skip
"""What has a switch that a shipped scenario can be given from the command line. Fairness between
clients, FastVLM, migration and rollouts need more than one field: their pages have them."""


@remembered
def played(number: int) -> tuple[float, float]:
    """Return what :meth:`Example.play` finds of one of :data:`EXAMPLES`."""
    return EXAMPLES[number].play()


CALLS = tuple(Call(__name__, "played", (number,)) for number in range(len(EXAMPLES)))


def page() -> tuple[str, list[str]]:
    """Return a section of the page, a table of examples and their commands, and which failed."""
    lines = [
        "| technique | switch | off | on | world | shows in | off | on | test |",
        "|---|---|---|---|---|---|---:|---:|---|",
    ]
    commands, failed = [], []
    for number, each in enumerate(EXAMPLES):
        try:
            off, on = played(number)
        except Exception as error:  # whatever it is, the other examples are not lost
            failed.append(f"{each.technique} in {each.scenario}: {type(error).__name__}: {error}")
            continue
        values = [f"`{_text(value)}`" for value in (each.off, each.on)]
        cells = [each.technique, f"`{each.path}`", *values, f"`{each.scenario}`"]
        cells += [NAMES[each.metric], f"{off:.4g}", f"{on:.4g}", f"`{each.test}`"]
        lines.append(f"| {' | '.join(cells)} |")
        commands.append(each.command)
    return "\n".join([*lines, "", "```bash", *commands, "```"]), failed


if __name__ == "__main__":
    print(*page())
