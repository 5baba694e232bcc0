"""What preemption, failures, money and energy cost a placement world, by hand and without links."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from placement_worlds import make, play, small

NO_LINKS = {"network": {"fidelity": "none"}}
FAILING = {"faults": {"node_mtbf_h": 5.0, "repair_h": 0.5}}
PREEMPTIVE = {"scheduler": {"preemption": True, "preempt_s": 100.0}}


def played(**tables: Any) -> tuple[Any, float, dict[str, float], dict[str, np.ndarray]]:
    """Play a world without links; return it, its reward, info and jobs."""
    env = make(small(**NO_LINKS, **tables))
    total, info = play(env, 3)
    return env, total, info, env.results()["jobs"]


def test_a_preempted_gang_pays_for_checkpoint_and_restart() -> None:
    _, _, info, jobs = played(**PREEMPTIVE)
    assert info["preemptions"] > 10
    extra_s = jobs["ran_s"] - jobs["duration_s"]
    np.testing.assert_allclose(extra_s, 100.0 * jobs["preemptions"], rtol=1e-9, atol=1e-6)


def test_without_checkpoints_a_failure_costs_the_whole_run() -> None:
    env, _, info, jobs = played(
        faults=FAILING["faults"], scheduler={"checkpoint_s": 0.0}, jobs={"max_duration_s": 14400.0}
    )
    assert info["failures"] > 3 and (jobs["failures"] > 0).any()
    last_run_s = jobs["finish_s"] - env._world.state["jobs"]["start_s"][0]
    np.testing.assert_allclose(last_run_s, jobs["duration_s"], rtol=1e-9)


def test_circuits_take_their_time_before_a_gang_runs() -> None:
    fabric = {"nodes_per_leaf": 4, "spines": 8, "uplinks": 16, "spine_ports": 16}
    optical = {"fabric": {**fabric, "optical": True, "reconfigure_s": 60.0}}
    _, _, _, jobs = played(cluster=optical)
    extra_s, joined = jobs["ran_s"] - jobs["duration_s"], jobs["leafs"] > 1
    assert 3 < joined.sum() < 30
    np.testing.assert_allclose(extra_s, 60.0 * joined, atol=1e-6)


def test_failed_gpus_are_not_busy() -> None:
    _, _, info, jobs = played(**FAILING)
    busy = (jobs["gpus"] * jobs["ran_s"]).sum() / (64 * info["time_s"])
    assert info["failures"] > 0 and info["utilisation"] == pytest.approx(busy, rel=1e-9)


def test_energy_by_hand() -> None:
    env, _, info, jobs = played()
    spec = env._world.shared["node_specs"][0]
    idle_w, busy_w = float(spec["idle_w"]), float(spec["busy_w"])
    joules = idle_w * 64 * info["time_s"] + (busy_w - idle_w) * (jobs["gpus"] * jobs["ran_s"]).sum()
    assert info["energy_kwh"] == pytest.approx(joules / 1000.0 / 3600.0, rel=1e-9)
    assert busy_w == 300.0 and 0.0 < idle_w < busy_w  # V100-32: 300 W


def test_weighted_waiting_is_the_wait_times_one_plus_priority() -> None:
    _, total, _, jobs = played(
        reward={"weighted_waiting": 1.0}, jobs={"high_priority_share": 0.3}, **PREEMPTIVE
    )
    assert set(jobs["priority"].tolist()) == {0.0, 1.0} and jobs["preemptions"].sum() > 10
    expected = ((1.0 + jobs["priority"]) * jobs["waited_s"]).sum()
    assert total == pytest.approx(-expected, rel=1e-9)
    weighted_s = np.average(jobs["waited_s"], weights=1.0 + jobs["priority"])
    assert total == pytest.approx(-weighted_s * (1.0 + jobs["priority"]).sum(), rel=1e-9)


@pytest.mark.parametrize("term", ["cost", "energy", "preemptions"])
def test_what_is_paid_adds_up(term: str) -> None:
    _, total, info, _ = played(reward={term: 1.0}, **PREEMPTIVE)
    key = {"energy": "energy_kwh"}.get(term, term)
    assert info[key] > 0 and total == pytest.approx(-info[key], rel=1e-9)


def test_infeasible_actions_add_up() -> None:
    env = make(small(reward={"invalid": 1.0}))
    env.reset(seed=0)
    infeasible = int(np.flatnonzero(~env.action_masks())[0])
    _, reward, _, _, info = env.step(infeasible)
    assert reward == -1.0 and info["invalid_actions"] == 1


def test_short_jobs_count_as_ten_seconds() -> None:
    _, _, info, jobs = played(jobs={"max_duration_s": 30.0})
    jct_s = jobs["finish_s"] - jobs["arrival_s"]
    expected = np.maximum(jct_s / np.maximum(jobs["duration_s"], 10.0), 1.0).mean()
    assert (jobs["duration_s"] < 60.0).all()
    assert info["slowdown_mean"] == pytest.approx(expected, rel=1e-9)
