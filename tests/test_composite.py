"""One policy made of several: whose turn it is, what the others remember, what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from cluster_worlds import service
from cluster_worlds import small as cluster_of
from placement_worlds import small
from routing_observations import LAYOUT, pool, router

from gpuyard import baselines
from gpuyard.baselines import Composite, Policy
from gpuyard.envs.observation import Layout
from gpuyard.envs.scenario import load
from gpuyard.evaluation.rollout import rollout

JOINT = Layout({"route", "place"})
REPLICAS, GANGS = 3, 2
ROWS = REPLICAS + GANGS + 2


def joint(replicas: int = REPLICAS) -> SimpleNamespace:
    """A scenario with replicas and gangs."""
    world = pool(replicas)
    world.name, world.decisions, world.layout = "joint", frozenset({"route", "place"}), JOINT
    return world


def observe(kinds: list[str], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Worlds in which such a decision is due (or none: ""): replicas or gangs are feasible."""
    n = len(kinds)
    widths = {key: len(JOINT.columns(key)) for key in ("cluster", "queue", "candidates")}
    observation = {
        "cluster": np.zeros((n, widths["cluster"]), np.float32),
        "queue": np.zeros((n, 2, widths["queue"]), np.float32),
        "candidates": np.zeros((n, ROWS, widths["candidates"]), np.float32),
        "action_mask": np.zeros((n, ROWS), np.int8),
    }

    def write(key: str, name: str, at: tuple, value) -> None:
        observation[key][(*at, JOINT.index(key, name))] = value

    for i, kind in enumerate(kinds):
        if kind == "route":
            for name in ("route.in_flight", "route.capacity", "route.waiting"):
                write("candidates", name, (i, slice(REPLICAS)), rng.random(REPLICAS) * 0.9)
            observation["action_mask"][i, :REPLICAS] = 1
        if kind == "place":
            write("candidates", "place.is_place", (i, slice(GANGS)), 1)
            write("candidates", "place.position", (i, slice(GANGS)), [0, 0.1])
            write("candidates", "place.estimate_s", (i, slice(GANGS)), rng.random(GANGS) * 0.9)
            write("candidates", "place.is_wait", (i, -2), 1)
            observation["action_mask"][i, [*range(GANGS), -2]] = 1
        if kind:
            write("cluster", f"kind_{kind}", (i,), 1)
    return observation


def test_each_decision_goes_to_its_policy():
    """By hand: least requests of three replicas, the shorter of two gangs."""
    policy = baselines.make("compose:routing/least-requests+gang/sjf")
    assert policy.decides == {"route", "place"}
    policy.reset(joint(), 3)
    observation = observe(["route", "place", ""], np.random.default_rng(0))
    flying = JOINT.index("candidates", "in_flight")
    observation["candidates"][0, :REPLICAS, flying] = [0.5, 0.2, 0.4]
    observation["candidates"][1, :GANGS, JOINT.index("candidates", "estimate_s")] = [0.6, 0.3]
    observation["action_mask"][2, 4] = 1  # nothing is due there: any feasible row will do
    assert policy.act(observation).tolist() == [1, 1, 4]
    lessons = policy.lessons(observation, env=None)
    assert np.argwhere(lessons).tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize("name", baselines.names("routing"))
def test_a_router_in_a_composite_acts_as_it_does_alone(name):
    """World 0 routes at every second decision: that its turns and draws pass by is not seen."""
    composite = Composite(route=baselines.make(name), place=baselines.make("gang/fifo"))
    composite.reset(joint(), 1, seed=3)
    alone = router(name.removeprefix("routing/"), REPLICAS, seed=3)
    rng = np.random.default_rng(1)
    for turn in range(12):
        kind = "route" if turn % 2 else "place"
        observation = observe([kind], rng)
        action = composite.act(observation)
        assert observation["action_mask"][0, action[0]]
        if kind == "route":
            own = {
                key: observation[key][..., [JOINT.names(key).index(n) for n in LAYOUT.names(key)]]
                for key in ("cluster", "queue", "candidates")
            }
            mask = observation["action_mask"]
            assert action == alone.act({**own, "action_mask": mask})


@pytest.mark.parametrize("name", ["round-robin", "weighted-round-robin"])
def test_turns_do_not_pass_while_another_decision_is_due(name):
    """Two worlds side by side: in one of them gangs are placed now and then."""
    policy = baselines.make(f"compose:routing/{name}+gang/fifo")
    policy.reset(joint(), 2)
    rng = np.random.default_rng(0)
    taken: list[list[int]] = [[], []]
    while min(map(len, taken)) < 9:
        kinds = ["route", rng.choice(["route", "place"])]
        observation = observe(kinds, rng)
        capacity = JOINT.index("candidates", "capacity")
        observation["candidates"][:, :REPLICAS, capacity] = [0.9, 0.6, 0.3]
        for world, action in enumerate(policy.act(observation)):
            if kinds[world] == "route":
                taken[world].append(int(action))
    assert taken[0][:9] == taken[1][:9]


class Anything(Policy):
    """Decides all kinds, as it says nothing of them; notes what it is told."""

    def reset(self, scenario, num_envs, seed=0):
        super().reset(scenario, num_envs, seed)
        self.told = scenario.decisions, scenario.name, num_envs, seed
        self.ended: list = []

    def restart(self, done):
        self.ended.append(done)

    def attach(self, env):
        self.env = env

    def act(self, observation):
        return observation["action_mask"].argmax(axis=1)


def test_parts_are_told_of_their_own_decisions_and_of_everything_else():
    route, place, scale = Anything(), Anything(), Anything()
    policy = Composite(route=route, place=place, scale=scale)
    assert policy.decides == {"route", "place", "scale"}
    policy.reset(joint(), 4, seed=7)
    policy.attach("env")
    policy.restart(np.array([True]))
    assert route.told == (frozenset({"route"}), "joint", 4, 7)
    assert place.told == (frozenset({"place"}), "joint", 4, 7)
    for part in (route, place):
        assert part.env == "env" and len(part.ended) == 1 and part.layout == JOINT
    assert not hasattr(scale, "told") and not hasattr(scale, "env")  # nobody asks for it here


def test_what_does_not_fit_is_refused():
    fifo, same = baselines.make("gang/fifo"), Anything()
    with pytest.raises(ValueError, match="FIFO does not decide route"):
        Composite(route=fifo)
    with pytest.raises(ValueError, match="one policy or more, each an object of its own"):
        Composite()
    with pytest.raises(ValueError, match="each an object of its own"):
        Composite(route=same, place=same)
    with pytest.raises(ValueError, match="Composite decides place, but scenario 'joint' asks for"):
        Composite(place=fifo).reset(joint(), 1)
    with pytest.raises(ValueError, match="two of its baselines decide place"):
        baselines.make("compose:gang/fifo+gang/sjf")
    with pytest.raises(ValueError, match="did you mean 'gang/sjf'"):
        baselines.make("compose:routing/dynamo+gang/sfj")
    with pytest.raises(ValueError, match="takes no options"):
        baselines.make("compose:routing/dynamo+gang/sjf", temperature=1.0)
    assert baselines.decides("compose:routing/dynamo+gang/sjf") == {"route", "place"}


@pytest.mark.parametrize(
    ("name", "scenario"),
    [
        ("routing/round-robin", load("routing-default")),
        ("gang/sjf", small()),
        ("gang/easy-backfill", small()),
    ],
)
def test_in_todays_worlds_a_composite_is_its_part(name, scenario):
    """Both parts are there; the one that nobody asks for rests."""
    other = "gang/sjf" if name.startswith("routing/") else "routing/dynamo"
    seeds = np.arange(2)
    alone = rollout("a", baselines.make(name), scenario, seeds)
    composed = rollout("b", baselines.make(f"compose:{name}+{other}"), scenario, seeds)
    for key, values in alone.metrics.items():
        np.testing.assert_array_equal(composed.metrics[key], values, err_msg=key)


def test_planners_find_their_row_where_more_replicas_than_plans_are_candidates():
    fleet = service("chat", max=24)
    world = cluster_of(fleet, scheduler={"window": 1})
    policy = baselines.make("compose:routing/dynamo+gang/easy-backfill+scaling/fixed")
    env = gym.make("gpuyard/Cluster-v0", scenario=world)
    policy.reset(world, 1)
    policy.attach(env)
    observation, done = env.reset(seed=0)[0], False
    while not done:
        observation, _, done, _, _ = env.step(int(policy.act(observation)))
    assert env.action_space.n == 24  # a request has more candidates than a gang
    assert env.unwrapped.view().refused == 0
    assert np.isfinite(env.unwrapped.results()["jobs"]["finish_s"]).all()
