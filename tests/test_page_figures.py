"""README and the first table of the accuracy page say what benchmarks/accuracy.py last measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "accuracy_errors.json").read_text("utf-8"))
RUNS = ("rtx4090_llama8b", "rtxpro6000_llama8b", "rtxpro6000_qwen30b_dp2")


def of_runs(kind: str) -> float:
    """Return the largest error of the means of the three runs."""
    return max(abs(MEASURED[f"{run}_{kind}_mean_pct"]) for run in RUNS)


def named(*names: str) -> list[float]:
    """Return measured errors, %."""
    return [MEASURED[f"{name}_pct"] for name in names]


DENSE, EXPERTS = (named(f"{kind}_tpot_median", f"{kind}_tpot_p90") for kind in ("dense", "moe"))
PUBLIC = named("public_tpot_dense_median", "public_tpot_experts_median")
GPT3 = named("training_mlperf-gpt3_median", "training_mlperf-gpt3_worst")
SERVED = [of_runs("tpot"), of_runs("e2e"), of_runs("ttft")]


@pytest.mark.parametrize(
    ("page", "row", "errors"),
    [
        ("README.md", "Decode step", DENSE),
        ("README.md", "Public serving points", PUBLIC),
        ("README.md", "Three real vLLM", SERVED),
        ("README.md", "Training iterations", GPT3),
        ("docs/accuracy.md", "Decode step (TPOT) of dense", DENSE),
        ("docs/accuracy.md", "Decode step of mixture-of-experts", EXPERTS),
        ("docs/accuracy.md", "Public serving points: TPOT", PUBLIC),
        ("docs/accuracy.md", "Three vLLM 0.19", SERVED),
        ("docs/accuracy.md", "Step of MLPerf GPT-3", GPT3),
    ],
)
def test_pages_say_the_errors_that_were_measured(page, row, errors):
    text = (ROOT / page).read_text("utf-8")
    (line,) = re.findall(rf"^\| {re.escape(row)}.*$", text, re.MULTILINE)
    said = [float(figure) for figure in re.findall(r"\d+\.\d+", line.partition(" | ")[2])]
    for error in errors:
        assert any(abs(figure - error) < 0.0501 for figure in said), f"{row}: {error} of {said}"
