"""Autoscaling rules against the worked numbers of their sources."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from gpuyard.baselines import scaling
from gpuyard.baselines.scaling import (
    DECODE,
    HPA,
    MIXED,
    PREFILL,
    Behavior,
    DynamoLoad,
    DynamoSLA,
    DynamoThresholds,
    Fixed,
    KedaTokenAware,
    Policy,
    Profile,
    RoleSignals,
    ScalingRule,
    Signals,
    WVASaturation,
    WVATokens,
)
from gpuyard.baselines.scaling.predictors import Kalman


def role(ready: int = 1, starting: int = 0, **means: float | tuple[float, ...]) -> RoleSignals:
    """Return a role whose replicas all have the same values, 0 where none is given."""
    names = ("waiting", "running", "queued_tokens", "kv_usage", "utilization")
    values = {name: means.get(name, 0.0) for name in names}
    each = {
        name: value if isinstance(value, tuple) else (value,) * ready
        for name, value in values.items()
    }
    return RoleSignals(starting, **each)


def look(now_s: float = 0.0, interval_s: float = 60.0, traffic=None, **roles: RoleSignals):
    """Return signals of the roles."""
    return Signals(now_s, interval_s, roles, **(traffic or {}))


def wanted(rule: ScalingRule, *looks: Signals) -> list[dict[str, int]]:
    """Return what a rule asks for in turn."""
    return [rule.desired(one) for one in looks]


# --- Fixed


def test_fixed_keeps_what_was_given_or_there_first() -> None:
    rule = Fixed({PREFILL: 2})
    first = look(prefill=role(5), decode=role(3))
    later = look(60, prefill=role(2), decode=role(4))
    assert wanted(rule, first, later) == [{PREFILL: 2, DECODE: 3}] * 2
    rule.restart()
    assert rule.desired(later) == {PREFILL: 2, DECODE: 4}


# --- Kubernetes HPA: kubernetes.io, Horizontal Pod Autoscaling


@pytest.mark.parametrize(
    ("value", "begin", "end"),
    [(0.2, 1, 2), (0.2, 4, 8), (0.05, 4, 2), (0.109, 4, 4), (0.091, 4, 4), (0.111, 4, 5)],
    ids=["200m of 100m doubles", "doubles", "50m halves", "within 10 %", "below", "beyond 10 %"],
)
def test_hpa_documented_ratios(value: float, begin: int, end: int) -> None:
    rule = HPA(0.1, behavior=Behavior(down_window_s=0))
    assert rule.desired(look(serve=role(begin, utilization=value))) == {MIXED: end}


def test_hpa_example_of_the_tolerance_blog() -> None:
    # kubernetes.io blog 2025-04-28: 50 replicas at 90 % with a target of 75 % become 60
    assert HPA(0.75).desired(look(serve=role(50, utilization=0.9))) == {MIXED: 60}


def test_hpa_on_queue_length() -> None:
    # kubernetes.io pull 135: 4 pods at 15 with a target of 10 become 6
    assert HPA(10, "waiting").desired(look(serve=role(4, waiting=15.0))) == {MIXED: 6}


def test_hpa_counts_starting_replicas_as_idle_when_it_scales_up() -> None:
    rule = HPA(0.5)
    assert rule.desired(look(serve=role(2, 1, utilization=0.9))) == {MIXED: 4}  # 1.2 x 3
    rule.restart()
    assert rule.desired(look(serve=role(2, 2, utilization=0.9))) == {MIXED: 4}  # 0.9: turned round


def test_hpa_documented_policies() -> None:
    # 4 pods or 10 % in a minute: 80 -> 72 -> 64 ..., below 40 by 4 at a time, to 10
    policies = (Policy("pods", 4, 60), Policy("percent", 10, 60))
    rule = HPA(1.0, behavior=Behavior(down_window_s=0, down=policies), least=10, period_s=0)
    seen = [80]
    for minute in range(14):
        signals = look(60.0 * minute, serve=role(seen[-1], utilization=0.01))
        seen.append(rule.desired(signals)[MIXED])
    assert seen == [80, 72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20, 16, 12, 10]


def test_hpa_policies_hold_over_their_whole_period() -> None:
    rule = HPA(1.0, behavior=Behavior(up=(Policy("pods", 2, 60),)), period_s=0)
    looks = [(0, 4), (30, 6), (60, 6), (90, 8)]
    found = [rule.desired(look(at, serve=role(n, utilization=9.0)))[MIXED] for at, n in looks]
    assert found == [6, 6, 8, 8]


def test_hpa_default_goes_up_by_four_or_double_and_down_after_five_minutes() -> None:
    rule = HPA(0.5)
    assert rule.desired(look(0, serve=role(1, utilization=50.0))) == {MIXED: 5}
    assert rule.desired(look(15, serve=role(5, utilization=50.0))) == {MIXED: 10}
    rule = HPA(0.5)
    busy, idle = role(4, utilization=0.5), role(4, utilization=0.1)
    looks = [look(0, serve=busy), *(look(at, serve=idle) for at in (15, 285, 300))]
    assert [found[MIXED] for found in wanted(rule, *looks)] == [4, 4, 4, 1]


def test_hpa_select_policy() -> None:
    both = (Policy("percent", 10, 60), Policy("pods", 5, 60))
    least = Behavior(down_window_s=0, down=both, down_select="min")
    rule = HPA(1.0, behavior=least)
    assert rule.desired(look(serve=role(80, utilization=0.01))) == {MIXED: 75}
    rule = HPA(1.0, behavior=Behavior(down_window_s=0, down_select="disabled"))
    assert rule.desired(look(serve=role(80, utilization=0.01))) == {MIXED: 80}


# --- KEDA token-aware: the guide's tables


@pytest.mark.parametrize(("rate", "replicas"), [(0.15, 1), (0.30, 1), (0.50, 2)], ids=str)
def test_keda_seconds_of_backlog(rate: float, replicas: int) -> None:
    # V_P 2696 and prompts of 8192; the guide takes a second's arrivals as the backlog. Its last
    # row, 4 at 1.40, is one where "real backlog builds": the formula alone gives 3.
    backlog = look(serve=role(1, queued_tokens=rate * 8192))
    assert KedaTokenAware(2696, most=4, tolerance=0).desired(backlog) == {MIXED: replicas}
    # 0.50 is within HPA's tolerance, which the table leaves out
    assert KedaTokenAware(2696, most=4).desired(backlog) == {MIXED: 1}


def test_keda_takes_the_larger_trigger_or_that_of_the_role() -> None:
    full = role(3, kv_usage=0.9, queued_tokens=1000.0)
    rule = KedaTokenAware(1000.0, behavior=Behavior(down_window_s=0))
    found = rule.desired(look(serve=full, decode=full, prefill=full))
    assert found == {MIXED: 4, DECODE: 4, PREFILL: 2}  # 2.7 / 0.8, and 3 s / 1.5


# --- WVA: docs/saturation-scaling-config.md


def test_wva_documented_spare_capacity() -> None:
    rule = WVASaturation(period_s=0)
    calm = role(2, kv_usage=(0.65, 0.72))  # mean spare 0.115
    tight = role(2, kv_usage=(0.65, 0.76))  # 0.095 < 0.1
    assert wanted(rule, look(serve=calm), look(serve=tight)) == [{MIXED: 2}, {MIXED: 3}]


@pytest.mark.parametrize(
    ("signals", "replicas"),
    [
        (role(2, kv_usage=0.3), 1),  # 0.6 on one leaves 0.2
        (role(2, kv_usage=0.36), 2),  # 0.72 on one leaves 0.08
        (role(3, kv_usage=0.1, waiting=1.0), 2),  # 1.5 requests leave 3.5
        (role(3, kv_usage=0.1, waiting=1.5), 3),  # 2.25 leave 2.75
        (role(3, kv_usage=0.1, waiting=2.5), 4),  # 2.5 spare < 3
        (role(2, kv_usage=0.9), 3),  # all saturated
        (role(1, kv_usage=0.0), 1),
        (role(2, 1, kv_usage=0.9), 3),  # one starts: nothing is done
    ],
)
def test_wva_redistributes_before_it_removes(signals: RoleSignals, replicas: int) -> None:
    assert WVASaturation().desired(look(serve=signals)) == {MIXED: replicas}


def test_wva_leaves_saturated_replicas_out_of_the_mean() -> None:
    half = role(2, kv_usage=(0.95, 0.2))
    assert WVASaturation().desired(look(serve=half)) == {MIXED: 2}


def test_wva_tokens_by_hand() -> None:
    rule = WVATokens({MIXED: 1000.0}, period_s=0)
    # 0.7 of 1000 in use at both: 1400 / 0.85 - 2 x 800 = 47 tokens are missing
    assert rule.desired(look(serve=role(2, kv_usage=0.7))) == {MIXED: 3}
    assert rule.desired(look(serve=role(2, 1, kv_usage=0.7))) == {MIXED: 3}
    # 3 x 800 - 600 / 0.7 = 1543 are spare: one replica of 800
    assert rule.desired(look(serve=role(3, kv_usage=0.2))) == {MIXED: 2}
    queue = look(serve=role(1, kv_usage=0.1, waiting=4.0), traffic={"prompt_tokens": 400.0})
    assert rule.desired(queue) == {MIXED: 3}  # 1700 / 0.85 - 800 = 1200: two more


def test_wva_tokens_learn_the_compute_bound() -> None:
    rule = WVATokens({MIXED: 1000.0}, period_s=0)
    traffic = {"prompt_tokens": 10.0}
    # a full queue at 0.4: a replica holds 400; (400 + 60) / 0.85 - 400 = 141 are missing
    full = look(serve=role(1, kv_usage=0.4, waiting=6.0), traffic=traffic)
    calm = look(serve=role(1, kv_usage=0.38), traffic=traffic)
    assert wanted(rule, full, calm) == [{MIXED: 2}, {MIXED: 2}]
    rule.restart()
    assert rule.desired(calm) == {MIXED: 1}


# --- Dynamo by load: docs/planner/load_planner.md and the code's defaults


def disagg(now_s: float, queue: float = 0.3, kv: float = 0.7, p: int = 2, d: int = 2) -> Signals:
    """Return a look at prefill replicas with a common queue and decode replicas."""
    return look(
        now_s,
        prefill=role(p, waiting=queue / p),
        decode=role(d, kv_usage=kv),
    )


def test_dynamo_load_document_and_code_disagree() -> None:
    assert DynamoLoad("document").desired(disagg(0, 3.0)) == {PREFILL: 3, DECODE: 2}
    assert DynamoLoad("code").desired(disagg(0, 3.0)) == {PREFILL: 2, DECODE: 2}
    assert DynamoLoad("code").desired(disagg(0, 5.1)) == {PREFILL: 3, DECODE: 2}
    assert (DynamoLoad("document").period_s, DynamoLoad("code").period_s) == (30.0, 180.0)


@pytest.mark.parametrize(
    ("queue", "kv", "replicas"),
    [(0.1, 0.7, (1, 2)), (0.3, 0.4, (2, 1)), (0.3, 0.95, (2, 3)), (0.1, 0.4, (1, 1))],
    ids=["short queue", "empty cache", "full cache", "both idle"],
)
def test_dynamo_load_changes_by_one(queue: float, kv: float, replicas: tuple[int, int]) -> None:
    found = DynamoLoad().desired(disagg(0, queue, kv))
    assert (found[PREFILL], found[DECODE]) == replicas


def test_dynamo_load_waits_for_a_queue_that_shrinks() -> None:
    rule = DynamoLoad()
    rule.desired(disagg(0))
    assert rule.desired(disagg(15, 6.0)) == {PREFILL: 2, DECODE: 2}  # not due
    assert rule.desired(disagg(30, 1.0)) == {PREFILL: 2, DECODE: 2}  # 1 - 3 x 5
    rule.restart()
    rule.desired(disagg(0))
    rule.desired(disagg(15, 1.0))
    assert rule.desired(disagg(30, 1.1)) == {PREFILL: 3, DECODE: 2}


@pytest.mark.parametrize(("defaults", "kept"), [("document", 3), ("code", 2)])
def test_dynamo_load_lets_a_new_decode_replica_fill(defaults, kept: int) -> None:
    rule = DynamoLoad(defaults)
    assert rule.desired(disagg(0, kv=0.95)) == {PREFILL: 2, DECODE: 3}
    later = [disagg(rule.period_s * (1 + n), kv=0.1, d=3) for n in range(4)]
    assert [found[DECODE] for found in wanted(rule, *later)] == [3] * kept + [2] * (4 - kept)


def test_dynamo_load_stays_within_its_gpus() -> None:
    busy = disagg(0, 9.0, 0.95)
    assert DynamoLoad(most_gpus=5).desired(busy) == {PREFILL: 3, DECODE: 2}
    wide = DynamoLoad(gpus={PREFILL: 2, DECODE: 1}, most_gpus=7)
    assert wide.desired(busy) == {PREFILL: 2, DECODE: 3}


def test_dynamo_thresholds() -> None:
    def change(target: str, **signals: float | tuple[float, ...]) -> tuple[int, int]:
        rule = DynamoThresholds(8000, {DECODE: 1000.0}, target)
        found = rule.desired(look(prefill=role(2, **signals), decode=role(2, **signals)))
        return found[PREFILL] - 2, found[DECODE] - 2

    assert change("throughput", queued_tokens=(0.0, 8000.0)) == (1, 1)  # any is full
    assert change("throughput", queued_tokens=790.0, kv_usage=0.2) == (-1, 0)
    assert change("throughput", queued_tokens=0.0, kv_usage=0.59) == (-1, -1)
    assert change("throughput", queued_tokens=(900.0, 100.0), kv_usage=0.0) == (0, 0)
    assert change("latency", queued_tokens=800.0, kv_usage=0.0) == (1, 1)
    assert change("latency", queued_tokens=1.0, kv_usage=0.2) == (0, 0)
    assert change("latency", kv_usage=0.41) == (-1, 1)


# --- Dynamo by objectives: tests/planner of ai-dynamo/dynamo

H200 = Profile(40_000, 0.08, ((100, 0.01, 10_000),))
"""Llama-3.1-8B FP8 on H200 at 3000 / 150 tokens."""


def sla(profile: Profile, rate: float, running: float = 100.0, **options) -> tuple[int, int]:
    """Return what the planner asks for at a rate of prompts of 3000 tokens with 150 out."""
    traffic = {"rate_per_s": rate, "prompt_tokens": 3000.0, "output_tokens": 150.0}
    traffic |= {"ttft_s": options.pop("ttft_s", 0.08), "tpot_s": options.pop("tpot_s", 0.01)}
    rule = DynamoSLA(profile, itl_s=0.01, **options)
    found = rule.desired(look(traffic=traffic, prefill=role(), decode=role(running=running)))
    return found[PREFILL], found[DECODE]


def decode_at(tokens_per_s: float, prefill: float = 40_000, gpus=(1, 1)) -> Profile:
    """Return a profile of other rates."""
    return Profile(prefill, 0.08, ((100, 0.01, tokens_per_s),), *gpus)


@pytest.mark.parametrize(("rate", "replicas"), [(10, (1, 1)), (20, (2, 1))])
def test_dynamo_sla_end_to_end_decisions(rate: float, replicas: tuple[int, int]) -> None:
    # tests/planner/README.md: 10 requests/s keep 1P1D, 20 make 2P1D
    assert sla(H200, rate) == replicas


def test_dynamo_sla_unit_tests() -> None:
    assert sla(decode_at(10_000), 10 / 60) == (1, 1)
    assert sla(decode_at(1_000), 500 / 60) == (1, 2)
    assert sla(decode_at(5_000, gpus=(2, 4)), 20 / 60) == (1, 1)
    assert sla(decode_at(1_000, 10_000, (2, 2)), 100 / 60, most_gpus=5) == (1, 1)
    assert sla(H200, 1 / 60, least=2) == (2, 2)


def test_dynamo_sla_corrects_and_clamps() -> None:
    assert sla(H200, 20, ttft_s=0.2) == (2, 1)  # 2.5 counts as 1
    assert sla(H200, 20, ttft_s=0.04) == (1, 1)  # half the load: 0.75
    curve = Profile(40_000, 0.08, ((10, 0.005, 2_000), (100, 0.01, 10_000)))
    assert sla(curve, 20) == (2, 1)
    assert sla(curve, 20, tpot_s=0.02) == (2, 2)  # twice as slow: 5 ms are left, 2,000 tokens/s
    assert sla(curve, 20, tpot_s=0.02, corrected=False) == (2, 1)
    assert sla(curve, 20, ttft_s=math.nan, tpot_s=math.nan) == (2, 1)


def test_dynamo_sla_budget_shrinks_both() -> None:
    # 15 prefill and 30 decode: 45 GPUs to 9 are 3 and 6
    assert sla(decode_at(1_000), 200, most_gpus=9) == (3, 6)


def test_dynamo_sla_keeps_what_there_is_without_requests() -> None:
    idle = look(prefill=role(3), decode=role(2))
    assert DynamoSLA(H200).desired(idle) == {PREFILL: 3, DECODE: 2}
    with pytest.raises(ValueError, match="roles serve: this planner scales prefill and decode"):
        DynamoSLA(H200).desired(look(serve=role()))


def test_dynamo_sla_takes_the_mean_of_its_period() -> None:
    rule = DynamoSLA(H200, itl_s=0.01, period_s=60)
    traffic = {"prompt_tokens": 3000.0, "output_tokens": 150.0}

    def at(now_s: float, rate: float) -> Signals:
        rates = traffic | {"rate_per_s": rate}
        return look(now_s, 30, rates, prefill=role(), decode=role(running=100.0))

    assert rule.desired(at(0, 1)) == {PREFILL: 1, DECODE: 1}
    assert rule.desired(at(30, 40)) == {PREFILL: 1, DECODE: 1}  # not due
    assert rule.desired(at(60, 20)) == {PREFILL: 3, DECODE: 1}  # 30 a second


# --- Predictors


def test_kalman_follows_a_trend_and_calms_noise() -> None:
    line = Kalman()
    for value in range(1, 200):
        line.add(3.0 * value)
    assert line.next() == pytest.approx(600.0, rel=1e-3)
    noise, calm = np.random.default_rng(0).normal(100, 10, 400), Kalman()
    forecasts = []
    for value in noise:
        forecasts.append(calm.next())
        calm.add(value)
    assert np.std(np.array(forecasts[50:]) - 100) < 10


def test_kalman_by_hand() -> None:
    # first value 10, then 12: spread 1000 I becomes [[2001, 1000], [1000, 1000.1]], gain over 2011
    one = Kalman()
    for value in (0.0, 10.0, 12.0):
        one.add(value)
    assert one.next() == pytest.approx(10 + 2 * (2001 + 1000) / 2011)


# --- Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HPA(0.0), "target = 0.0: give a value above 0"),
        (lambda: HPA(1.0, least=3, most=2), "least = 3, most = 2: give 0 <= least <= most"),
        (lambda: HPA(1.0, period_s=-1), "period_s = -1: give seconds, 0 or more"),
        (lambda: KedaTokenAware(0), "prefill_tokens_per_s = 0: give a value above 0"),
        (lambda: WVASaturation(kv_spare=0.9), "kv_spare = 0.9: give 0 to its threshold of 0.8"),
        (lambda: WVATokens({}, scale_down=0.9), "scale_down = 0.9: give above 0, up to 0.85"),
        (lambda: DynamoLoad("guess"), "defaults = 'guess': use one of document, code"),
        (lambda: DynamoThresholds(1, {}, "cost"), "target = 'cost': use 'throughput' or 'latency'"),
        (lambda: DynamoSLA(H200, most_gpus=1), "most_gpus = 1: 2 are needed for least replicas"),
        (
            lambda: DynamoSLA(H200, forecast="mean"),
            "forecast = 'mean': use one of constant, kalman, arima, prophet",
        ),
        (lambda: Fixed({DECODE: -1}), "replicas of decode = -1: give 0 or more"),
        (
            lambda: RoleSignals(0, (1.0,)),
            "running has 0 entries and waiting 1: give one for each ready replica",
        ),
    ],
)
def test_bad_input_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "rule",
    [
        HPA(0.5),
        KedaTokenAware(1000.0),
        WVASaturation(),
        WVATokens({MIXED: 1000.0}),
        DynamoLoad(),
        DynamoThresholds(8000, {MIXED: 1000.0}),
        Fixed(),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_a_rule_has_an_answer_while_all_replicas_start(rule: ScalingRule) -> None:
    assert rule.desired(look(serve=role(0, 2))) == {MIXED: 2}


def test_every_rule_is_on_the_page() -> None:
    page = (Path(__file__).parents[1] / "docs" / "baselines_scaling.md").read_text()
    rules = [rule for rule in vars(scaling).values() if isinstance(rule, type)]
    for rule in rules:
        if issubclass(rule, ScalingRule) and rule is not ScalingRule:
            assert f"| `{rule.__name__}` |" in page
