"""A replica steps at the pace of the links between its ranks, which placement decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cluster_worlds import make, service, small

from gpuyard.envs.cluster_view import Plan
from gpuyard.envs.parts.serving import build_static
from gpuyard.envs.perf import tabulate
from gpuyard.envs.perf.serving.collectives import all_reduce_s
from gpuyard.envs.perf.serving.drafting import draft_table
from gpuyard.envs.perf.serving.iteration import step_s
from gpuyard.envs.scenario import Scenario

NODES = ((0, 1, 2, 3), (4, 8, 5, 9), (10, 12, 13, 14))
"""GPUs of three replicas in rank order, on nodes of four: on one, on two each, one and three."""
FEWEST = (4, 2, 1)


def world(**changes) -> Scenario:
    """Three replicas of four GPUs, and a job of one."""
    quiet = {"preset": "chat", "num_requests": 18, "rate_per_s": 0.1, "max_tokens": 512}
    return small(
        service("chat", tp=4, initial=3, max=3, workload=quiet, **changes),
        cluster={
            "pools": [{"gpu": "A100-80", "nodes": 4, "gpus_per_node": 4, "nic_gbit": 100}],
            "fabric": {"nodes_per_leaf": 4},
        },
        jobs={"num_jobs": 1, "max_gpus": 1},
        scaler={"interval_s": 0.0},
    )


@pytest.fixture(scope="module")
def played():
    """An episode in which requests go from replica to replica, seldom two at a time.

    With the seconds that were predicted for the prompt of each, and the environment.
    """
    env = make(world())
    observation, _ = env.reset(seed=1)
    predicted, placed, turn, done = {}, 0, 0, False
    while not done:
        choices = np.flatnonzero(env.action_masks())
        action = int(choices[0])
        if observation["cluster"][0] > 0:  # a request is to be routed
            action = int(choices[turn % len(choices)])
            turn += 1
            index = int(env._world.state["router"]["deciding"][0])
            seconds = env.layout.read(observation, "candidates", "route.prefill_s")
            predicted[index] = float(seconds[action])
        elif placed < len(NODES):
            gang = int(env._world.shared["replica_specs"]["gang"][placed])
            env.propose(Plan(gang, np.array(NODES[placed])))
            action = env.action_space.n - 1
            placed += 1
        observation, _, done, truncated, _ = env.step(action)
        assert not truncated
    return env, predicted


def table(env, fewest: int):
    """The costs of a replica with at most so many GPUs on a node, by 100G NICs as the pool has."""
    d = env.scenario.replicas[0].deployment
    assert d.gpu.nic_bytes_per_s == 12.5e9
    return tabulate(replace(d, node_gpus=fewest))


def test_the_rows_of_where_gangs_lie(played):
    env, _ = played
    owner, specs = env._world.state["gpu_owner"][0], env._world.shared["replica_specs"]
    for gang, gpus in zip(specs["gang"], NODES, strict=True):
        assert set(np.flatnonzero(owner == gang)) == set(gpus)
    assert env._world.state["replicas"]["kind"][0].tolist() == [0, 1, 2]
    for row, fewest in enumerate(FEWEST):
        costs = table(env, fewest)
        assert (env._world.shared["linear_s"][row, : len(costs.linear_s)] == costs.linear_s).all()


def test_links_set_the_pace(played):
    """Of requests that were alone: the prompt's time, and that of all tokens after the first."""
    env, _ = played
    requests = env.results()["requests"]
    checked = set()
    for i, on in enumerate(requests["replica"]):
        same = requests["replica"] == on
        others = same & (np.arange(len(same)) != i)
        apart = (requests["finish_s"] < requests["arrival_s"][i]) | (
            requests["arrival_s"] > requests["finish_s"][i]
        )
        if not apart[others].all() or requests["cached_tokens"][i]:
            continue
        costs, deployment = table(env, FEWEST[on]), env.scenario.replicas[on].deployment
        prompt, output = (int(requests[name][i]) for name in ("prompt_tokens", "output_tokens"))
        steps_s = sum(step_s(costs, 1, prompt + k) for k in range(output - 1))
        measured_s = requests["finish_s"][i] - requests["first_token_s"][i]
        assert measured_s == pytest.approx(steps_s, rel=1e-3)
        ttft_s = requests["first_token_s"][i] - requests["arrival_s"][i]
        expected_s = deployment.frontend_ms * 1e-3 + step_s(costs, 0, 0, [(prompt, 0)])
        assert ttft_s == pytest.approx(expected_s, rel=1e-6)
        checked.add(int(on))
    assert checked == {0, 1, 2}


def test_what_the_links_cost_by_hand(played):
    """64 all-reduces of 8 KB: 6.8 + 2 (1 + 5) us on two nodes of two, and the ways to the rings."""
    env, _ = played
    near, far = table(env, 4), table(env, 2)
    size = 2 * 4096
    ring_s = 18.8e-6 + 50e-6 * (1 - np.exp(-size / 1e6)) + 100e-6 * (1 - np.exp(-size / 12e6))
    ring_s += 2 * 3 / 4 * size / (2 * 0.96 * 12.5e9)
    inside_s = float(all_reduce_s(size, 4, env.scenario.replicas[0].deployment.gpu))
    more_s = far.linear_s[1] - near.linear_s[1]
    assert more_s == pytest.approx(64 * (ring_s - inside_s), rel=1e-3)
    assert more_s == pytest.approx(1.1e-3, rel=0.1)  # on top of 5.6 ms a token


def test_predictions_know_the_links(played):
    """The router's estimate of a prompt's time is that of the links that the replica has."""
    env, predicted = played
    requests = env.results()["requests"]
    checked = set()
    for i, seconds in predicted.items():
        if requests["cached_tokens"][i] == 0:
            on, prompt = int(requests["replica"][i]), int(requests["prompt_tokens"][i])
            expected = step_s(table(env, FEWEST[on]), 0, 0, [(prompt, 0)])
            assert seconds == pytest.approx(expected, rel=1e-4)
            checked.add(on)
    assert checked == {0, 1, 2}


def test_a_required_node_has_no_rows_of_other_links():
    assert len(make(world(required="node"))._world.shared["costs"]) == 1
    assert len(make(world())._world.shared["costs"]) == 3


def test_a_draft_steps_at_the_pace_of_the_same_links() -> None:
    scenario = world(speculation={"kind": "eagle"})
    static, deployment = build_static(scenario), scenario.replicas[0].deployment
    for row, fewest in enumerate(FEWEST):
        draft = draft_table(replace(deployment, node_gpus=fewest))
        assert draft is not None
        place = row + int(static.replica_specs["draft_rows"][0])
        assert static.costs[place] == draft.coefficients
        np.testing.assert_array_equal(static.linear_s[place][: len(draft.linear_s)], draft.linear_s)
    assert len(static.costs) == 2 * len(FEWEST)
