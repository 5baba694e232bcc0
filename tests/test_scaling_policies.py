"""Autoscalers as policies: on observations made by hand, and in small worlds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cluster_worlds import apart, service, small

from gpuyard import baselines
from gpuyard.baselines.scaling import Idle, RoleSignals, Signals
from gpuyard.envs.observation import TABLES
from gpuyard.envs.perf import capability
from gpuyard.envs.scenario import Scenario
from gpuyard.evaluation.rollout import rollout

KEEP, ADD, TAKE = 0, 1, 2
"""Rows of a scenario whose services have one role, for the first one; two more follow for each."""

WORLD = small(service("chat", initial=2, max=4), service("code", max=2), name="scaled")
APART = small(
    apart("chat", roles=[{"kind": "prefill", "max": 4}, {"kind": "decode", "max": 4}]),
    name="scaled-apart",
)
RULES = [
    name
    for name in baselines.names("scaling")
    if name not in ("scaling/random", "scaling/dynamo-sla")  # that one scales roles apart
]
BUSY = {"serving": 2, "busy": 1.0, "waiting": 30, "running": 64, "kv_usage": 0.95}
IDLE = {"serving": 2}


def observe(
    *roles: dict[str, float],
    changes: int = 0,
    since_s: float = 30.0,
    world: Scenario = WORLD,
) -> dict[str, np.ndarray]:
    """Return the observation of one world at a scale decision; the columns of each role by name."""
    layout = world.layout
    rows = 1 + 2 * len(roles)
    observation = {
        "cluster": np.zeros((1, len(layout.columns("cluster"))), np.float32),
        "candidates": np.zeros((1, rows, len(layout.columns("candidates"))), np.float32),
        "action_mask": np.zeros((1, rows), np.int8),
    }

    def write(key: str, at: tuple, name: str, value: float) -> None:
        scale = {column.name: column.scale for column in TABLES[key]["scale"]}[name]
        place = layout.index(key, f"scale.{name}")
        observation[key][(*at, place)] = value if scale is None else value / (value + scale)

    observation["cluster"][0, layout.index("cluster", "kind_scale")] = 1
    write("cluster", (0,), "changes", changes)
    write("cluster", (0,), "since_s", since_s)
    observation["action_mask"][0, KEEP] = 1
    every = [spec for each in world.services for spec in each.roles]
    for g, (role, spec) in enumerate(zip(roles, every, strict=False)):
        least, most = spec.least, spec.most
        count = sum(role.get(name, 0) for name in ("serving", "queued", "starting"))
        for row, may in ((1 + 2 * g, count < most), (2 + 2 * g, count > least)):
            observation["action_mask"][0, row] = may
            for name, value in {"least": least, "most": most, **role}.items():
                write("candidates", (0, row), name, value)
    return observation


def scaler(name: str, world: Scenario = WORLD, **options: Any) -> Any:
    """Return a policy for one such world, which looks every 30 s."""
    policy = baselines.make(name, **options)
    policy.reset(baselines.composite.ShareOfScenario(world, frozenset({"scale"})), 1)
    policy.interval_s = 30.0
    return policy


def act(policy: Any, *roles: dict[str, float], **round: Any) -> int:
    """Return the row that a policy takes."""
    return int(policy.act(observe(*roles, **round))[0])


def test_hpa_adds_until_what_it_wants_is_there():
    """2 replicas at full use and a target of 0.5: ceil(2 x 1 / 0.5) = 4."""
    policy = scaler("scaling/hpa")
    assert act(policy, BUSY, IDLE) == ADD
    assert act(policy, {**BUSY, "queued": 1}, IDLE, changes=1) == ADD
    assert act(policy, {**BUSY, "queued": 2}, IDLE, changes=2) == KEEP


def test_hpa_takes_the_highest_recommendation_of_five_minutes():
    """Idle since the first look: it keeps for 300 s, then goes to the least."""
    policy = scaler("scaling/hpa")
    taken = [act(policy, IDLE, {"serving": 1}) for _ in range(11)]
    assert taken == [KEEP] * 10 + [TAKE]
    assert act(policy, {"serving": 1}, {"serving": 1}, changes=1) == KEEP


def test_rounds_without_a_choice_count_as_time():
    """Two looks, 300 s apart: the rounds between them were over before anybody was asked."""
    policy = scaler("scaling/hpa")
    assert act(policy, IDLE, {"serving": 1}) == KEEP
    assert act(policy, IDLE, {"serving": 1}, since_s=300.0) == TAKE


def test_hpa_keeps_within_the_tolerance():
    policy = scaler("scaling/hpa")
    assert act(policy, {"serving": 2, "busy": 0.54}, IDLE) == KEEP
    assert act(scaler("scaling/hpa"), {"serving": 2, "busy": 0.56}, IDLE) == ADD


def test_the_metric_and_target_are_those_given():
    queued = {"serving": 1, "waiting": 5}
    assert act(scaler("scaling/hpa"), queued, IDLE) == KEEP
    assert act(scaler("scaling/hpa-queue"), queued, IDLE) == ADD
    assert act(scaler("scaling/hpa-queue", target=5.0), queued, IDLE) == KEEP


def test_dynamo_adds_one_above_90_percent_of_kv_and_takes_one_below_50():
    """Its document: KV usage above 0.9 adds a decode replica, below 0.5 takes one away."""
    for usage, row in ((0.95, ADD), (0.7, KEEP), (0.4, TAKE)):
        policy = scaler("scaling/dynamo")
        assert act(policy, {"serving": 2, "kv_usage": usage}, {"serving": 1}) == row
    policy = scaler("scaling/dynamo")
    assert act(policy, BUSY, {"serving": 1}) == ADD
    assert act(policy, {**BUSY, "queued": 1}, {"serving": 1}, changes=1) == KEEP, "one a round"
    assert act(policy, {**BUSY, "queued": 1}, {"serving": 1}) == KEEP, "not while one starts"


def test_keda_asks_for_seconds_of_queued_prompts():
    """ceil(queued tokens / V_P / 1.5 s), V_P being the rate on prompts of 2,048 tokens."""
    rate = WORLD.services[0].roles[0].prefill_tokens_per_s(2048)
    for seconds, rows in ((1.0, [KEEP]), (4.0, [ADD, ADD, KEEP])):  # of all prompts queued
        policy = scaler("scaling/keda")
        replicas = 1
        for changes, row in enumerate(rows):
            role = {"serving": 1, "queued": replicas - 1, "queued_tokens": seconds * rate}
            assert act(policy, role, {"serving": 1}, changes=changes) == row
            replicas += row == ADD


def test_wva_by_tokens_counts_those_that_a_replica_holds():
    """At 0.7 of two caches demand / 0.85 is beyond 2 x 0.8; at 0.2 of three one is spare."""
    for usage, count, row in ((0.7, 2, ADD), (0.6, 2, KEEP), (0.2, 3, TAKE)):
        policy = scaler("scaling/wva-tokens")
        assert act(policy, {"serving": count, "kv_usage": usage}, {"serving": 1}) == row
    # four prompts that wait fill a cache more: (0.1 + 1) / 0.85 - 0.8 is half a replica of 0.8
    tokens = WORLD.services[0].roles[0].kv_tokens
    queue = {"serving": 1, "kv_usage": 0.1, "waiting": 4, "prompt_tokens": tokens / 4}
    assert act(scaler("scaling/wva-tokens"), queue, {"serving": 1}) == ADD


def test_dynamo_by_objectives_asks_for_what_its_profile_needs():
    """ceil(requests x prompt / prefill rate), ceil(requests x output / decode rate in 50 ms)."""
    prefill, decode = APART.services[0].roles
    prompt, output = APART.services[0].workload.mean_lengths()
    able = capability(decode.replica.deployment)
    batch = able.max_batch(prompt, output)
    step_s = able.decode_s(batch, batch * (prompt + output / 2))
    assert step_s < 0.05, "the largest batch is within the objective"
    prefill_s = capability(prefill.replica.deployment).prefill_s(round(prompt))
    for share, replicas in ((0.9, 1), (1.9, 2), (2.9, 3)):
        policy = scaler("scaling/dynamo-sla", APART, corrected=False)
        rate_per_s = share * round(prompt) / prefill_s / prompt
        seen = {"rate_per_s": rate_per_s, "prompt_tokens": prompt, "output_tokens": output}
        row = act(policy, {"serving": 1, **seen}, {"serving": 1, **seen}, world=APART)
        decodes = int(np.ceil(rate_per_s * output / (batch / step_s)))
        assert policy._wanted[0].tolist() == [replicas, min(max(decodes, 1), 4)]
        assert row == (ADD if replicas > 1 else KEEP if decodes <= 1 else 3)


def test_dynamo_by_objectives_counts_both_roles_and_refuses_one():
    with pytest.raises(ValueError, match="deployment 'chat' has aggregated ones"):
        scaler("scaling/dynamo-sla")
    with pytest.raises(ValueError, match="period_s = -1"):
        scaler("scaling/dynamo-sla", APART, period_s=-1.0)


def test_fixed_goes_back_to_what_it_found():
    policy = scaler("scaling/fixed")
    assert act(policy, BUSY, {"serving": 1}) == KEEP
    assert act(policy, {"serving": 1}, {"serving": 1}) == ADD
    assert act(policy, {"serving": 3}, {"serving": 1}) == TAKE


def test_fixed_waits_for_a_deployment_that_is_asked_for_later():
    policy = scaler("scaling/fixed")
    act(policy, {"serving": 2}, {})  # nothing can be added before: the mask of a world says so
    assert act(policy, {"serving": 2}, {"queued": 2}) == KEEP, "two is what it begins with"
    assert act(policy, {"serving": 2}, {"serving": 1}) == 3


def test_fixed_goes_to_so_many_times_what_the_scenario_begins_with():
    """chat begins with 2 of at most 4, code with 1 of at most 2: 3 times are 4 and 2."""
    policy = scaler("scaling/fixed", times=3.0)
    assert act(policy, {"serving": 3}, {"serving": 2}) == ADD
    assert act(policy, {"serving": 4}, {"serving": 1}) == 3
    assert act(policy, {"serving": 4}, {"serving": 2}) == KEEP
    with pytest.raises(ValueError, match="times = 0: give a number above 0"):
        scaler("scaling/fixed", times=0)


def idle(rows: list[tuple[dict[str, float], int]], **options: float) -> None:
    """Check the row that ``scaling/idle`` takes at each look, 30 s apart; chat begins with 2 of 4.

    ``code`` keeps its two and wants them: somebody asks it all the time.
    """
    policy = scaler("scaling/idle", **options)
    for look, (role, row) in enumerate(rows):
        asked = {"serving": 2, "rate_per_s": 1.0}
        assert act(policy, role, asked) == row, f"at {30 * (look + 1)} s"


def test_idle_begins_with_a_fleet_and_goes_down_to_what_requests_need_and_one():
    """25 requests at 10 each need 3 and one to spare: 4. 15 need 2 + 1, once 4 are 30 s ago."""
    idle(
        [
            ({"queued": 3}, ADD),  # none is ready: twice 2
            ({"serving": 4, "running": 5, "waiting": 1.25}, KEEP),  # 25: ceil(2.5) + 1
            ({"serving": 4, "running": 3.75, "rate_per_s": 1.0}, KEEP),  # 15: 3, but 4 just before
            ({"serving": 4, "running": 3.75, "rate_per_s": 1.0}, TAKE),  # 3 at both looks
            ({"serving": 3, "running": 5, "rate_per_s": 1.0}, KEEP),  # 15 still
            ({"serving": 3, "running": 7, "rate_per_s": 1.0}, ADD),  # 21: up at once
        ],
        times=2.0,
        batch=10.0,
    )


def test_idle_lets_the_spare_one_go_when_nobody_has_asked_for_a_while():
    """Last asked at 30 s. Until 120 s it wants 1 + 1; from 30 + 90 s on 1, and 30 s later goes."""
    asked = {"serving": 2, "rate_per_s": 0.5}
    idle(
        [(asked, KEEP), *[({"serving": 2}, KEEP)] * 3, ({"serving": 2}, TAKE)],
        idle_s=90.0,
    )
    once_more = [({"serving": 2}, KEEP), (asked, KEEP), *[({"serving": 2}, KEEP)] * 3]
    idle([*once_more, ({"serving": 2}, TAKE), ({"serving": 1, "running": 1}, ADD)], idle_s=90.0)


def test_idle_keeps_one_of_a_role_that_may_have_none():
    rule = Idle(fleet=2, batch=8, spare=1, window_s=0.0, idle_s=0.0, least=0, most=4)
    quiet = RoleSignals(0, (0.0,), (0.0,), (0.0,), (0.0,), (0.0,))
    assert rule.desired(Signals(0.0, 30.0, {"serve": RoleSignals()})) == {"serve": 2}
    assert rule.desired(Signals(30.0, 30.0, {"serve": quiet})) == {"serve": 1}


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("times", 0.0, "a number above 0"),
        ("batch", -1.0, "requests, above 0"),
        ("spare", -1, "replicas, 0 or more"),
        ("window_s", -30.0, "seconds, 0 or more"),
        ("idle_s", float("nan"), "seconds, 0 or more"),
    ],
)
def test_idle_says_what_an_option_may_be(option, value, allowed):
    with pytest.raises(ValueError, match=f"{option} = {value}: give {allowed}"):
        scaler("scaling/idle", **{option: value})


def test_each_service_is_scaled_by_itself_in_turn():
    policy = scaler("scaling/hpa")
    assert act(policy, {"serving": 1, "busy": 0.5}, {"serving": 1, "busy": 1.0}) == 3
    policy = scaler("scaling/hpa")
    both = [{"serving": 1, "busy": 1.0}, {"serving": 1, "busy": 1.0}]
    assert act(policy, *both) == ADD
    both[0]["queued"] = 1
    assert act(policy, *both, changes=1) == 3


def test_an_episode_forgets_the_one_before():
    policy = scaler("scaling/fixed")
    act(policy, BUSY, {"serving": 1})
    policy.restart(np.array([True]))
    assert act(policy, {"serving": 1}, {"serving": 1}) == KEEP


@pytest.mark.parametrize("name", [*RULES, "scaling/random"])
def test_rounds_stay_within_bounds_and_end(name):
    """Whatever is seen: rows are feasible, counts within bounds, no rule goes back and forth."""
    rng = np.random.default_rng(0)
    policy = scaler(name)
    for _ in range(60):
        counts = [{"serving": int(rng.integers(1, s.roles[0].most + 1))} for s in WORLD.services]
        seen = [
            {
                "busy": rng.random(),
                "kv_usage": rng.random(),
                "waiting": 20 * rng.random() ** 3,
                "queued_tokens": 40_000 * rng.random() ** 3,
            }
            for _ in counts
        ]
        rows = []
        for changes in range(8):
            roles = [{**count, **each} for count, each in zip(counts, seen, strict=True)]
            row = act(policy, *roles, changes=changes)
            assert observe(*roles)["action_mask"][0, row] == 1
            rows.append(row)
            if row == KEEP:
                break
            g, takes = divmod(row - 1, 2)
            which = "queued" if counts[g].get("queued") or not takes else "serving"
            counts[g][which] = counts[g].get(which, 0) + (-1 if takes else 1)
        if name in RULES:
            assert rows[-1] == KEEP
            for add in (1, 3):
                assert not {add, add + 1} <= set(rows)


def played(name: str, chat: dict[str, Any], **tables: Any) -> dict[str, float]:
    """Return the metrics of an episode of a small world under a scaler."""
    policy = baselines.make(f"compose:routing/least-requests+gang/fifo-first-fit+scaling/{name}")
    scenario = small(service("chat", **chat), service("code", max=1), name="played", **tables)
    numbers = rollout(name, policy, scenario, np.array([3]), num_envs=1).metrics
    return {key: float(values[0]) for key, values in numbers.items()}


@pytest.mark.parametrize("name", ["hpa?metric=running&target=16", "hpa-queue", "keda"])
def test_more_replicas_come_under_load(name):
    workload = {"preset": "chat", "num_requests": 600, "rate_per_s": 10.0, "max_tokens": 2048}
    chat = {"workload": workload, "engine": "vllm-0.19", "max_num_seqs": 32}
    found, fixed = played(name, chat), played("fixed", chat)
    assert fixed["starts"] == 2 and found["starts"] > 2
    assert found["ttft_mean_s"] < fixed["ttft_mean_s"]


@pytest.mark.parametrize("name", ["hpa", "wva", "dynamo", "idle?times=1&idle_s=60"])
def test_idle_replicas_go(name):
    workload = {"preset": "chat", "num_requests": 40, "rate_per_s": 0.05, "max_tokens": 2048}
    chat, scaler = {"initial": 3, "workload": workload}, {"interval_s": 30.0}
    found, fixed = played(name, chat, scaler=scaler), played("fixed", chat, scaler=scaler)
    assert fixed["drains"] == 0 and found["drains"] >= 2
    assert found["cost"] < fixed["cost"] and found["route.finished"] == 100


def test_a_whole_system_by_name_plays_as_its_composition():
    scenario = small()
    name = "compose:routing/random+topology/kubernetes-spread+scaling/hpa"
    rewards = [
        rollout("", baselines.make(each), scenario, np.array([1, 2])).metrics["reward"].tolist()
        for each in ("system/kubernetes", name)
    ]
    assert rewards[0] == rewards[1]
