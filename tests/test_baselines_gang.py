"""Queue orders on hand-made placement observations."""

from __future__ import annotations

import numpy as np
import pytest
from views import PLACING

from gpuyard import baselines
from gpuyard.baselines.gang.order import QueueOrder

LAYOUT = PLACING.layout
ORDERS = [name for name in baselines.names("gang") if isinstance(baselines.make(name), QueueOrder)]


def squash(key: str, name: str, raw) -> np.ndarray:
    scale = LAYOUT.columns(key)[LAYOUT.index(key, name)].scale
    raw = np.asarray(raw, float)
    return raw if scale is None else raw / (raw + scale)


def observe(rows: list[dict], mask=None, pending: float = 3.0, num_envs: int = 1):
    """An observation of start rows, then one that preempts, one that waits and one's own plan.

    Args:
        rows: raw columns of the start rows; ``position`` is the gang's place in the queue.
        mask: of the start rows.
        pending: gangs that wait.
        num_envs: equal environments.
    """
    size = len(rows) + 3
    table = np.zeros((1, size, len(LAYOUT.columns("candidates"))), np.float32)
    rows = [{"is_place": 1, "plan_pack": 1, "speed": 1, **row} for row in rows]
    # the gang that could be preempted would win every order
    rows.append({"is_preempt": 1, "gpus": 0, "age_s": 1e9, "speed": 1})
    rows += [{"is_wait": 1}, {"is_own": 1}]
    for at, row in enumerate(rows):
        for name, raw in row.items():
            table[0, at, LAYOUT.index("candidates", name)] = squash("candidates", name, raw)
    cluster = np.zeros((1, len(LAYOUT.columns("cluster"))), np.float32)
    cluster[0, LAYOUT.index("cluster", "pending")] = squash("cluster", "pending", pending)
    feasible = [*(mask or [1] * (size - 3)), 1, 1, 0]
    return {
        "candidates": table.repeat(num_envs, 0),
        "cluster": cluster.repeat(num_envs, 0),
        "action_mask": np.array([feasible], np.int8).repeat(num_envs, 0),
    }


def choice(name: str, observation, **options) -> int:
    policy = baselines.make(f"gang/{name}", **options)
    policy.reset(PLACING, len(observation["action_mask"]), 0)
    return int(policy.act(observation)[0])


# three gangs: old and big, shorter and smaller, newest with the least of all but GPU time
QUEUE = [
    {"position": 0, "gpus": 16, "estimate_s": 3000, "age_s": 900},
    {"position": 1, "gpus": 4, "estimate_s": 500, "age_s": 500},
    {"position": 2, "gpus": 8, "estimate_s": 200, "age_s": 100},
]
WAIT = 4


def test_fifo_blocks_behind_its_head_and_first_fit_does_not():
    assert choice("fifo", observe(QUEUE)) == 0
    assert choice("fifo", observe(QUEUE, [0, 1, 1])) == WAIT
    assert choice("fifo-first-fit", observe(QUEUE)) == 0
    assert choice("fifo-first-fit", observe(QUEUE, [0, 1, 1])) == 1
    stuck = observe(QUEUE, [0, 0, 1])
    stuck["action_mask"][:, WAIT] = 0  # nothing would ever happen
    assert choice("fifo", stuck) == 2


def test_orders_by_size():
    """Shortest: 200 s; smallest: 4 GPUs; least area: 8 x 200 = 1,600 GPU s against 2,000."""
    assert choice("sjf", observe(QUEUE)) == 2
    assert choice("smallest-first", observe(QUEUE)) == 1
    assert choice("smallest-area", observe(QUEUE)) == 2
    executed = [QUEUE[0], {**QUEUE[1], "executed_s": 200}, QUEUE[2]]  # 4 x 300 are left
    assert choice("smallest-area", observe(executed)) == 1


def test_dynamic_turns_to_small_gangs_in_a_long_queue():
    assert choice("dynamic", observe(QUEUE, pending=6)) == 0
    assert choice("dynamic", observe(QUEUE, pending=7)) == 1
    assert choice("dynamic", observe(QUEUE, pending=2), longest=1) == 1


def test_wfp3_and_unicep_by_hand():
    """(w/r)^3 n: 0.432, 4, 1; w / (log2(n) r): 0.075, 0.5, 0.167. With n = 1, log2 counts as 1."""
    assert choice("wfp3", observe(QUEUE)) == 1
    assert choice("unicep", observe(QUEUE)) == 1
    big = [QUEUE[1], {**QUEUE[1], "position": 2, "gpus": 5}]
    assert choice("wfp3", observe(big)) == 1
    assert choice("unicep", observe(big)) == 0
    single = [QUEUE[1], {**QUEUE[1], "position": 2, "gpus": 1}]
    assert choice("unicep", observe(single)) == 1


def test_time_run_is_not_time_waited():
    ran = [{**QUEUE[1], "executed_s": 450}, {**QUEUE[1], "position": 2, "age_s": 100}]
    assert choice("wfp3", observe(ran)) == choice("unicep", observe(ran)) == 1


@pytest.mark.parametrize("name", ORDERS)
def test_ties_go_to_the_oldest_and_plans_to_pack_on_the_fastest_pool(name):
    gang = {"gpus": 8, "estimate_s": 100, "age_s": 50}
    rows = [
        {**gang, "position": 0, "speed": 0.5},
        {**gang, "position": 0, "speed": 0.8},
        {**gang, "position": 0, "speed": 1.0, "plan_pack": 0, "plan_spread": 1},
        {**gang, "position": 1, "speed": 1.0},
    ]
    policy = baselines.make(name)
    policy.reset(PLACING, 1)
    assert policy.act(observe(rows)).tolist() == [1]
    assert policy.act(observe(rows, [0, 0, 1, 1])).tolist() == [2]


@pytest.mark.parametrize("name", [*ORDERS, "gang/random"])
def test_orders_wait_only_if_nothing_can_start_and_stop_nobody(name):
    policy = baselines.make(name)
    policy.reset(PLACING, 4, 0)
    assert policy.act(observe(QUEUE, [0, 0, 0], num_envs=4)).tolist() == [WAIT] * 4
    assert set(policy.act(observe(QUEUE, [1, 0, 0], num_envs=4)).tolist()) == {0}
    assert policy.act(observe(QUEUE, num_envs=4)).max() < 3


def test_random_is_uniform_over_the_feasible_and_seeded():
    observation = observe(QUEUE, [1, 0, 1], num_envs=4000)

    def draw(seed):
        policy = baselines.make("gang/random")
        policy.reset(PLACING, 4000, seed)
        return policy.act(observation)

    shares = np.bincount(draw(1), minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.5, 0, 0.5], atol=0.024)  # three standard deviations
    assert (draw(1) == draw(1)).all() and (draw(1) != draw(2)).any()
