"""Base and scaled gangs of services, as Grove forms them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cluster_worlds import Check, make, play, service, small

from gpuyard.envs.engine.gangs.records import RUNNING, UNSEEN
from gpuyard.envs.engine.serving.records import OFF, QUEUED, STARTING
from gpuyard.envs.scenario import ScenarioError
from gpuyard.envs.scenario.services import Role, Service, Slot, slots


def deployment(*roles: tuple[int, int, int]) -> Service:
    """Return a service of (GPUs of a replica, least, most) per role, all asked for at once."""
    return Service(
        name="service",
        roles=tuple(
            Role("aggregated", replica(gpus), least, most, most, 1.0) for gpus, least, most in roles
        ),
        workload=SimpleNamespace(),  # type: ignore[arg-type]
        pool=0,
        required=3,
        preferred=0,
        priority=1.0,
    )


def replica(gpus: int) -> Any:
    """Return a replica of which only the size is known."""
    return SimpleNamespace(deployment=SimpleNamespace(gpus=gpus))


def gangs(found: tuple[Slot, ...], *services: Service) -> list[tuple[int, bool]]:
    """Return (GPUs, whether it is a base gang) of every gang."""
    sizes = [role.replica.deployment.gpus for each in services for role in each.roles]
    total: dict[int, list] = {}
    for slot in found:
        gang = total.setdefault(slot.gang, [0, slot.is_base])
        gang[0] += sizes[slot.role]
        assert gang[1] == slot.is_base
    return [tuple(total[number]) for number in sorted(total)]


def test_groves_multinode_aggregated_example():
    """A leader and three workers, two replicas: eight pods, of which one replica is the minimum."""
    one = deployment((4, 1, 2))
    assert gangs(slots((one,)), one) == [(4, True), (4, False)]
    both = deployment((4, 2, 2))
    assert gangs(slots((both,)), both) == [(8, True)]


def test_groves_disaggregated_example():
    """Prefill of 1 + 4 pods twice, decode of 1 + 2 once; one replica of each is the minimum."""
    one = deployment((5, 1, 2), (3, 1, 1))
    assert gangs(slots((one,)), one) == [(8, True), (5, False)]
    assert [(slot.gang, slot.rank) for slot in slots((one,))] == [(0, 0), (1, 0), (0, 5)]


def test_larger_replicas_come_first_in_a_base_gang():
    """So that none of 2 and 4 GPUs straddles two nodes of 4."""
    found = slots((deployment((2, 2, 2), (4, 1, 1)),))
    assert [slot.rank for slot in found] == [4, 6, 0]


def test_gangs_are_numbered_over_all_services_and_ranks_do_not_overlap():
    services = (deployment((1, 0, 2)), deployment((2, 2, 3)), deployment((4, 1, 1), (1, 3, 4)))
    found = slots(services)
    assert [slot.service for slot in found] == [0] * 2 + [1] * 3 + [2] * 5
    assert [slot.role for slot in found] == [0] * 2 + [1] * 3 + [2] + [3] * 4
    assert sorted({slot.gang for slot in found}) == list(range(6))
    sizes = [1, 2, 4, 1]
    held: dict[int, list[int]] = {}
    for slot in found:
        held.setdefault(slot.gang, []).extend(range(slot.rank, slot.rank + sizes[slot.role]))
    for ranks in held.values():
        assert sorted(ranks) == list(range(len(ranks)))


def test_only_what_is_initial_starts():
    env = make(small(service("chat", min=1, initial=2, max=3), name="initial"))
    env.reset(seed=0)
    assert env._world.state["replicas"]["phase"][0].tolist() == [QUEUED, QUEUED, OFF]


def test_a_base_gang_that_may_lose_a_part_splits_into_gangs_of_one_replica():
    one = replace(deployment((2, 1, 2), (4, 1, 1)), termination_delay_s=60.0)
    found = slots((one,))
    assert [slot.base for slot in found] == [0, 0, 0], "which all of them begin with, or wait for"
    assert [(slot.gang, slot.rank) for slot in found] == [(1, 0), (2, 0), (3, 0)]
    assert [slot.base_rank for slot in found] == [4, 0, 0]
    alone = replace(deployment((4, 1, 2)), termination_delay_s=60.0)
    assert [(slot.gang, slot.base) for slot in slots((alone,))] == [(0, 0), (1, 0)], (
        "one has no part"
    )


def test_a_base_gang_starts_and_fails_as_one_and_a_scaled_one_alone():
    """Grove's gang termination without delay takes the whole base gang, and nothing else."""
    env = make(
        small(
            service("chat", min=2, initial=3, max=3),
            name="base",
            faults={"node_mtbf_h": 0.02, "repair_h": 0.005},
        )
    )
    fell, apart = 0, 0
    before = [OFF] * 3

    def check(env: Any, observation: Any) -> None:
        nonlocal fell, apart, before
        state = env._world.state
        phases = state["replicas"]["phase"][0].tolist()
        ready_s = state["replicas"]["ready_s"][0]
        assert phases[0] == phases[1], "both or none"
        if phases[0] == STARTING:
            assert ready_s[0] == ready_s[1]
        fell += phases[0] == QUEUED and before[0] not in (OFF, QUEUED)
        apart += (phases[2] == QUEUED) != (phases[0] == QUEUED)
        before = phases

    for seed in range(4):
        before = [OFF] * 3
        play(env, seed, check, keep=True)
    assert fell > 0 and apart > 0


def test_required_holds_for_each_gang_of_a_service():
    """A scaled gang keeps the level by itself; it may stand on another leaf than the base gang."""
    env = make(small(service("chat", tp=2, min=2, max=3, required="node"), name="level"))
    gpus = np.zeros(0)

    def check(env: Any, observation: Any) -> None:
        nonlocal gpus
        state = env._world.state
        for gang in range(int(state["gangs"]["services"][0])):
            if state["jobs"]["status"][0, gang] == RUNNING:
                gpus = np.flatnonzero(state["gpu_owner"][0] == gang)
                assert len(set(gpus // 4)) == 1

    play(env, 0, check)
    assert len(gpus)


def test_a_service_that_is_asked_for_later_is_not_there_before():
    """Its gangs queue at that moment and its requests come after it; no clock of it runs before."""
    later = service("later", min=2, initial=3, max=4, asked_at_s=15.0, termination_delay_s=1.0)
    quiet = {"num_jobs": 1, "rate_per_h": 0.5, "max_gpus": 1}
    env = make(small(service("chat", max=2), later, name="later", jobs=quiet))
    specs, asked = env._world.shared["replica_specs"], []
    mine = np.flatnonzero(specs["service"] == 1)
    check = Check()

    def look(env: Any, observation: Any) -> None:
        check(env, observation)
        state, now_s = env._world.state, float(env._world.clock["now_s"][0])
        phases = state["replicas"]["phase"][0][mine]
        jobs = state["jobs"][0]
        if now_s < 15.0:
            assert (phases == OFF).all()
            assert (jobs["status"][np.flatnonzero(jobs["service"] == 1)] == UNSEEN).all()
            if observation["cluster"][2] > 0:
                assert env.action_masks()[3] == 0, "nobody adds a replica to it"
        elif not asked:
            asked.append((now_s, phases.tolist()))

    env.reset(seed=0)
    done = play(env, 0, look, keep=True)
    assert asked[0] == (15.0, [QUEUED, QUEUED, QUEUED, OFF])
    requests = env.results()["requests"]
    first_s = requests["arrival_s"][requests["service"] == 1].min()
    assert 15.0 < first_s < 17.0, "at 2 a second from then on"
    assert done["terminated"] and np.isfinite(requests["finish_s"]).all()


def test_a_time_before_the_episode_is_refused():
    with pytest.raises(ScenarioError, match=r"deployments\[0\].asked_at_s = -1"):
        small(service("chat", asked_at_s=-1.0))
