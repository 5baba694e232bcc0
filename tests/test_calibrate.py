"""A replica's own constants: what they change, and that the fit finds them again."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment, tabulate
from gpuyard.envs.perf.serving.calibrate import fit
from gpuyard.envs.perf.serving.calibration import Calibration
from gpuyard.envs.perf.serving.closed_loop import (
    Measurement,
    observed,
    predicted,
    times_s,
    ttft_flags,
)
from gpuyard.envs.perf.serving.cost_table import COST, CostTable
from gpuyard.envs.perf.serving.iteration import step_s
from gpuyard.envs.scenario import ScenarioError, from_dict
from gpuyard.envs.scenario.provenance import provenance

SYNC = Deployment(gpu("H100-SXM"), model("Llama-3.1-8B"), engine="vllm-0.12")
AHEAD = Deployment(gpu("H100-SXM"), model("Llama-3.1-8B"))
SLOWER = Deployment(gpu("L40S"), model("Llama-3.1-8B"), engine="vllm-0.12")
POINTS = [(n, p) for n in (1, 4, 16, 64) for p in (128, 1024, 4096)]
TRUE = Calibration(prefill=1.07, decode=0.95, step_ms=0.4)
WORLD = {"workload": {"preset": "chat", "num_requests": 8}}


def rows(deployment: Deployment, points=POINTS, noise=0.0, seed=0) -> list[Measurement]:
    """Return what clients would measure at a replica."""
    asked = [Measurement(n, p, 64, 1.0, 1.0) for n, p in points]
    times = predicted(deployment, asked)
    times *= 1 + noise * np.random.default_rng(seed).standard_normal(len(times))
    kind = ttft_flags(asked) > 0
    ttft = iter(times[kind])
    return [
        replace(row, ttft_s=next(ttft) if row.concurrency == 1 else np.nan, itl_s=itl_s)
        for row, itl_s in zip(asked, times[~kind], strict=True)
    ]


def test_times_of_a_closed_loop_by_hand() -> None:
    cost = np.zeros(1, COST)[0]
    cost["dec_token_s"], cost["pre_query_s"] = 1e-7, 1e-6
    table = CostTable(cost, 1e-3 + 1e-5 * np.arange(101), np.zeros(101))
    replica = SimpleNamespace(frontend_ms=5.0, max_num_batched_tokens=100)
    asked = [Measurement(1, 150, 20, 1.0, 1.0), Measurement(3, 60, 20, 1.0, 1.0)]
    # alone: chunks of 100 and 50, each 1 ms + 11 us a token; then 160 cached tokens in the mean
    ttft_s = 5e-3 + 2 * 1e-3 + 150 * 1.1e-5
    itl_1 = 1e-3 + 1e-5 + 160e-7
    # three: one chunk of 60 beside two of 70 tokens adds 60 * 11 us, for 2 of 20 tokens
    itl_3 = 1e-3 + 3e-5 + 210e-7 + 2 / 20 * 60 * 1.1e-5
    found = times_s(table, replica, asked)  # type: ignore[arg-type]
    assert found == pytest.approx([ttft_s, itl_1, itl_3], rel=1e-9)


def played_itl_s(d: Deployment, clients: int, prompt: int, output: int, spread: int) -> float:
    """Return the mean ITL of a closed loop, played step by step; the first answers left out."""
    draw = np.random.default_rng(0)
    table, now_s, found = tabulate(d), 0.0, []

    def asked(turn: int) -> SimpleNamespace:
        longest = output + int(draw.integers(-spread, spread + 1))
        return SimpleNamespace(prompt=0, output=0, first_s=0.0, longest=longest, turn=turn)

    jobs = [asked(0) for _ in range(clients)]
    while len(found) < 8 * clients:
        decoding = [job for job in jobs if job.output]
        budget, chunks, ends = d.max_num_batched_tokens - len(decoding), [], []
        for job in jobs:
            if not job.output and budget:
                new = min(budget, prompt - job.prompt)
                chunks.append((new, job.prompt))
                budget, job.prompt = budget - new, job.prompt + new
                ends += [job] if job.prompt == prompt else []
        context = sum(prompt + job.output for job in decoding)
        now_s += step_s(table, len(decoding), context, chunks, len(decoding) + len(ends))
        for job in decoding + ends:
            job.output += 1
            job.first_s = job.first_s or now_s
            if job.output == job.longest:
                found += [(now_s - job.first_s) / (job.longest - 1)] if job.turn else []
                jobs[jobs.index(job)] = asked(job.turn + 1)
    return float(np.mean(found))


@pytest.mark.parametrize("replica", [SYNC, AHEAD, SLOWER])
def test_the_closed_form_is_what_a_loop_played_step_by_step_gives(replica: Deployment) -> None:
    for clients, prompt in [(1, 128), (4, 1024), (16, 128), (16, 4096), (64, 1024)]:
        (itl_s,) = predicted(replica, [Measurement(clients, prompt, 64, itl_s=1.0)])
        assert itl_s == pytest.approx(played_itl_s(replica, clients, prompt, 64, 16), rel=0.045)


@pytest.mark.parametrize("replica", [SYNC, AHEAD])
def test_equal_answers_come_in_waves_without_prompts_between(replica: Deployment) -> None:
    (itl_s,) = predicted(replica, [Measurement(64, 128, 64, itl_s=1.0)])
    assert 1.1 < itl_s / played_itl_s(replica, 64, 128, 64, 0) < 1.3


@pytest.mark.parametrize("replica", [SYNC, AHEAD])
def test_each_constant_changes_its_part_of_a_step(replica: Deployment) -> None:
    def step(own: Calibration | None, *batch) -> float:
        return step_s(tabulate(replace(replica, calibration=own)), *batch)

    prompt, decodes = (0, 0, [(2048, 0)]), (64, 64 * 2048)
    for batch in (prompt, decodes, (1, 100)):
        later = step(Calibration(step_ms=1.5), *batch)
        assert later == pytest.approx(step(None, *batch) + 1.5e-3, rel=1e-9)
        assert step(Calibration(), *batch) == pytest.approx(step(None, *batch), rel=1e-12)
    table = tabulate(replica)
    fixed_s = table.linear_s[1] + table.head_s[1]
    twice = step(Calibration(prefill=2.0), *prompt)
    assert twice == pytest.approx(2 * step(None, *prompt) - fixed_s, rel=1e-9)
    tokens_s = table.linear_s[64] - table.linear_s[1]
    twice = step(Calibration(decode=2.0), *decodes)
    assert twice == pytest.approx(2 * step(None, *decodes) - fixed_s - tokens_s, rel=1e-9)


@pytest.mark.parametrize("replica", [SYNC, AHEAD])
def test_the_fit_finds_the_constants_of_the_model(replica: Deployment) -> None:
    known = replace(replica, frontend_ms=12.0, calibration=TRUE)
    found = fit(replica, rows(known))
    own = found.deployment.calibration
    assert own is not None
    assert not found.kept
    values = (own.prefill, own.decode, own.step_ms, found.deployment.frontend_ms)
    assert values == pytest.approx((1.07, 0.95, 0.4, 12.0), rel=1e-6)
    assert np.abs(found.after).max() < 1e-8 < np.abs(found.before).max()


def test_under_noise_the_constants_lie_within_their_standard_errors() -> None:
    known = replace(SYNC, frontend_ms=12.0, calibration=TRUE)
    away: dict[str, list[float]] = {}
    for seed in range(40):
        found = fit(SYNC, rows(known, noise=0.02, seed=seed))
        for name, error in found.errors.items():
            whose = (found.deployment, known) if name == "frontend_ms" else None
            one, other = whose or (found.deployment.calibration, TRUE)
            away.setdefault(name, []).append((getattr(one, name) - getattr(other, name)) / error)
    assert len(away) == 4
    for name, errors in away.items():
        # root mean square 1, but for the t distribution of 11 degrees and 40 draws
        assert 0.7 < np.sqrt(np.mean(np.square(errors))) < 1.5, name


def test_what_the_measurements_do_not_tell_stays() -> None:
    known = replace(SYNC, frontend_ms=12.0, calibration=TRUE)
    one_length = fit(SYNC, rows(known, [(1, 1024)]))
    assert set(one_length.errors) == {"prefill", "step_ms"}
    assert set(one_length.kept) == {"frontend_ms", "decode"}
    assert all("do not tell it" in why for why in one_length.kept.values())
    assert all(np.isnan(error) for error in one_length.errors.values())
    only_itl = [replace(row, ttft_s=np.nan) for row in rows(known)]
    assert fit(SYNC, only_itl).kept == {"frontend_ms": "no measured time depends on it"}
    with pytest.raises(ValueError, match="nothing to fit: give ITL"):
        fit(SYNC, [Measurement(4, 100, 10, ttft_s=0.1)])


def test_a_constant_that_cannot_be_stays() -> None:
    fast = [replace(row, itl_s=0.01 / row.concurrency) for row in rows(SYNC)]
    found = fit(SYNC, fast)
    assert any("which cannot be" in why for why in found.kept.values())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Measurement(257, 100, 10, itl_s=0.1), "concurrency = 257: the replica runs 1 to"),
        (Measurement(64, 100_000, 10, itl_s=0.1), "concurrency = 64: the KV cache .* holds"),
    ],
)
def test_a_loop_that_the_replica_cannot_run_is_refused(row: Measurement, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit(replace(SYNC, max_num_seqs=256), [row])


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"prefill": 0.0}, "replicas.0..calibration.prefill = 0.0 must be a finite number above 0"),
        ({"decode": 101.0}, "calibration.decode = 101.0: give a factor above 0 and up to 100"),
        ({"step_ms": 2000.0}, "calibration.step_ms = 2000.0: give -1000 to 1000"),
        ({"step_ms": -900.0}, "replicas.0.: calibration.step_ms = -900: give more than -"),
        ({"speed": 2.0}, "replicas.0..calibration.speed is unknown; use one of"),
        (1.1, "replicas.0..calibration = 1.1 must be a table"),
    ],
)
def test_wrong_calibrations_are_refused(own: object, words: str) -> None:
    replica = {"gpu": "H100-SXM", "model": "Llama-3.1-8B", "calibration": own}
    with pytest.raises(ScenarioError, match=words):
        from_dict({"replicas": [replica], **WORLD})


def test_calibration_beside_speculation_is_refused() -> None:
    replica = {"gpu": "H100-SXM", "model": "Llama-3.1-8B", "calibration": {"decode": 0.9}}
    drafts = {"speculation": {"kind": "ngram"}}
    with pytest.raises(ScenarioError, match=r"calibration = .*: beside speculation it is not"):
        from_dict({"replicas": [replica | drafts], **WORLD})


def test_provenance_names_the_measurements() -> None:
    own = {"prefill": 1.07, "source": "mine.csv"}
    replica = {"gpu": "H100-SXM", "model": "Llama-3.1-8B", "calibration": own}
    facts = provenance(from_dict({"replicas": [replica], **WORLD}))
    (fact,) = [fact for fact in facts if fact.what == "calibration"]
    assert fact.source.startswith("calibrated on mine.csv: prefill 1.07, decode 1, step_ms 0")


def test_a_fit_on_half_of_a_public_sweep_predicts_the_other_half(data_dir: Path) -> None:
    with gzip.open(data_dir / "perf/inference/e2e_ttft_tpot.csv.gz", "rt") as file:
        runs = [
            Measurement(
                *(int(run[name]) for name in ("concurrency", "isl", "osl")),
                itl_s=float(run["silicon_tpot_ms"]) / 1e3,
            )
            for run in csv.DictReader(file)
            if (run["backend"], run["backend_version"], run["tp_size"]) == ("trtllm", "", "4")
            and (run["model_path"], run["system"]) == ("meta-llama/Llama-3.1-70B", "h200_sxm")
        ]
    runs.sort(key=lambda run: (run.prompt_tokens, run.output_tokens, run.concurrency))
    engine = {"engine": "trtllm", "max_num_seqs": 512, "max_num_batched_tokens": 8192}
    replica = Deployment(gpu("H200-SXM"), model("Llama-3.1-70B"), tp=4, dtype="fp8", **engine)
    learnt, held_out = runs[::2], runs[1::2]
    measured_s = np.array(list(observed(held_out)))
    before = np.median(np.abs(predicted(replica, held_out) / measured_s - 1))
    own = fit(replica, learnt).deployment
    after = np.median(np.abs(predicted(own, held_out) / measured_s - 1))
    assert before == pytest.approx(0.116, abs=0.01)
    assert after < 0.02
