"""Objectives of each deployment's own, and what is told of each service."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_worlds import make, play, service, small

from gpuyard.envs.rules import SLO
from gpuyard.envs.scenario import ScenarioError
from gpuyard.evaluation.requests import attained, request_metrics
from gpuyard.evaluation.rollout import rollout

STRICT = {"ttft_s": 1e-6}  # nobody is so quick
EASY = {"ttft_s": 1e4, "tpot_s": 1e4}
WORLD = small(service("chat", slo=STRICT), service("code", slo=EASY), name="objectives")


def test_what_a_deployment_leaves_out_is_the_scenarios():
    assert WORLD.objectives == (SLO(1e-6, WORLD.slo.tpot_s), SLO(1e4, 1e4))
    assert small(service("chat"), slo={"ttft_s": 3.0}).objectives == (SLO(3.0, 0.05),)


def test_each_service_is_held_to_its_own_objectives():
    env = make(WORLD)
    info = play(env, 0)
    assert info["slo_attainment/service=chat"] == 0 == info["goodput/service=chat"]
    assert info["slo_attainment/service=code"] == 1
    assert info["goodput/service=code"] == pytest.approx(60 / info["time_s"])
    assert info["slo_attainment"] == pytest.approx(0.5), "60 requests each"
    table = env.results()["requests"]
    assert np.bincount(table["service"]).tolist() == [60, 60]
    assert attained(table, *WORLD.objectives).tolist() == (table["service"] == 1).tolist()


def test_a_request_shows_the_objectives_of_its_service():
    env, seen = make(WORLD), set()

    def look(env, observation):
        if observation["cluster"][0] > 0:
            index = int(env._world.state["router"]["deciding"][0])
            ttft_s = env.layout.read(observation, "queue", "route.ttft_slo_s")[0]
            seen.add(
                (int(env._world.state["requests"]["service"][0, index]), round(float(ttft_s), 4))
            )

    play(env, 0, look)
    assert {of for of, _ in seen} == {0, 1}
    assert all(ttft_s < 1e-3 if of == 0 else ttft_s > 9e3 for of, ttft_s in seen)


def test_results_tell_services_apart():
    from gpuyard import baselines

    policy = baselines.make("compose:routing/least-requests+gang/fifo-first-fit+scaling/fixed")
    numbers = rollout("", policy, WORLD, np.array([1]), num_envs=1).metrics
    assert numbers["slo_attainment/service=chat"][0] == 0
    assert numbers["slo_attainment/service=code"][0] == 1
    assert numbers["goodput"][0] == pytest.approx(numbers["goodput/service=code"][0])


def test_two_services_by_hand():
    """Ten requests each, one a second; those of the second service wait for 2 s."""
    arrival_s = np.arange(20.0)
    of = np.arange(20) % 2
    table = {
        "arrival_s": arrival_s,
        "first_token_s": arrival_s + np.where(of == 0, 0.1, 2.0),
        "finish_s": arrival_s + 3.0,
        "prompt_tokens": np.full(20, 10),
        "output_tokens": np.full(20, 1),
        "cached_tokens": np.zeros(20, int),
        "priority": np.zeros(20),
        "service": of,
    }
    strict, easy = SLO(1.0, 1.0), SLO(5.0, 1.0)
    one = request_metrics(table, strict, strict, services=("a", "b"))
    assert one["slo_attainment/service=a"] == 1 and one["slo_attainment/service=b"] == 0
    assert one["ttft_mean_s/service=b"] == pytest.approx(2.0)
    assert one["goodput/service=b"] == 0 and one["goodput/service=a"] == one["goodput"] > 0
    two = request_metrics(table, strict, easy, services=("a", "b"))
    assert two["slo_attainment"] == 1
    total = two["goodput/service=a"] + two["goodput/service=b"]
    assert total == pytest.approx(two["goodput"])
    alone = request_metrics({**table, "service": np.zeros(20, int)}, strict, services=("a",))
    assert not [key for key in alone if "service=" in key], "of one there is nothing to tell apart"


@pytest.mark.parametrize(
    ("slo", "says"),
    [
        ({"ttft_s": -1.0}, r"deployments\[0\].slo.ttft_s = -1"),
        ({"ttft": 1.0}, "ttft"),
        (3.0, "slo"),
    ],
)
def test_bad_objectives_are_refused(slo, says):
    with pytest.raises(ScenarioError, match=says):
        small(service("chat", slo=slo))
