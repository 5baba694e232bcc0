"""The engine end to end against vLLM: whole server runs, and steps against operator tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from accuracy_serving import RUNS, Run, compare
from accuracy_steps import steps

LIMITS = {"ttft_ms": 15.0, "tpot_ms": 3.0, "e2e_ms": 5.0}  # error of the mean, %


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_means_of_a_vllm_run(data_dir: Path, run: Run) -> None:
    table = compare(data_dir, run)
    means = table[table.statistic == "mean"].set_index("metric").error_pct
    for metric, limit in LIMITS.items():
        assert abs(means[metric]) <= limit, f"{metric} off by {means[metric]:.1f} %"


def test_tails_of_decode_and_latency(data_dir: Path) -> None:
    for run in RUNS:
        table = compare(data_dir, run)
        tail = table[table.metric.isin(["tpot_ms", "e2e_ms"]) & (table.statistic != "mean")]
        assert (tail.error_pct.abs() <= 4.0).all(), tail.to_string()


def test_steps_against_summed_operator_tables(data_dir: Path) -> None:
    table = steps(data_dir)
    assert len(table) == 18
    assert (table["median"] <= 4.0).all(), table.to_string()
    assert (table["p90"] <= 11.0).all(), table.to_string()
    assert (table["bias"].abs() <= 4.0).all(), table.to_string()
