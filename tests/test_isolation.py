"""vClos and OCS-vClos against hand-solved examples, brute force and the isolation property."""

from itertools import combinations, product

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isolation_worlds import World, leafs_and_spines, shared_links

from gpuyard import baselines
from gpuyard.baselines.isolation.leafs import choose_leafs, shapes, sub_leaf_limit
from gpuyard.baselines.isolation.links import choose_links, fewest_ports
from gpuyard.baselines.isolation.servers import buddy_block, enough_servers, single_leaf, split
from gpuyard.baselines.isolation.single_spine import single_spine
from gpuyard.baselines.isolation.solver import Solver
from gpuyard.envs.scenario import from_dict

EXACT = Solver(time_limit_s=20.0, mip_gap=0.0)
seeds = st.integers(0, 10**6)


def bits(text):
    return np.array([c == "1" for c in text])


# step 0 and 1


def test_gpus_are_not_enough_without_whole_servers():
    free = np.array([3, 3, 4])
    assert enough_servers(free, 4, 4) and not enough_servers(free, 8, 4)
    assert enough_servers(free, 3, 4) and not enough_servers(free, 11, 4)


@pytest.mark.parametrize(
    ("free", "count", "expected"),
    [
        ("1011", 1, [0]),  # the pair 2, 3 stays whole
        ("1011", 2, [2, 3]),
        ("0110", 2, None),  # two free GPUs that are no pair
        ("11110011", 2, [6, 7]),  # the four stay whole
        ("11110011", 3, [0, 1, 2]),
        ("1111", 4, [0, 1, 2, 3]),
    ],
)
def test_buddy_groups(free, count, expected):
    found = buddy_block(bits(free), count)
    assert (None if found is None else found.tolist()) == expected


def test_a_gang_is_split_over_twice_as_many_servers():
    free = np.array([bits("1100"), bits("0011"), bits("1110")])
    assert [(s, b.tolist()) for s, b in split(free, 4)] == [(0, [0, 1]), (1, [2, 3])]
    assert [(s, b.tolist()) for s, b in split(free, 2)] == [(0, [0, 1])]
    assert split(free, 8) is None


def test_the_fullest_leaf_that_fits_is_taken():
    free = np.ones((6, 4), bool)  # three leafs of two servers
    free[0] = free[2, :2] = False  # 4, 6 and 8 free GPUs
    leaf = np.repeat([0, 1, 2], 2)
    for size, servers in [(4, [1]), (2, [1]), (8, [4, 5])]:
        assert [server for server, _ in single_leaf(free, leaf, size)] == servers
    assert single_leaf(free, leaf, 9) is None


# shapes and ILP-A


def test_shapes_of_the_study():
    static = dict(server_gpus=4, leaf_gpus=64, leafs=128, uplinks=64)
    assert list(shapes(512, **static))[:3] == [(8, 64), (16, 32), (32, 16)]
    assert list(shapes(192, **static)) == [(3, 64), (6, 32), (12, 16), (24, 8), (48, 4), (96, 2)]
    assert next(shapes(384, **static)) == (6, 64)  # odd part 3 is too few leafs
    assert next(shapes(64, **static)) == (2, 32)
    optical = dict(server_gpus=4, leaf_gpus=32, leafs=256, uplinks=32)
    assert next(shapes(512, **optical)) == (16, 32) and next(shapes(192, **optical)) == (6, 32)


@pytest.mark.parametrize("size", [67, 97, 131, 509, 66])
def test_sizes_that_fill_no_servers_have_no_shape(size):
    assert not list(shapes(size, server_gpus=4, leaf_gpus=64, leafs=128, uplinks=64))


def test_the_tightest_leafs_are_taken():
    empty = np.array([16, 8, 9, 16, 8])
    limit = sub_leaf_limit(empty, np.full(5, 64), 32, 4, parallel=1)
    assert limit.tolist() == [1, 1, 1, 1, 1]
    assert choose_leafs(empty, limit, 3, 32, 4, EXACT).tolist() == [0, 1, 1, 0, 1]
    assert choose_leafs(empty, limit, 6, 32, 4, EXACT) is None


def test_one_leaf_with_room_for_all_beats_two_tight_ones():
    # four sub-leafs of 8 GPUs: leafs with 5 + 4 empty servers, or the one with 8
    empty = np.array([5, 8, 4])
    limit = sub_leaf_limit(empty, np.full(3, 32), 8, 4, parallel=32)
    assert limit.tolist() == [2, 4, 2]
    assert choose_leafs(empty, limit, 4, 8, 4, EXACT).tolist() == [0, 4, 0]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=5),
    st.integers(2, 8),
    st.sampled_from([2, 4, 8]),
)
def test_leafs_against_brute_force(empty, sub_leafs, spines):
    empty, g = np.array(empty), 4
    limit = sub_leaf_limit(empty, np.full(len(empty), 24), spines, g, parallel=24)
    choices = [
        np.array(taken)
        for taken in product(*(range(most + 1) for most in limit))
        if sum(taken) == sub_leafs and all(t * spines % g == 0 for t in taken)
    ]
    found = choose_leafs(empty, limit, sub_leafs, spines, g, EXACT)
    if not choices:
        assert found is None
        return
    assert any((found == each).all() for each in choices)
    assert empty[found > 0].sum() == min(empty[each > 0].sum() for each in choices)


# ILP-B


def links_exist(free, sub_leafs, ports):
    """Search for links of every leaf to every spine, depth first."""
    wants = [
        (i, j) for i in range(len(free)) for j in range(len(ports)) for _ in range(sub_leafs[i])
    ]

    def search(at, free, ports):
        if at == len(wants):
            return True
        i, j = wants[at]
        for k in np.flatnonzero(free[i] & (ports[j] > 0)):
            free[i, k] = False
            ports[j, k] -= 1
            if search(at + 1, free, ports):
                return True
            free[i, k] = True
            ports[j, k] += 1
        return False

    return search(0, free.copy(), ports.copy())


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_links_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    leafs, uplinks, spines = rng.integers(2, 4), rng.integers(3, 5), rng.integers(2, 5)
    free = rng.random((leafs, uplinks)) < 0.8
    sub_leafs = rng.integers(0, 2, leafs)
    ports = rng.integers(0, 3, (spines, uplinks))
    wanted = int(rng.integers(1, 3))
    if sub_leafs.sum() == 0:
        return
    spine_free = ports.sum(axis=1)
    costs = [
        spine_free[list(chosen)].sum()
        for chosen in combinations(range(spines), wanted)
        if links_exist(free, sub_leafs, ports[list(chosen)])
    ]
    found = choose_links(free, sub_leafs, ports, spine_free, wanted, EXACT)
    if not costs:
        assert found is None
        return
    assert spine_free[found.spine].sum() == min(costs)
    assert len(set(found.spine.tolist())) == wanted  # one link per sub-leaf and spine
    assert found.uplink.shape == (sub_leafs.sum(), wanted)
    leaf = np.repeat(np.arange(leafs), sub_leafs)
    links = [(i, k) for i, row in zip(leaf, found.uplink, strict=True) for k in row]
    assert len(set(links)) == len(links) and all(free[i, k] for i, k in links)
    taken = np.zeros_like(ports)
    np.add.at(taken, (np.tile(found.spine, len(leaf)), found.uplink.ravel()), 1)
    assert (taken <= ports).all()


def test_fixed_links_take_the_fullest_spines():
    free = np.ones((3, 4), bool)  # uplink k ends at spine k
    free[2, 0] = False
    ports = 3 * np.eye(4, dtype=int)
    found = choose_links(free, np.array([1, 1, 0]), ports, np.array([2, 3, 3, 1]), 2, EXACT)
    assert found.spine.tolist() == [0, 3] and found.uplink.tolist() == [[0, 3], [0, 3]]
    assert choose_links(free, np.array([1, 1, 1]), ports, np.array([2, 3, 3, 1]), 4, EXACT) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 9)), min_size=1, max_size=4),
    st.sampled_from([1, 2, 4, 6, 8]),
)
def test_virtual_spines_against_brute_force(spines, width):
    cost, parts = (np.array(each) for each in zip(*spines, strict=True))
    shares = [0] + [share for share in (1, 2, 4, 8) if width % share == 0]
    costs = [
        cost[np.array(divided) > 0].sum()
        for divided in product(shares, repeat=len(cost))
        if sum(divided) == width and (np.array(divided) <= parts).all()
    ]
    found = fewest_ports(cost, parts, width)
    if not costs:
        assert found is None
    else:
        assert found.sum() == width and (found <= parts).all()
        assert cost[found > 0].sum() == min(costs)


def test_wholly_free_leafs_fill_few_spines():
    # 16 leafs of 32 uplinks and spines of 64 ports, as in the study: 512 links are 8 whole spines
    free, ports = np.ones((16, 32), bool), np.full((128, 32), 2)
    spine_free = ports.sum(axis=1)
    found = choose_links(free, np.ones(16, int), ports, spine_free, 32, EXACT, most=32)
    assert len(set(found.spine.tolist())) == 8
    taken = np.zeros_like(ports)
    np.add.at(taken, (np.tile(found.spine, 16), found.uplink.ravel()), 1)
    assert taken.max() == 2 and taken.sum() == 512
    undivided = choose_links(free, np.ones(16, int), ports, spine_free, 32, EXACT, most=1)
    assert len(set(undivided.spine.tolist())) == 32


def test_a_spine_with_few_ports_left_is_one_virtual_spine_of_many():
    # L = 2: one spine with 8 free ports is up to four virtual ones, two with 2 free ports one each
    ports = np.array([[1] * 8, [1, 1] + [0] * 6, [0, 0, 1, 1] + [0] * 4])
    found = choose_links(
        np.ones((2, 8), bool), np.array([1, 1]), ports, ports.sum(axis=1), 4, EXACT, most=4
    )
    assert sorted(set(found.spine.tolist())) == [0] and len(found.spine) == 4


# single spine


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_single_spine_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    leafs, uplinks, g = int(rng.integers(2, 4)), 4, 2
    free = rng.random((leafs, uplinks)) < 0.8
    empty = rng.integers(0, 3, leafs)
    ports = rng.integers(0, 3, (1, uplinks))
    servers = int(rng.integers(1, 4))
    used = [
        sum(t > 0 for t in taken)
        for taken in product(*(range(e + 1) for e in empty))
        if sum(taken) == servers and links_exist(free, g * np.array(taken), ports)
    ]
    star = single_spine(free, empty, ports, ports.sum(axis=1), servers, g, EXACT)
    if not used:
        assert star is None
        return
    assert (star.links <= free).all() and (star.links.sum(axis=0) <= ports[0]).all()
    per_leaf = star.links.sum(axis=1)
    assert per_leaf.sum() == servers * g and (per_leaf % g == 0).all()
    assert (per_leaf <= empty * g).all() and (per_leaf > 0).sum() == min(used)


# whole planners


def test_hand_solved_virtual_clos():
    world = World(leafs_and_spines(leafs=4, servers=2, g=2, spines=4, uplinks=4))
    planner = baselines.make("isolation/vclos")
    world.submit(4), world.submit(8), world.submit(2), world.submit(2)
    plan = planner.plan(world.view())
    assert plan.gpus.tolist() == [0, 1, 2, 3] and plan.uplinks is None  # one leaf, no links
    world.start(plan)
    plan = planner.plan(world.view())  # two wholly empty leafs, all their links
    assert plan.gpus.tolist() == list(range(4, 12))
    assert sorted(plan.uplinks[:4]) == [0, 1, 2, 3] and (plan.uplinks[:4] == plan.uplinks[4:]).all()
    world.start(plan)
    assert shared_links(world, plan) == 1
    for gpus in ([12, 13], [14, 15]):
        plan = planner.plan(world.view())
        assert plan.gpus.tolist() == gpus and plan.uplinks is None
        world.start(plan)


def test_sub_leafs_of_half_a_leaf_take_links_to_common_spines():
    world = World(leafs_and_spines(leafs=3, servers=2, g=2, spines=4, uplinks=4))
    planner = baselines.make("isolation/vclos")
    for _ in range(3):
        world.submit(2)
    for node in (0, 2, 4):  # one server of every leaf is taken
        world.gpu_job[2 * node : 2 * node + 2] = 99
    world.uplink_job[0, 0] = 99
    world.pending.clear()
    gang = world.submit(4)
    plan = planner.plan(world.view())
    world.start(plan)
    assert plan.gang == gang and plan.gpus.tolist() == [2, 3, 6, 7]
    assert set(plan.uplinks.tolist()) <= {1, 2, 3} and shared_links(world, plan) == 1


def test_a_blocked_head_is_remembered_until_something_is_freed(monkeypatch):
    world = World(leafs_and_spines(leafs=2, servers=2, g=2, spines=4, uplinks=4))
    world.uplink_job[0, :3] = 99  # one link is left, two are needed
    world.gpu_job[0:2] = world.gpu_job[4:6] = 99
    planner = baselines.make("isolation/vclos")
    gang, later = world.submit(4), world.submit(2)
    asked = []
    real = type(planner).start
    monkeypatch.setattr(
        type(planner), "start", lambda self, *args: asked.append(1) or real(self, *args)
    )
    assert planner.plan(world.view()) is None and planner.plan(world.view()) is None
    assert len(asked) == 1 and planner.reasons() == {gang: "network fragmentation"}
    world.gpu_job[0] = 98
    assert planner.plan(world.view()) is None and len(asked) == 1  # taken, not freed
    world.uplink_job[0, 0] = -1
    assert planner.plan(world.view()).gang == gang and len(asked) == 2
    first_fit = baselines.make("isolation/vclos", order="fifo-first-fit")
    world.uplink_job[0, 0] = 99
    assert first_fit.plan(world.view()).gang == later


def test_gpus_or_network_as_the_reason():
    world = World(leafs_and_spines(leafs=2, servers=2, g=2, spines=4, uplinks=4))
    world.gpu_job[[0, 2, 4]] = 99  # five free GPUs, but one whole server
    planner = baselines.make("isolation/vclos")
    gang = world.submit(4)
    assert planner.plan(world.view()) is None and planner.reasons() == {gang: "gpus"}


def test_sizes_that_cannot_be_isolated_share_links():
    world = World(leafs_and_spines(leafs=4, servers=2, g=2, spines=4, uplinks=4))
    planner = baselines.make("isolation/vclos")
    world.submit(7)
    plan = planner.plan(world.view())
    assert len(plan.gpus) == 7 and plan.uplinks is None


def test_levels_bind():
    world = World(leafs_and_spines(leafs=4, servers=2, g=2, spines=4, uplinks=4))
    world.gpu_job[::4] = 99
    planner = baselines.make("isolation/vclos")
    world.submit(4, required=1)
    assert planner.plan(world.view()) is None
    world.pending.clear()
    world.submit(2, required=0)
    assert planner.plan(world.view()).gpus.tolist() == [2, 3]


def test_best_fit_fills_servers():
    world = World(leafs_and_spines(leafs=2, servers=2, g=4, spines=4, uplinks=4))
    world.gpu_job[[0, 1, 4]] = 99  # 2, 3, 4, 4 free
    planner = baselines.make("isolation/best-fit")
    for size, gpus in [(2, [2, 3]), (3, [5, 6, 7]), (8, list(range(8, 16)))]:
        world.submit(size)
        plan = planner.plan(world.view())
        assert plan.gpus.tolist() == gpus and plan.uplinks is None
        world.start(plan)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("isolation/vclos", dict(spines=8, uplinks=8)),
        ("isolation/vclos", dict(spines=4, uplinks=8)),
        ("isolation/ocs-vclos", dict(spines=8, uplinks=8, optical=True, spine_ports=16)),
        ("isolation/ocs-vclos", dict(spines=16, uplinks=8, optical=True, spine_ports=8)),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_two_flows_share_a_link(name, fields, seed):
    world = World(leafs_and_spines(leafs=16, servers=4, g=2, **fields))
    planner = baselines.make(name, order="fifo-first-fit", time_limit_s=5.0)
    rng = np.random.default_rng(seed)
    running, reserved = [], 0
    for _ in range(100):
        if rng.random() < 0.6:
            world.submit(int(rng.choice([1, 2, 4, 6, 8, 12, 16, 24, 32])))
        elif running:
            world.finish(running.pop(rng.integers(len(running))))
        while (plan := planner.plan(world.view())) is not None:
            world.start(plan)
            running.append(plan.gang)
            if plan.uplinks is not None:
                reserved += 1
                assert shared_links(world, plan) == 1
        world.pending = world.pending[:20]
    assert reserved > 10


@pytest.mark.parametrize("cluster", ["vclos-8192", "vclos-8192-ocs"])
def test_isolated_jobs_run_as_if_alone(cluster):
    table = {
        "cluster": {"preset": cluster},
        "jobs": {"preset": "vclos", "num_jobs": 60, "interarrival_s": 60.0},
        "observation": {"aggregate": True},
    }
    scenario = from_dict(table, cluster)
    env = gym.make_vec(
        "gpuyard/Placement-v0", num_envs=1, scenario=scenario, autoreset_mode="Disabled"
    )
    name = "isolation/vclos" if cluster == "vclos-8192" else "isolation/ocs-vclos"
    policy = baselines.make(name)
    policy.reset(scenario, 1)
    policy.attach(env)
    observation, info = env.reset(seed=1)
    done = False
    while not done:
        observation, _, terminated, _, info = env.step(policy.act(observation))
        done = bool(terminated[0])
    table = env.unwrapped.results(0)["jobs"]
    assert info["invalid_actions"][0] == 0 and (table["leafs"] > 1).sum() > 20
    np.testing.assert_allclose(table["ran_s"], table["ideal_run_s"], rtol=1e-9)
    env.close()


def test_bad_options():
    with pytest.raises(ValueError, match="order = 'lifo'"):
        baselines.make("isolation/vclos", order="lifo")
    with pytest.raises(ValueError, match="time_limit_s = 0"):
        baselines.make("isolation/vclos", time_limit_s=0)
    with pytest.raises(ValueError, match="mip_gap = 2"):
        baselines.make("isolation/ocs-vclos", mip_gap=2)


def test_fabrics_that_do_not_fit():
    world = World(leafs_and_spines(leafs=4, servers=2, g=2, spines=4, uplinks=4))
    world.submit(8)
    with pytest.raises(ValueError, match=r"'leaf-spine' fabric: use isolation/vclos"):
        baselines.make("isolation/ocs-vclos").plan(world.view())
