"""Topology planners in the environment: every plan is accepted, and tight rules stay tight."""

import gymnasium as gym
import numpy as np
import pytest
from placement_worlds import small

from gpuyard import baselines

NUM_ENVS, NUM_JOBS = 2, 40
TWO_POOLS = {
    "pools": [
        {"gpu": "V100-32", "nodes": 12, "gpus_per_node": 4, "nics_per_node": 4},
        {"gpu": "A100-80", "nodes": 8, "gpus_per_node": 4, "nics_per_node": 4},
    ]
}


@pytest.fixture(scope="module")
def env():
    """Busy enough that gangs queue; nodes fail."""
    jobs = {"num_jobs": NUM_JOBS, "load": 1.2}
    scenario = small(jobs=jobs, faults={"node_mtbf_h": 200.0, "repair_h": 1.0})
    return gym.make_vec(
        "gpuyard/Placement-v0", num_envs=NUM_ENVS, scenario=scenario, autoreset_mode="Disabled"
    )


def play(env, name, **options):
    """Play one episode in every world; return the final infos and the tables of jobs."""
    policy = baselines.make(name, **options)
    policy.reset(env.unwrapped.scenario, NUM_ENVS, seed=0)
    policy.attach(env)
    observation, info = env.reset(seed=3)
    done = np.zeros(NUM_ENVS, bool)
    while not done.all():
        observation, _, terminated, truncated, info = env.step(policy.act(observation))
        done |= terminated | truncated
    return info, [env.unwrapped.results(index)["jobs"] for index in range(NUM_ENVS)]


@pytest.mark.parametrize("name", baselines.names("topology"))
def test_every_plan_is_accepted_and_every_job_ends(env, name):
    info, tables = play(env, name)
    assert info["finished"].tolist() == [NUM_JOBS] * NUM_ENVS
    assert not info["invalid_actions"].any()
    for table in tables:
        assert (table["nodes"] == -(-table["gpus"] // 4)).all()


@pytest.mark.parametrize("name", ["topology/kai", "topology/slurm-tree", "topology/kueue-tas"])
def test_tight_rules_span_fewer_leafs_than_drawing_among_equals(env, name):
    def leafs(rule):
        return np.mean([table["leafs"].mean() for table in play(env, rule)[1]])

    assert leafs(name) < leafs("topology/kubernetes-binpack")


def test_small_pods_fill_holes(env):
    """Pods of one GPU start as soon as there are GPUs, wherever they are."""
    _, tables = play(env, "topology/kubernetes-spread", pod_gpus=1)
    assert any((table["nodes"] > -(-table["gpus"] // 4)).any() for table in tables)


def test_pools_of_different_speed_and_memory_serve_all_jobs():
    scenario = small(cluster=TWO_POOLS, jobs={"num_jobs": NUM_JOBS, "load": 1.2})
    env = gym.make_vec(
        "gpuyard/Placement-v0", num_envs=NUM_ENVS, scenario=scenario, autoreset_mode="Disabled"
    )
    info, _ = play(env, "topology/kai")
    assert info["finished"].tolist() == [NUM_JOBS] * NUM_ENVS
    assert not info["invalid_actions"].any()
    env.reset(seed=3)
    view = env.unwrapped.view(0)  # the first job, on an empty cluster
    first = baselines.make("topology/kai").plan(view).gpus[0] // view.cluster.gpus_per_node
    assert view.cluster.node_pool[first] == view.speeds[0].argmax() == 1
