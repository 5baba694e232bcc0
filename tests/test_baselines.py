"""Routing baselines against their sources' worked examples, on hand-made observations."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard import baselines
from gpuyard.baselines.routing.dynamo import kv_cost, lmetric_cost
from gpuyard.baselines.routing.llmd import active_requests, fewest, load_aware, token_load
from gpuyard.baselines.routing.oblivious import smooth_weighted_round_robin
from gpuyard.baselines.routing.predictive import capability_cost
from gpuyard.envs.observation import TABLES

ROUTERS = baselines.names("routing")
# Those that break ties or draw at random are not the same call for call in batches.
STOCHASTIC = {
    "routing/random",
    "routing/power-of-two",
    "routing/prefix-aware",
    "routing/llm-d",
}
DETERMINISTIC = [name for name in ROUTERS if name not in STOCHASTIC]


def pool(replicas: int) -> SimpleNamespace:
    return SimpleNamespace(
        replicas=[SimpleNamespace(deployment=SimpleNamespace(block_size=16))] * replicas
    )


def observe(mask=None, hold=None, estimate=200.0, **columns) -> dict[str, np.ndarray]:
    """An observation of raw values: each column (R,) for one environment or (n, R).

    Args:
        mask: feasible replicas, (R,) or (n, R); all of them by default.
        hold: adds a candidate that holds the request, feasible or not.
    """
    columns = {name: np.atleast_2d(np.asarray(v, float)) for name, v in columns.items()}
    n, replicas = max((v.shape for v in columns.values()), default=(1, 4))
    size = replicas + (hold is not None)
    observation = {
        "candidates": np.zeros((n, size, len(TABLES["candidates"])), np.float32),
        "queue": np.zeros((n, 2, len(TABLES["queue"])), np.float32),
        "action_mask": np.zeros((n, size), np.int8),
    }
    for at, column in enumerate(TABLES["candidates"]):
        raw = columns.pop(column.name, 0.0)
        value = raw if column.scale is None else raw / (raw + column.scale)
        observation["candidates"][:, :replicas, at] = value
    assert not columns, f"no such columns: {columns}"
    for at, column in enumerate(TABLES["queue"]):
        if column.name == "estimate":
            observation["queue"][:, 0, at] = estimate / (estimate + column.scale)
    observation["action_mask"][:, :replicas] = True if mask is None else mask
    if hold is not None:
        observation["action_mask"][:, -1] = hold
    return observation


def router(name: str, replicas: int, num_envs: int = 1, seed: int = 0, **options):
    policy = baselines.make(f"routing/{name}", **options)
    policy.reset(pool(replicas), num_envs, seed)
    return policy


def choice(name: str, observation: dict[str, np.ndarray], replicas: int, **options) -> int:
    return int(router(name, replicas, **options).act(observation)[0])


# --- round robin ---------------------------------------------------------------------------


def test_round_robin_cycles_skips_and_restarts():
    policy = router("round-robin", 3, num_envs=2)
    both = observe(in_flight=np.zeros((2, 3)))
    assert [policy.act(both).tolist() for _ in range(4)] == [[0, 0], [1, 1], [2, 2], [0, 0]]
    # Replica 1 is next; without it the turn passes to 2 and then on to 0.
    without_1 = observe(in_flight=np.zeros((2, 3)), mask=[1, 0, 1])
    assert policy.act(without_1).tolist() == [2, 2]
    assert policy.act(both).tolist() == [0, 0]
    policy.restart(np.array([True, False]))
    assert policy.act(both).tolist() == [0, 1]


def test_holding_costs_nobody_its_turn():
    policy = router("round-robin", 2)
    nobody = observe(in_flight=[0, 0], mask=[0, 0], hold=True)
    free = observe(in_flight=[0, 0], hold=True)
    assert [policy.act(o)[0] for o in (free, nobody, free, free)] == [0, 2, 1, 0]


def test_smooth_weighted_round_robin_is_nginx_example():
    """Weights 5, 1, 1 give a a b a c a a, and the current weights return to zero."""
    current, weights = np.zeros((1, 3)), np.array([[5.0, 1.0, 1.0]])
    everyone, sequence = np.ones((1, 3), bool), []
    for _ in range(7):
        current, chosen = smooth_weighted_round_robin(current, weights, everyone)
        sequence.append("abc"[chosen[0]])
    assert "".join(sequence) == "aabacaa"
    assert not current.any()


def test_weighted_round_robin_follows_capacity_and_restarts():
    policy = router("weighted-round-robin", 3, num_envs=2)
    observation = observe(capacity=[[1.0, 0.5, 0.25]] * 2)
    actions = np.array([policy.act(observation) for _ in range(7)])
    assert np.bincount(actions[:, 0]).tolist() == [4, 2, 1]
    policy.act(observation)
    policy.restart(np.array([False, True]))
    replay = np.array([policy.act(observation)[1] for _ in range(7)])
    assert replay.tolist() == actions[:, 1].tolist()


def test_weighted_round_robin_shares_a_masked_turn_by_weight():
    policy = router("weighted-round-robin", 3)
    observation = observe(capacity=[1.0, 0.5, 0.25], mask=[0, 1, 1])
    actions = [policy.act(observation)[0] for _ in range(300)]
    assert np.bincount(actions, minlength=3).tolist() == [0, 200, 100]


# --- load ------------------------------------------------------------------------------------


def test_least_requests_counts_running_requests_and_least_queued_does_not():
    """Vidur's case: with empty queues a router that counts queues only picks replica 0."""
    observation = observe(in_flight=[40, 12, 7, 9], running=[40, 12, 7, 9], waiting=[0, 0, 0, 0])
    assert choice("least-requests", observation, 4) == 2
    assert choice("least-queued", observation, 4) == 0


def test_least_tokens_sees_sizes_where_least_requests_sees_counts():
    observation = observe(in_flight=[2, 3], in_flight_tokens=[64_000, 900])
    assert choice("least-requests", observation, 2) == 0
    assert choice("least-tokens", observation, 2) == 1


def test_large_loads_stay_apart_after_squashing():
    observation = observe(in_flight=[1001, 1000, 1002], in_flight_tokens=[5e5, 5e5 - 64, 5e5])
    assert choice("least-requests", observation, 3) == 1
    assert choice("least-tokens", observation, 3) == 1


def test_power_of_two_takes_ranks_with_their_exact_probabilities():
    """R = 4 distinct loads: the pair's better one has rank 1, 2, 3, 4 in 3, 2, 1, 0 of 6 pairs."""
    draws = 20_000
    policy = router("power-of-two", 4, num_envs=draws, seed=3)
    actions = policy.act(observe(in_flight=[[30, 10, 20, 0]] * draws))
    shares = np.bincount(actions, minlength=4)[[3, 1, 2, 0]] / draws
    assert shares[3] == 0
    # Three standard deviations of a share of 20,000 draws are below 0.011.
    np.testing.assert_allclose(shares, [3 / 6, 2 / 6, 1 / 6, 0], atol=0.011)


def test_power_of_all_choices_is_least_requests():
    observation = observe(in_flight=[[5, 3, 9, 1]] * 50)
    assert set(router("power-of-two", 4, 50, choices=4).act(observation)) == {3}


def test_power_of_two_draws_among_feasible_replicas_only():
    """With two feasible replicas both are drawn, so the better one always wins."""
    observation = observe(in_flight=[[0, 7, 5, 1]] * 100, mask=[0, 1, 1, 0])
    assert set(router("power-of-two", 4, 100).act(observation)) == {2}


def test_random_is_uniform_over_the_feasible_and_seeded():
    observation = observe(in_flight=np.zeros((9000, 4)), mask=[1, 1, 0, 1])
    actions = router("random", 4, 9000, seed=1).act(observation)
    np.testing.assert_allclose(np.bincount(actions) / 9000, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.015)
    assert (actions == router("random", 4, 9000, seed=1).act(observation)).all()
    assert (actions != router("random", 4, 9000, seed=2).act(observation)).any()


# --- affinity --------------------------------------------------------------------------------


def test_session_goes_home_else_to_its_last_replica_else_to_the_least_loaded():
    home, last = [0, 1, 0, 0], [0, 0, 1, 0]
    load = [3, 99, 50, 2]
    columns = {"session_home": home, "session_last": last, "in_flight": load}
    assert choice("session-affinity", observe(**columns), 4) == 1
    assert choice("session-affinity", observe(**columns, mask=[1, 0, 1, 1]), 4) == 2
    assert choice("session-affinity", observe(in_flight=load), 4) == 3  # no session


def test_losing_a_replica_moves_only_its_own_sessions():
    """Consistent hashing: of S sessions on R replicas, about S / R move and the rest stay."""
    sessions, replicas, lost = 4000, 8, 2
    homes = np.random.default_rng(0).integers(replicas, size=sessions)
    flags = np.eye(replicas)[homes]
    load = np.random.default_rng(1).integers(0, 90, (sessions, replicas))
    policy = router("session-affinity", replicas, sessions)
    before = policy.act(observe(session_home=flags, in_flight=load))
    mask = np.arange(replicas) != lost
    after = policy.act(observe(session_home=flags, in_flight=load, mask=mask))
    assert (before == homes).all()
    moved = before != after
    assert (moved == (homes == lost)).all()
    assert abs(moved.mean() - 1 / replicas) < 0.02


def test_prefix_aware_takes_the_longest_match_whatever_the_load():
    observation = observe(prefix_sent=[0.2, 0.9, 0.5, 0.0], in_flight=[0, 200, 0, 0])
    assert choice("prefix-aware", observation, 4) == 1


def test_prefix_aware_is_random_among_equal_matches():
    observation = observe(prefix_sent=[[0.5, 0.1, 0.5, 0.5]] * 6000, mask=[1, 1, 1, 0])
    shares = np.bincount(router("prefix-aware", 4, 6000).act(observation), minlength=4) / 6000
    np.testing.assert_allclose(shares, [0.5, 0, 0.5, 0], atol=0.02)
    unmatched = observe(prefix_sent=[0, 0, 0], in_flight=[4, 1, 2])
    assert choice("prefix-aware", unmatched, 3, ties="least-requests") == 1


# --- llm-d -----------------------------------------------------------------------------------


def feasible(values) -> np.ndarray:
    return np.ones_like(values, bool)


@pytest.mark.parametrize(
    ("counts", "scores"),
    [([10, 5, 0], [0, 0.5, 1]), ([5, 5], [1, 1]), ([0, 0], [1, 1])],
)
def test_queue_scorer_is_the_sources_test(counts, scores):
    """Gateway API Inference Extension, scorer/queue_test.go."""
    counts = np.array([counts], float)
    np.testing.assert_allclose(fewest(counts, feasible(counts)), [scores])


def test_queue_scorer_ignores_infeasible_candidates():
    counts = np.array([[100.0, 4, 2, 0]])
    scores = fewest(counts, np.array([[False, True, True, False]]))
    np.testing.assert_allclose(scores[0, 1:3], [0, 1])


@pytest.mark.parametrize(
    ("counts", "scores"),
    [([0, 0, 0], [1, 1, 1]), ([3, 0, 6], [0.5, 1, 0]), ([4, 0, 1], [0, 1, 0.75])],
)
def test_active_request_scorer_is_the_sources_test(counts, scores):
    """llm-d, scorer/active_request_test.go."""
    counts = np.array([counts], float)
    np.testing.assert_allclose(active_requests(counts, feasible(counts)), [scores])


def test_load_aware_scorer_is_the_sources_test():
    """llm-d, scorer/load_aware_test.go: threshold 10."""
    np.testing.assert_allclose(load_aware(np.array([2.0, 0, 15]), 10), [0.4, 0.5, 0])


def test_token_load_scorer_is_the_documented_formula():
    tokens = np.array([0.0, 1_048_576, 4_194_304, 9e6])
    np.testing.assert_allclose(token_load(tokens), [1, 0.75, 0, 0])


def test_kv_scorer_is_the_sources_test():
    """kvcache_utilization_test.go: usage 0.8, 0.5, 0 -> 0.2, 0.5, 1."""
    policy = router("llm-d", 3, prefix=0, queue=0)
    score = policy.score(observe(kv_usage=[0.8, 0.5, 0.0]))
    np.testing.assert_allclose(score, [[0.2, 0.5, 1.0]], atol=1e-6)


def test_llmd_default_weights_by_hand():
    """2 prefix + queue + KV: 2*.9 + 0 + .2 = 2.0; 2*.5 + .5 + .6 = 2.1; 0 + 1 + .9 = 1.9."""
    observation = observe(prefix_sent=[0.9, 0.5, 0.0], waiting=[8, 4, 0], kv_usage=[0.8, 0.4, 0.1])
    policy = router("llm-d", 3)
    np.testing.assert_allclose(policy.score(observation), [[2.0, 2.1, 1.9]], atol=1e-6)
    assert policy.act(observation)[0] == 1
    assert choice("llm-d", observation, 3, prefix=5) == 0
    assert choice("llm-d", observation, 3, prefix=0) == 2


def test_llmd_options_read_their_columns():
    observation = observe(
        prefix_match=[0, 1, 0, 0],
        running=[3, 3, 0, 3],
        in_flight=[5, 5, 5, 0],
        in_flight_tokens=[0, 4e6, 4e6, 4e6],
        session_last=[0, 0, 0, 1],
        waiting=[0, 100, 100, 100],
    )
    off = {"prefix": 0, "queue": 0, "kv": 0}
    assert choice("llm-d", observation, 4, **off | {"prefix": 1}, precise=True) == 1
    assert choice("llm-d", observation, 4, **off, running=1) == 2
    assert choice("llm-d", observation, 4, **off, active=1) == 3
    assert choice("llm-d", observation, 4, **off, tokens=1) == 0
    assert choice("llm-d", observation, 4, **off, session=1) == 3
    assert choice("llm-d", observation, 4, **off, load=1) == 0


# --- Dynamo ----------------------------------------------------------------------------------


def test_dynamo_documented_example():
    """(prefill, decode) = (8, 10), (5, 5), (2, 9) cost 18, 10, 11: worker 2 of 1..3."""
    cost = kv_cost(np.array([8.0, 5, 2]), 0.0, np.array([10.0, 5, 9]))
    assert cost.tolist() == [18, 10, 11]
    assert cost.argmin() + 1 == 2


def test_dynamo_credit_scale_and_lmetric_by_hand():
    prefill, overlap, decode = np.array([8.0, 8, 3]), np.array([6.0, 0, 5]), np.array([10.0, 4, 7])
    assert kv_cost(prefill, overlap, decode).tolist() == [12, 12, 7]
    halved = kv_cost(prefill, overlap, decode, prefill_load_scale=2, overlap_credit=0.5)
    assert halved.tolist() == [2 * 5 + 10, 2 * 8 + 4, 2 * 0.5 + 7]
    assert lmetric_cost(prefill, overlap, decode).tolist() == [2 * 11, 8 * 5, 0]


def test_dynamo_reads_blocks_from_the_columns():
    """Prompt of 10 blocks; active prefill 20, 0; overlap 5, 0; decode 4, 30 blocks."""
    observation = observe(
        request_blocks=[10, 10],
        queued_tokens=[320, 0],
        prefix_match=[0.5, 0.0],
        in_flight_tokens=[64, 480],
    )
    cost = router("dynamo", 2).cost(observation)
    np.testing.assert_allclose(cost, [[20 + 10 - 5 + 4 + 10, 10 + 30 + 10]], rtol=1e-5)
    assert choice("dynamo", observation, 2) == 0
    # With decay 1: 20 blocks above the least loaded, twice the prompt: credit 1 / 3.
    decayed = router("dynamo", 2, overlap_credit_decay=1).cost(observation)
    np.testing.assert_allclose(decayed[0, 0], 44 - 5 / 3, rtol=1e-5)
    # lmetric: (20 + 10 - 5) * (14 + 1) = 375 against 10 * (40 + 1) = 410.
    lmetric = router("dynamo-lmetric", 2).cost(observation)
    np.testing.assert_allclose(lmetric, [[375, 410]], rtol=1e-5)


def test_dynamo_temperature_is_a_softmax_over_normalised_costs():
    """Costs 0, 3, 9 (the source's test): p ~ exp(-cost / (9 T)) with T = 1."""
    draws = 40_000
    observation = observe(in_flight_tokens=[[0, 48, 144]] * draws)
    actions = router("dynamo", 3, draws, temperature=1.0).act(observation)
    expected = np.exp([0, -1 / 3, -1])
    shares = np.bincount(actions, minlength=3) / draws
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.0075)


def test_dynamo_temperature_never_draws_the_infeasible():
    observation = observe(in_flight_tokens=[[0, 48, 144]] * 500, mask=[0, 1, 1])
    assert set(router("dynamo", 3, 500, temperature=5.0).act(observation)) == {1, 2}


# --- prediction --------------------------------------------------------------------------------


def test_capability_cost_by_hand():
    """w_c (work + prefill) / 1 s + w_m (used + reserved) / K, and overflow is rejected."""
    work, prefill = np.array([1.0, 4.0, 0.0]), np.array([0.2, 0.1, 0.4])
    share = np.array([0.9, 0.3, 1.2])
    np.testing.assert_allclose(capability_cost(work, prefill, share)[:2], [2.1, 4.4])
    assert capability_cost(work, prefill, share).argmin() == 0
    assert capability_cost(work, prefill, share, memory_weight=10).argmin() == 1
    everywhere_full = capability_cost(work, prefill, share + 1.0)  # 3.1, 5.4, 2.6 and a penalty
    assert everywhere_full.argmin() == 2


def test_capability_aware_prefers_the_replica_that_works_it_off_sooner():
    """A fast replica with more requests is better than a slow one with fewer."""
    observation = observe(
        in_flight=[12, 6],
        work_s=[2.0, 9.0],
        prefill_s=[0.05, 0.4],
        kv_usage=[0.5, 0.6],
        kv_demand=[0.01, 0.05],
    )
    assert choice("capability-aware", observation, 2) == 0
    assert choice("least-requests", observation, 2) == 1
    assert choice("capability-aware", observation, 2, compute_weight=0) == 0
    full = observe(work_s=[0.0, 9.0], kv_usage=[0.99, 0.1], kv_demand=[0.05, 0.05])
    assert choice("capability-aware", full, 2) == 1


def test_predicted_latency_by_hand():
    """0.5 + 0.1 + 200 * 0.01 = 2.6 s against 0 + 0.2 + 200 * 0.02 = 4.2 s; 10 tokens: 0.7, 0.4."""
    columns = {"wait_s": [0.5, 0.0], "prefill_s": [0.1, 0.2], "step_s": [0.01, 0.02]}
    score = router("predicted-latency", 2).score(observe(**columns))
    np.testing.assert_allclose(score, [[-2.6, -4.2]], rtol=1e-5)
    assert choice("predicted-latency", observe(**columns, estimate=10.0), 2) == 1


# --- every router --------------------------------------------------------------------------------


def arbitrary(rng: np.random.Generator, n: int, size: int) -> dict[str, np.ndarray]:
    """Any observation in bounds, ties and zeros included, at least one candidate feasible."""
    mask = rng.random((n, size)) < 0.4
    mask[np.arange(n), rng.integers(size, size=n)] = True
    values = np.round(rng.random((n, size, len(TABLES["candidates"]))) * 0.999, 1)
    return {
        "candidates": values.astype(np.float32).clip(0, 0.999),
        "queue": (rng.random((n, 2, len(TABLES["queue"]))) * 0.999).astype(np.float32),
        "action_mask": mask.astype(np.int8),
    }


@pytest.mark.parametrize("name", ROUTERS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), replicas=st.integers(1, 9), hold=st.booleans())
def test_every_action_is_feasible_and_holding_is_the_last_resort(name, seed, replicas, hold):
    rng = np.random.default_rng(seed)
    policy = baselines.make(name)
    policy.reset(pool(replicas), 7, seed=0)
    for _ in range(3):
        observation = arbitrary(rng, 7, replicas + hold)
        before = {key: value.copy() for key, value in observation.items()}
        action = policy.act(observation)
        assert action.shape == (7,)
        assert np.issubdtype(action.dtype, np.integer)
        assert observation["action_mask"][np.arange(7), action].all()
        some_replica = observation["action_mask"][:, :replicas].any(axis=1)
        assert (action[some_replica] < replicas).all()
        for key, value in before.items():  # an observation belongs to whoever made it
            np.testing.assert_array_equal(observation[key], value)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_batch_is_the_same_as_single_calls(name):
    rng, n = np.random.default_rng(0), 5
    batched = baselines.make(name)
    batched.reset(pool(6), n)
    single = [baselines.make(name) for _ in range(n)]
    for policy in single:
        policy.reset(pool(6), 1)
    for _ in range(20):
        observation = arbitrary(rng, n, 7)
        alone = [
            policy.act({key: value[i : i + 1] for key, value in observation.items()})[0]
            for i, policy in enumerate(single)
        ]
        assert batched.act(observation).tolist() == alone


@pytest.mark.parametrize("name", ROUTERS)
def test_same_seed_same_actions(name):
    def actions(seed: int) -> list[list[int]]:
        rng = np.random.default_rng(0)
        policy = baselines.make(name)
        policy.reset(pool(6), 4, seed)
        return [policy.act(arbitrary(rng, 4, 6)).tolist() for _ in range(10)]

    assert actions(11) == actions(11)


# --- registry --------------------------------------------------------------------------------


def test_names_and_kinds():
    assert len(ROUTERS) == len(set(ROUTERS)) == 14
    assert set(ROUTERS) < set(baselines.names())
    with pytest.raises(ValueError, match=r"no baselines of kind 'router'; kinds: .*routing"):
        baselines.names("router")


def test_unknown_name_suggests_the_closest():
    with pytest.raises(ValueError, match=r"'routing/least-request'; did you mean 'routing/least-"):
        baselines.make("routing/least-request")


def test_unknown_option_lists_the_accepted():
    with pytest.raises(ValueError, match=r"no option 'temp'; it accepts policy, .*temperature"):
        baselines.make("routing/dynamo", temp=1)
    with pytest.raises(ValueError, match=r"no option 'seed'; it accepts none"):
        baselines.make("routing/random", seed=1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("routing/dynamo", {"temperature": -1}, "temperature = -1 must be a finite number, 0 or"),
        ("routing/dynamo", {"temperature": "hot"}, "temperature = 'hot' must be a finite number"),
        ("routing/dynamo", {"policy": "best"}, "policy = 'best' must be 'kv' or 'lmetric'"),
        ("routing/llm-d", {"kv": float("nan")}, "kv = nan"),
        ("routing/power-of-two", {"choices": 0}, "choices = 0 must be a finite number, 1 or more"),
        ("routing/prefix-aware", {"ties": "first"}, "ties = 'first' must be"),
    ],
)
def test_bad_options_name_the_option_the_value_and_the_remedy(name, options, message):
    with pytest.raises(ValueError, match=message):
        baselines.make(name, **options)
