"""What holds for all routers: feasible actions, batches, seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_observations import LAYOUT, pool

from gpuyard import baselines

ROUTERS = baselines.names("routing")

# Those that break ties or draw at random are not the same call for call in batches.
STOCHASTIC = {
    "routing/random",
    "routing/power-of-two",
    "routing/prefix-aware",
    "routing/llm-d",
}

DETERMINISTIC = [name for name in ROUTERS if name not in STOCHASTIC]


def arbitrary(rng: np.random.Generator, n: int, size: int) -> dict[str, np.ndarray]:
    """Any observation in bounds, ties and zeros included, at least one candidate feasible."""
    mask = rng.random((n, size)) < 0.4
    mask[np.arange(n), rng.integers(size, size=n)] = True
    values = np.round(rng.random((n, size, len(LAYOUT.columns("candidates")))) * 0.999, 1)
    cluster = np.zeros((n, len(LAYOUT.columns("cluster"))), np.float32)
    cluster[:, LAYOUT.index("cluster", "kind_route")] = 1
    return {
        "cluster": cluster,
        "candidates": values.astype(np.float32).clip(0, 0.999),
        "queue": (rng.random((n, 2, len(LAYOUT.columns("queue")))) * 0.999).astype(np.float32),
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
