"""Routers that refuse requests, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gpuyard import baselines
from gpuyard.envs.observation import Layout

LAYOUT = Layout({"route"}, ("gate",))
REPLICAS = 2
REJECT = REPLICAS


def policy(name: str, may_reject: bool = True, **options):
    made = baselines.make(f"routing/{name}", **options)
    scenario = SimpleNamespace(
        name="pool",
        decisions=frozenset({"route"}),
        layout=LAYOUT,
        replicas=[None] * REPLICAS,
        router=SimpleNamespace(may_reject=may_reject),
    )
    made.reset(scenario, 1, 0)
    return made


def seen(queue=None, cluster=None, may_reject: bool = True, refusable: int = 1, **columns):
    """An observation of one environment in raw units; candidates' columns are (REPLICAS,)."""
    rows = REPLICAS + may_reject
    found = {
        "cluster": np.zeros((1, len(LAYOUT.columns("cluster"))), np.float32),
        "queue": np.zeros((1, 1, len(LAYOUT.columns("queue"))), np.float32),
        "candidates": np.zeros((1, rows, len(LAYOUT.columns("candidates"))), np.float32),
        "action_mask": np.ones((1, rows), np.int8),
    }
    if may_reject:
        found["action_mask"][0, REJECT] = refusable
        found["candidates"][0, REJECT, LAYOUT.index("candidates", "is_reject")] = 1
    found["cluster"][0, LAYOUT.index("cluster", "kind_route")] = 1

    def put(key, name, value, at):
        place = LAYOUT.index(key, name)
        scale, value = LAYOUT.columns(key)[place].scale, np.asarray(value, float)
        found[key][(*at, place)] = value if scale is None else value / (value + scale)

    for name, value in columns.items():
        put("candidates", name, value, (0, slice(0, REPLICAS)))
    for name, value in (queue or {}).items():
        put("queue", name, value, (0, 0))
    for name, value in (cluster or {}).items():
        put("cluster", name, value, (0,))
    return found


def act(made, observation) -> int:
    return int(made.act(observation)[0])


@pytest.mark.parametrize(
    ("waiting", "kv_usage", "priority", "expected"),
    [
        ([6, 6], [0.1, 0.1], 0.0, REJECT),
        ([6, 5], [0.1, 0.1], 0.0, 0),  # one of them is not above 5
        ([0, 0], [0.9, 0.81], 0.0, REJECT),
        ([0, 0], [0.9, 0.79], 0.0, 0),
        ([6, 0], [0.1, 0.9], 0.0, REJECT),  # each for a reason of its own
        ([6, 6], [0.9, 0.9], 1.0, 0),  # protected
    ],
)
def test_low_priority_is_shed_when_all_are_saturated(waiting, kv_usage, priority, expected):
    observation = seen({"priority": priority}, waiting=waiting, kv_usage=kv_usage)
    assert act(policy("shed-saturated"), observation) == expected


def test_an_infeasible_replica_is_no_room():
    observation = seen(waiting=[6, 0])
    observation["action_mask"][0, 1] = 0
    assert act(policy("shed-saturated"), observation) == REJECT


@pytest.mark.parametrize(
    ("age_s", "slack", "expected"),
    [(0.0, 1.0, 1), (0.25, 1.0, REJECT), (0.25, 2.0, 1)],
)
def test_what_would_be_late_is_refused(age_s, slack, expected):
    """The best replica takes 0.2 + 0.1 s; the objective is 0.5 s."""
    queue = {"ttft_slo_s": 0.5, "age_s": age_s}
    observation = seen(queue, wait_s=[0.4, 0.2], prefill_s=[0.1, 0.1])
    assert act(policy("early-reject", slack=slack), observation) == expected


def test_a_bucket_by_hand():
    """Size 1,000, 100 tokens a second; requests of 600 tokens."""
    made = policy("token-bucket", rate=100.0, burst=1000.0)

    def after(since_s: float, priority: float = 0.0) -> int:
        queue = {"size": 500, "estimate": 100, "priority": priority}
        return act(made, seen(queue, {"gate.since_s": since_s}))

    assert after(0.0) == 0  # 400 left
    assert after(1.0) == REJECT  # 500
    assert after(0.0, priority=1.0) == 0  # not limited, takes nothing of it
    assert after(1.01) == 0  # 601
    assert after(1e3) == 0  # full again, not more: 400 left
    assert after(0.5) == REJECT
    made.restart(np.array([True]))
    assert after(0.0) == 0


def test_classes_have_buckets_of_their_own():
    made = policy("token-bucket", rate=1.0, burst=100.0, urgent_rate=1.0, urgent_burst=700.0)
    queue = {"size": 500, "estimate": 100}
    assert act(made, seen({**queue, "priority": 0.0})) == REJECT
    assert act(made, seen({**queue, "priority": 1.0})) == 0
    assert act(made, seen({**queue, "priority": 1.0})) == REJECT


@pytest.mark.parametrize("name", ["shed-saturated", "early-reject", "token-bucket?burst=0"])
def test_nobody_is_refused_who_may_not_be(name):
    columns = {"waiting": [9, 9], "wait_s": [9, 9]}
    queue = {"size": 500, "ttft_slo_s": 0.5}
    assert act(policy(name), seen(queue, **columns)) == REJECT
    assert act(policy(name), seen(queue, refusable=0, **columns)) == 0
    without = seen(queue, may_reject=False, **columns)
    assert act(policy(name, may_reject=False), without) == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("shed-saturated", {"queue_depth": -1}),
        ("early-reject", {"slack": -0.1}),
        ("token-bucket", {"rate": -1}),
    ],
)
def test_bad_options_are_refused(name, options):
    ((option, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}: {option} = {value}"):
        policy(name, **options)


def test_the_refusing_candidate_is_known_where_others_follow_that_are_not_for_requests():
    made = policy("shed-saturated")
    observation = seen(waiting=[9, 9], queue={"priority": 0.0})
    for key in ("candidates", "action_mask"):
        values = observation[key]
        behind = np.zeros((1, 3, *values.shape[2:]), values.dtype)
        observation[key] = np.concatenate([values, behind], axis=1)
    assert act(made, observation) == REJECT
