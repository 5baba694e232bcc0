"""A recorded episode against the tables of the world and against the world at every decision."""

from itertools import pairwise

import numpy as np
import pytest
from replay_episodes import WORLDS, play, played

from gpuyard.envs.engine.gangs import records as gangs
from gpuyard.envs.engine.serving import records as serving
from gpuyard.envs.observation import DECISIONS
from gpuyard.envs.scene import GANG_STATES, REPLICA_PHASES, REQUEST_PHASES
from gpuyard.evaluation.replay.episode import ENDS, VERBS
from gpuyard.evaluation.replay.waits import waits

ON_CLUSTER = ("gangs", "services", "apart")
WITH_REQUESTS = ("requests", "services", "apart")
ROUTER, QUEUE, PREFILL, TRANSFER, DECODE, DONE = range(len(REQUEST_PHASES))


def services(episode):
    return int((episode.gangs["service"] >= 0).sum())


def test_names_stand_in_the_order_of_the_engine():
    assert [getattr(serving, name.upper()) for name in REPLICA_PHASES] == list(range(6))
    names = {"absent": "UNSEEN"}
    states = [getattr(gangs, names.get(name, name.upper())) for name in GANG_STATES]
    assert states == list(range(4))


def test_the_worlds_have_what_is_tested():
    runs = [run for name in ON_CLUSTER for run in played(name).episode.runs]
    assert {ENDS[run.ended] for run in runs} == set(ENDS)
    phases = np.concatenate([played(name).episode.stays["phase"] for name in WITH_REQUESTS])
    assert set(phases.tolist()) == {ROUTER, QUEUE, PREFILL, TRANSFER, DECODE}
    verbs = np.concatenate([played(name).episode.decisions["verb"] for name in WORLDS])
    assert {VERBS[verb] for verb in verbs.tolist()} == set(VERBS)
    assert sum(len(played(name).episode.outages) for name in ON_CLUSTER) > 0
    assert played("requests").info["preemptions"] > 0


@pytest.mark.parametrize("name", ON_CLUSTER)
def test_runs_are_those_of_the_table_of_jobs(name):
    episode = played(name).episode
    jobs, first = episode.tables["jobs"], services(episode)
    assert len(episode.gangs) == first + len(jobs["job"])
    for job in jobs["job"].tolist():
        own = [run for run in episode.runs if run.gang == first + job]
        assert len(own) == 1 + jobs["preemptions"][job] + jobs["failures"][job]
        assert own[0].start_s == jobs["start_s"][job]
        assert own[-1].end_s == jobs["finish_s"][job]
        assert [ENDS[run.ended] for run in own].count("finished") == 1
        assert [ENDS[run.ended] for run in own].count("preempted") == jobs["preemptions"][job]
        ran_s = sum(run.end_s - run.start_s for run in own)
        assert ran_s == pytest.approx(jobs["ran_s"][job], rel=1e-12)
        waited_s = sum(end_s - begin_s for g, begin_s, end_s in waits(episode) if g == first + job)
        assert waited_s == pytest.approx(jobs["waited_s"][job], abs=1e-6)
        assert {len(set(run.devices.tolist())) for run in own} == {jobs["gpus"][job]}


def arrivals_of_time(name):
    """Return what was seen first at each time but the last: no decision at it has been taken."""
    seen = played(name).seen
    return [b for a, b in pairwise(seen[:-1]) if a.now_s < b.now_s]


@pytest.mark.parametrize("name", ON_CLUSTER)
def test_who_holds_a_device_is_as_in_the_world(name):
    """Runs and outages, laid over each other, give the owners of GPUs whenever time moves on.

    Where one begins or ends at that very moment either side may be seen.
    """
    episode = played(name).episode
    cluster = episode.scenario.cluster
    spans = [(run.devices, run.gang, run.start_s, run.end_s) for run in episode.runs]
    for node, begin_s, end_s in episode.outages.tolist():
        first = node * cluster.gpus_per_node
        spans.append((np.arange(first, first + cluster.gpus_per_node), -2, begin_s, end_s))
    exact = 0
    for moment in arrivals_of_time(name):
        held, open_ = np.full(len(moment.gpu_owner), -1), np.zeros(len(moment.gpu_owner), bool)
        for devices, owner, begin_s, end_s in spans:
            if begin_s < moment.now_s < end_s:
                assert (held[devices] == -1).all()
                held[devices] = owner
            open_[devices] |= min(abs(begin_s - moment.now_s), abs(end_s - moment.now_s)) < 1e-9
        assert (held == moment.gpu_owner)[~open_].all()
        exact += (~open_).sum()
    assert exact > 1000


@pytest.mark.parametrize("name", ("services", "apart"))
def test_replicas_stand_where_their_gangs_are(name):
    episode = played(name).episode
    slots, roles = episode.scenario.slots, episode.scenario.services
    startup_s = [role.startup_s for service in roles for role in service.roles]
    on_devices = [REPLICA_PHASES.index(phase) for phase in ("serving", "starting", "draining")]
    for replica, slot in enumerate(slots):
        own = episode.phases[episode.phases["replica"] == replica]
        assert (own["begin_s"][1:] >= own["end_s"][:-1]).all()
        for row in own:
            inside = any(
                run.start_s - 1e-9 <= row["begin_s"] and row["end_s"] <= run.end_s + 1e-9
                for run in episode.runs
                if run.gang == slot.gang
            )
            assert inside == (row["phase"] in on_devices), (replica, row)
        for row, after in pairwise(own):
            if REPLICA_PHASES[row["phase"]] == "starting" and row["end_s"] == after["begin_s"]:
                if REPLICA_PHASES[after["phase"]] == "serving":
                    took_s = row["end_s"] - row["begin_s"]
                    assert took_s == pytest.approx(startup_s[slot.role], rel=1e-12)
            if REPLICA_PHASES[row["phase"]] == "turning" and row["end_s"] == after["begin_s"]:
                assert REPLICA_PHASES[after["phase"]] == "serving", "a change takes no time here"


@pytest.mark.parametrize("name", ("services", "apart"))
def test_phases_of_replicas_are_as_in_the_world(name):
    episode = played(name).episode
    for moment in arrivals_of_time(name):
        now = np.full(len(episode.scenario.slots), REPLICA_PHASES.index("off"))
        open_ = np.zeros(len(now), bool)
        for replica, phase, begin_s, end_s in episode.phases.tolist():
            if begin_s < moment.now_s < end_s:
                now[replica] = phase
            open_[replica] |= min(abs(begin_s - moment.now_s), abs(end_s - moment.now_s)) < 1e-9
        assert (now == moment.scene.replicas["phase"])[~open_].all()


@pytest.mark.parametrize("name", WITH_REQUESTS)
def test_stays_fill_the_life_of_every_request(name):
    episode = played(name).episode
    table = episode.tables["requests"]
    assert set(episode.stays["request"].tolist()) == set(range(len(table["arrival_s"])))
    for number in range(len(table["arrival_s"])):
        own = episode.stays[episode.stays["request"] == number]
        assert own["begin_s"][0] == table["arrival_s"][number]
        assert own["end_s"][-1] == table["finish_s"][number]
        assert (own["begin_s"][1:] == own["end_s"][:-1]).all()
        assert (own["end_s"] > own["begin_s"]).all()
        assert ((own["replica"] >= 0) | np.isin(own["phase"], (ROUTER, TRANSFER))).all()
        decodes = own[own["phase"] == DECODE]
        if len(decodes):
            assert decodes["replica"][-1] == table["replica"][number]
            if (np.diff(own["phase"]) > 0).all() and not (own["phase"] == TRANSFER).any():
                assert decodes["begin_s"][0] == table["first_token_s"][number]


@pytest.mark.parametrize("name", WITH_REQUESTS)
def test_requests_in_flight_are_as_in_the_world(name):
    """At every decision where replicas are up to date; transfers not yet decided are nobody's."""
    episode, seen = played(name).episode, played(name).seen
    stays = episode.stays[(episode.stays["replica"] >= 0) & (episode.stays["phase"] != ROUTER)]
    for moment in seen:
        if moment.scene.is_current:
            # what was routed now is not yet there: stays begin after the moment
            here = (stays["begin_s"] < moment.now_s) & (moment.now_s < stays["end_s"])
            edge = (stays["begin_s"] == moment.now_s) | (stays["end_s"] == moment.now_s)
            assert here.sum() <= moment.in_flight <= here.sum() + edge.sum()


@pytest.mark.parametrize("name", WITH_REQUESTS)
def test_phases_of_requests_are_as_they_were_seen(name):
    """A stay holds what was seen in it; only the queue may be left a little early."""
    episode, seen = played(name).episode, played(name).seen
    stays = episode.stays
    for moment in seen[:: max(1, len(seen) // 60)]:
        if not moment.scene.is_current:
            continue
        inside = stays[(stays["begin_s"] < moment.now_s) & (moment.now_s < stays["end_s"])]
        rows = moment.scene.requests[inside["request"]]
        assert (rows["phase"] == inside["phase"]).all()
        assert (rows["replica"] == inside["replica"])[inside["phase"] > ROUTER].all()


def inherits(run, episode):
    """Tell whether a gang got its devices from a replica that changed its role."""
    return any(
        other.end_s == pytest.approx(run.start_s, rel=1e-12)
        and other.gang != run.gang
        and other.devices.tolist() == run.devices.tolist()
        for other in episode.runs
    )


@pytest.mark.parametrize("name", WORLDS)
def test_decisions_are_all_there(name):
    episode, info = played(name).episode, played(name).info
    decisions = episode.decisions
    assert len(decisions) == len(played(name).seen) - 1
    assert {DECISIONS[kind] for kind in decisions["kind"].tolist()} == episode.scenario.decisions
    assert decisions["refused"].sum() == info["invalid_actions"] == 0
    assert (decisions["options"] > 0).all()
    started = decisions[decisions["verb"] == VERBS.index("started")]
    to_come = list(zip(started["subject"].tolist(), started["time_s"].tolist(), strict=True))
    for run in episode.runs:
        if to_come[:1] == [(run.gang, run.start_s)]:
            to_come.pop(0)
        else:
            assert inherits(run, episode)
    assert not to_come
    for row in decisions[decisions["verb"] == VERBS.index("sent")]:
        if name == "services":  # a replica that fails before the next decision gives it back
            break
        stays = episode.stays[episode.stays["request"] == row["subject"]]
        after = stays[stays["end_s"] > row["time_s"]]
        assert row["choice"] in after["replica"][:2]


def test_samples_are_bounded_and_evenly_spread():
    episode = play(WORLDS["services"](), seed=1, most_samples=20).episode
    whole = played("services").episode
    times_s = episode.samples.times_s
    assert 10 <= len(times_s) < 40 < len(whole.samples.times_s)
    assert np.isin(times_s, whole.samples.times_s).all()
    assert len(episode.runs) == len(whole.runs)
    few = episode.samples
    at = np.searchsorted(whole.samples.times_s, times_s)
    assert (few.link_load == whole.samples.link_load[at]).all()
