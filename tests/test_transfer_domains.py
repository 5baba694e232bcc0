"""The domain in which a KV transfer should stay: what routers see of it, and what they do."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_worlds import apart, make, small
from test_handover import request, run, trace_of

from gpuyard import baselines
from gpuyard.baselines.routing.dynamo import preferred_multiplier
from gpuyard.envs.engine.core.records import ROUTE
from gpuyard.envs.engine.serving.records import DECODE, HANDED, PREFILL
from gpuyard.envs.scenario import ScenarioError


def two_leafs(tmp_path, **changes):
    """Return a world of a prefill and two decode replicas on nodes of one GPU, two under a leaf."""
    one = "arrival_s,prompt_tokens,output_tokens\n10.0,1600,20\n"
    cluster = {
        "pools": [{"gpu": "A100-80", "nodes": 4, "gpus_per_node": 1}],
        "fabric": {"nodes_per_leaf": 2},
    }
    roles = [{"kind": "prefill"}, {"kind": "decode", "min": 2}]
    workload = trace_of(tmp_path, "one.csv", one)
    return make(
        small(
            apart("chat", roles=roles, workload=workload, max=2, **changes),
            cluster=cluster,
            jobs={"num_jobs": 1, "rate_per_h": 0.5, "max_gpus": 1},
            scaler={"interval_s": 0.0},
        )
    )


def at_the_decode_decision(tmp_path, **changes):
    env = two_leafs(tmp_path, **changes)
    is_due = lambda env: request(env)["stage"] == HANDED and env._world.clock["due"][0] == ROUTE  # noqa: E731
    run(env, is_due)
    return env, env._world.first_observation(env._outputs)


def router(env, name):
    """Return a rule for routes, ready for this world."""
    policy = baselines.make(f"compose:{name}+gang/fifo+scaling/fixed")
    policy.reset(env.scenario, 1, 0)
    return policy.parts["route"]


def leafs(env):
    """Return the leaf of each replica that has devices, -1 for the others."""
    gangs, specs = env._world.state["senders"][0], env._world.shared["replica_specs"]
    found = []
    for spec in specs:
        gpu = int(gangs["first_gpu"][spec["gang"]])
        for _ in range(int(spec["rank"])):
            gpu = int(env._world.state["gpu_next"][0, gpu])
        found.append(gpu // 2 if gpu >= 0 else -1)
    return np.array(found)


def test_routers_see_which_decode_replica_is_near(tmp_path):
    env, seen = at_the_decode_decision(tmp_path, transfer_preferred="leaf")
    specs, source = env._world.shared["replica_specs"], int(request(env)["source"])
    at = leafs(env)
    decoders = np.flatnonzero((specs["does"] == DECODE) & (at >= 0))
    assert len(set(at[decoders])) == 2, "one decode replica under each leaf"
    assert np.flatnonzero(seen["action_mask"]).tolist() == decoders.tolist(), "both may take it"
    near = env.layout.read(seen, "candidates", "transfer.near")
    np.testing.assert_array_equal(near[decoders], at[decoders] == at[source])
    assert not near[np.flatnonzero(specs["does"] == PREFILL)].any(), "no candidates now"


def test_near_ones_come_first_and_cost_less(tmp_path):
    env, seen = at_the_decode_decision(tmp_path, transfer_preferred="leaf")
    batch = {key: np.array(values)[None] for key, values in seen.items()}
    column = env.layout.index("candidates", "transfer.near")
    near, far = (int(np.flatnonzero((batch["candidates"][0, :, column] == flag)
                 & (batch["action_mask"][0] == 1))[0]) for flag in (1, 0))  # fmt: skip
    busy = env.layout.index("candidates", "route.in_flight")
    batch["candidates"][0, near, busy] = 0.9  # as if the near one had far more to do
    for name in ("routing/least-requests", "routing/predicted-ttft"):
        assert router(env, name).act(batch)[0] == near
    costs = [
        router(env, f"routing/dynamo?preferred_weight={weight}").cost(batch)[0]
        for weight in (0.0, 0.85)
    ]
    assert costs[1][near] == pytest.approx(0.50104 * costs[0][near], rel=1e-5)
    assert costs[1][far] == costs[0][far]


def test_the_weight_of_a_preferred_domain():
    """exp(-tanh(w)), by hand."""
    assert preferred_multiplier(0.0) == 1.0
    assert preferred_multiplier(0.85) == pytest.approx(0.5010399, abs=1e-6)
    assert preferred_multiplier(1.0) == pytest.approx(0.4669215, abs=1e-6)
    with pytest.raises(ValueError, match=r"preferred_weight = 1\.5 must be at most 1"):
        baselines.make("routing/dynamo", preferred_weight=1.5)


def test_without_a_preference_nobody_has_the_column(tmp_path):
    env = two_leafs(tmp_path)
    assert "transfer.near" not in env.layout.names("candidates")


def test_bad_preferences_are_refused():
    with pytest.raises(ScenarioError, match="transfer_preferred = 'rack' must be one of"):
        small(apart("chat", transfer_preferred="rack"))
    wanted = r"deployments\[0\]: transfer_preferred = 'pod' must not be wider than transfer_req"
    with pytest.raises(ScenarioError, match=wanted):
        small(apart("chat", transfer_preferred="pod", transfer_required="leaf"))
