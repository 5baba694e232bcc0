"""What must hold in every placement world at every decision, whatever is decided."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from placement_worlds import make, play, small

WORLDS = {
    "plain": make(small("plain")),
    "flow": make(small("flow", network={"fidelity": "flow"})),
    "faults": make(
        small(
            "faults",
            scheduler={"preemption": True, "preempt_s": 30.0},
            faults={"node_mtbf_h": 8.0, "repair_h": 0.5},
        )
    ),
    "rail": make(
        small(
            "rail",
            cluster={"fabric": {"kind": "rail", "nodes_per_leaf": 4, "spines": 4, "uplinks": 4}},
        )
    ),
    "optical": make(
        small(
            "optical",
            cluster={
                "fabric": {
                    "nodes_per_leaf": 4, "spines": 8, "uplinks": 16, "optical": True,
                    "spine_ports": 16,
                },
            },
        )
    ),
}  # fmt: skip


class Check:
    """Checks a world at every decision, and remembers what must not go back."""

    def __init__(self) -> None:
        self.now_s = -1.0
        self.finished: set[int] = set()

    def __call__(self, env) -> None:
        world, view = env._world, env.view()
        assert view.now_s >= self.now_s
        self.now_s = view.now_s
        jobs = world.state["jobs"][0]
        held = np.bincount(view.gpu_job[view.gpu_job >= 0], minlength=len(jobs))
        running = set(view.running["id"].tolist())
        for j in range(len(jobs)):  # gangs are atomic: all of their GPUs or none
            assert held[j] == (jobs["gpus"][j] if j in running else 0)
        assert not running & set(view.pending["id"].tolist())
        # a reserved uplink has one owner, which runs
        owners = view.uplink_job[view.uplink_job >= 0]
        assert set(owners.tolist()) <= running
        assert (world.state["link_rate"][0] <= world.shared["capacity"] * (1 + 1e-9)).all()
        assert (world.state["link_rate"][0] >= -1e-9).all()
        self.counts_agree(world, view)
        ended = set(np.flatnonzero(np.isfinite(jobs["finish_s"])).tolist())
        assert self.finished <= ended and not ended & running
        self.finished = ended

    @staticmethod
    def counts_agree(world, view) -> None:
        """What the engine counts as gangs come and go is what counting anew gives."""
        devices, gangs, free = world.state["devices"][0], world.state["gangs"][0], view.node_free
        assert (world.state["node_free"][0] == free).all()
        assert devices["free_gpus"] == free.sum()
        sizes = world.shared["node_specs"]["gpus"]
        assert devices["partial_gpus"] == free[(free > 0) & (free < sizes)].sum()
        up = np.isinf(world.state["repairs"][0])
        for leaf in range(len(world.shared["leaf_pods"])):
            here = up & (world.shared["node_specs"]["leaf"] == leaf)
            counted = np.bincount(free[here], minlength=world.state["leaf_hist"].shape[2])
            assert (world.state["leaf_hist"][0, leaf] == counted).all()
        assert gangs["pending"] == len(view.pending) and gangs["running"] == len(view.running)
        assert gangs["pending_gpus"] == view.pending["gpus"].sum()
        assert view.queues["held"].sum() == view.running["gpus"].sum()


@pytest.mark.parametrize("name", WORLDS)
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10_000))
def test_invariants_hold(name, seed):
    env = WORLDS[name]
    _, info = play(env, seed, Check())
    table = env.results()["jobs"]
    assert info["finished"] == 40 and np.isfinite(table["finish_s"]).all()
    assert (table["start_s"] >= table["arrival_s"]).all()
    assert (table["finish_s"] > table["start_s"]).all()
    assert (env.view().gpu_job < 0).all() and (env.view().uplink_job < 0).all()
    assert (env._world.state["link_rate"][0] <= 1e-6 * env._world.shared["capacity"]).all()
    assert np.allclose(env._world.state["used_memory"][0], 0.0, atol=1e-9)


def test_isolated_gangs_see_no_contention():
    """A gang that starts by the isolated plan runs as if alone, whoever runs beside it."""
    env = WORLDS["rail"]
    isolated = 0
    for seed in range(12):
        env.reset(seed=seed)
        rng = np.random.default_rng(seed)
        done = False
        while not done:
            mask = env.action_masks()
            rows = [q * 6 + 5 for q in range(8) if mask[q * 6 + 5]]
            action = rows[0] if rows else int(rng.choice(np.flatnonzero(mask)))
            _, _, done, _, _ = env.step(action)
        table = env.results()["jobs"]
        own = table["plan"] == 5
        isolated += own.sum()
        assert np.allclose(table["ran_s"][own], table["ideal_run_s"][own], rtol=1e-9)
        assert (table["leafs"][own] > 1).all()
    assert isolated > 5
