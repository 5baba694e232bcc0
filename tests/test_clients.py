"""Clients at the router: who they are, what they are charged, rates, classes, deadlines, effect."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from scenario_tables import REPLICA, world, write

import gpuyard  # noqa: F401
from gpuyard import baselines
from gpuyard.envs.engine.serving.refusal import EXPIRED, REJECTED, SERVED
from gpuyard.envs.observation import Layout
from gpuyard.envs.scenario import Scenario, ScenarioError, from_dict
from gpuyard.envs.workload.requests import readers
from gpuyard.envs.workload.trace_file import TraceError
from gpuyard.evaluation.fairness import greatest_difference, service
from gpuyard.evaluation.requests import request_metrics

SLOW = {**REPLICA, "max_num_seqs": 4, "kv_blocks": 600}
TWO = [{"name": "heavy", "share": 2.0}, {"name": "light", "share": 1.0}]
WORKLOAD = {"num_requests": 60, "rate_per_s": 40.0, "max_tokens": 2048}
HOLD = {"hold_s": 0.01, "hold_limit_s": 3600.0}


def scenario(clients=TWO, workload=WORKLOAD, replicas=(SLOW,), **tables) -> Scenario:
    return from_dict(world(replicas=list(replicas), clients=clients, workload=workload, **tables))


def play(built: Scenario, policy=None, seed: int = 0):
    """Run one episode, of a baseline or all to the first replica; returns info and tables."""
    env = gym.make("gpuyard/Routing-v0", scenario=built).unwrapped
    observation, info = env.reset(seed=seed)
    if policy:
        policy.reset(built, 1, 0)
    done = False
    while not done:
        batch = {key: value[None] for key, value in observation.items()}
        assert env.observation_space.contains(observation)
        action = int(policy.act(batch)[0]) if policy else 0
        observation, _, ended, is_cut, info = env.step(action)
        done = ended or is_cut
    return info, env.results()


# -- effect: two clients ask for more than they get ------------------------------------------------


def overload(tmp_path, queue: str, router: str | None) -> tuple[float, float]:
    """Return the service of the heavy client over the light one's, and the greatest difference.

    While both have requests waiting: one asks 16 times a second, the other 8, of 8 that are served.
    """
    lines = ["arrival_s,prompt_tokens,output_tokens,max_tokens,client"]
    rng = np.random.default_rng(0)
    moments = [(moment, "heavy") for moment in rng.uniform(0, 6, 96)]
    moments += [(moment, "light") for moment in rng.uniform(0, 6, 48)]
    lines += [f"{moment},100,10,10,{name}" for moment, name in sorted(moments)]
    built = scenario(
        workload={"trace": str(write(tmp_path, "\n".join(lines), "two.csv")), "num_requests": 0},
        replicas=[{**SLOW, "max_num_seqs": 1, "scheduling_policy": queue}],
        router={"hold_s": 0.05, "hold_limit_s": 3600.0},
        estimates={"output": "oracle"},
        limits={"max_time_s": 6.0},
    )
    named = baselines.make(f"routing/{router}") if router else None
    table = play(built, named)[1]["requests"]
    times_s = np.linspace(0.0, 6.0, 61)
    served = service(table, times_s, 2)[-1]
    return served[0] / served[1], greatest_difference(table, times_s, 2)


def bound_tokens(prompt: int, tokens_in_batch: int) -> float:
    """Sheng et al., theorem 4.4: 2 max(w_p L_input, w_q M)."""
    return 2 * max(1.0 * prompt, 2.0 * tokens_in_batch)


@pytest.mark.parametrize(
    ("queue", "router"), [("vtc", None), ("fcfs", "vtc")], ids=["engine", "gateway"]
)
def test_vtc_serves_two_overloaded_clients_alike(tmp_path, queue: str, router) -> None:
    ratio, difference = overload(tmp_path, queue, router)
    assert ratio == pytest.approx(1.0, abs=0.1)
    assert difference <= bound_tokens(100, 110)


@pytest.mark.parametrize("router", [None, "gateway-queue"], ids=["engine", "gateway"])
def test_without_it_they_are_served_as_they_ask(tmp_path, router) -> None:
    ratio, difference = overload(tmp_path, "fcfs", router)
    assert ratio == pytest.approx(2.0, abs=0.5)
    assert difference > bound_tokens(100, 110)


# -- what a router sees ----------------------------------------------------------------------------


def test_what_the_columns_say_of_held_requests() -> None:
    """All are held, so that nobody is served: nobody leads, and all wait."""
    built = scenario(router=HOLD, estimates={"output": "oracle"})
    env = gym.make("gpuyard/Routing-v0", scenario=built).unwrapped
    observation, _ = env.reset(seed=0)
    state = env._batch.contents["route"].part.state

    def read(name: str):
        return built.layout.read(observation, "queue", name)

    sent = np.zeros(2)
    for step in range(200):
        deciding = int(state["router"]["deciding"][0])
        rows = state["requests"][0]
        client = int(rows["client"][deciding])
        here = rows[: int(state["router"]["arrived"][0])]
        waiting = np.isnan(here["first_token_s"]) & (here["replica"] < 0)
        counts = np.bincount(here["client"][waiting], minlength=2)
        assert read("client_waiting")[0] == pytest.approx(counts[client], rel=1e-4)
        flying = (here["replica"] >= 0) & np.isnan(here["finish_s"])
        flights = np.bincount(here["client"][flying], minlength=2)
        assert read("client_in_flight")[0] == pytest.approx(flights[client], rel=1e-4)
        lead = sent[client] - sent[counts > 0].min()
        assert read("lead")[0] == pytest.approx(max(lead, 0.0), rel=1e-3, abs=1e-3)
        goes = step % 7 == 0
        if goes:
            request = rows[deciding]
            sent[client] += request["prompt_tokens"] + 2.0 * request["output_tokens"]
        before = counts.copy()
        observation, *_ = env.step(0 if goes else 1)
        after = int(state["router"]["deciding"][0])
        newest = rows["client"][after]
        came = int(state["router"]["arrived"][0]) - len(here)
        before[client] -= goes
        if came and before[newest] == 0:  # lifted to the least of those who wait
            others = sent[before > 0]
            lifted = others.min() if len(others) else sent[client]
            sent[newest] = max(sent[newest], lifted)


def test_columns_and_numbers_are_there_only_with_clients() -> None:
    built = scenario()
    assert from_dict(world()).layout == Layout({"route"})
    assert built.layout.blocks == ("common", "route", "clients")
    info, tables = play(built)
    rows, of_clients = tables["requests"], tables["clients"]
    assert of_clients["finished"].tolist() == np.bincount(rows["client"]).tolist()
    tokens = rows["prompt_tokens"] + 2.0 * rows["output_tokens"]
    totals = np.bincount(rows["client"], weights=tokens)
    assert of_clients["service"].tolist() == totals.tolist()
    assert info["jain_clients"] == pytest.approx(totals.sum() ** 2 / 2 / (totals**2).sum())


# -- classes ---------------------------------------------------------------------------------------


def test_classes_have_objectives_priority_and_goodput_of_their_own() -> None:
    classes = [
        {"name": "chat", "count": 3, "share": 0.6, "ttft_s": 0.4, "tpot_s": 0.03, "priority": 1.0},
        {"name": "batch", "share": 0.4, "ttft_s": 30.0, "tpot_s": 1.0, "priority": 0.0},
    ]
    built = scenario(classes)
    info, tables = play(built)
    rows = tables["requests"]
    assert rows["client"].max() == 3 and ((rows["client"] == 3) == (rows["class"] == 1)).all()
    assert rows["priority"].tolist() == (rows["class"] == 0).tolist()
    ttft_s = rows["first_token_s"] - rows["arrival_s"]
    tpot_s = (rows["finish_s"] - rows["first_token_s"]) / np.maximum(rows["output_tokens"] - 1, 1)
    limits = np.array([[0.4, 0.03], [30.0, 1.0]])[rows["class"]]
    met = (ttft_s <= limits[:, 0]) & (tpot_s <= limits[:, 1])
    assert 0 < met[rows["class"] == 0].sum() < (rows["class"] == 0).sum()
    for number, name in enumerate(("chat", "batch")):
        mine = rows["class"] == number
        assert info[f"slo_attainment/class={name}"] == pytest.approx(met[mine].mean())
        assert info[f"goodput/class={name}"] == pytest.approx(met[mine].sum() / info["time_s"])
    assert info["slo_attainment"] == pytest.approx(met.mean())
    measured = request_metrics(rows, *built.objectives, clients=("chat", "batch"))
    assert {"goodput/class=chat", "slo_attainment/class=batch"} <= set(measured)


def test_shares_are_kept_and_a_session_has_one_client() -> None:
    workload = {"num_requests": 4000, "preset": "chat"}
    classes = [{"name": "big", "share": 3.0}, {"name": "small", "share": 1.0, "count": 5}]
    built = scenario(classes, workload)
    rng = np.random.default_rng(0)
    stream = built.clients.sending(built.workload.sample(rng), rng)
    sessions = np.unique(stream.session[stream.session >= 0])
    assert len(sessions) > 100
    for session in sessions[:100]:
        assert len(set(stream.client[stream.session == session])) == 1
    assert (stream.client == 0).mean() == pytest.approx(0.75, abs=0.05)


# -- deadlines -------------------------------------------------------------------------------------


def test_deadlines_of_requests_go_before_those_of_their_class(tmp_path) -> None:
    """Two requests of 1 s each, then three that wait at the replica, of which two are late."""
    text = """arrival_s,prompt_tokens,output_tokens,max_tokens,client,deadline_s
0.0,100,400,400,a,
0.1,100,10,10,a,0.5
0.2,100,10,10,b,
0.3,100,10,10,b,60
0.4,100,10,10,a,
"""
    trace = write(tmp_path, text, "deadlines.csv")
    classes = [{"name": "a"}, {"name": "b", "deadline_s": 0.7}]
    row = {**SLOW, "max_num_seqs": 1}
    built = scenario(classes, {"trace": str(trace), "num_requests": 0}, [row])
    info, tables = play(built)
    outcome = tables["requests"]["outcome"].tolist()
    assert outcome == [SERVED, EXPIRED, EXPIRED, SERVED, SERVED]
    assert info["expired"] == 2 and tables["clients"]["expired"].tolist() == [1, 1]


# -- token buckets ---------------------------------------------------------------------------------

EVEN = """arrival_s,prompt_tokens,output_tokens,max_tokens,client
""" + "".join(f"{0.01 * i},90,10,10,{'ab'[i % 2]}\n" for i in range(20))


def limited(tmp_path, over_rate: str):
    trace = write(tmp_path, EVEN, "even.csv")
    limit = {"tokens_per_s": 100.0, "burst_tokens": 300.0, "over_rate": over_rate}
    return scenario(
        [{"name": "a", **limit}, {"name": "b"}],
        {"trace": str(trace), "num_requests": 0},
        estimates={"output": "oracle"},
    )


def decided_s(built: Scenario, seed: int = 0):
    """Return when each request came under decision, and the tables."""
    env = gym.make("gpuyard/Routing-v0", scenario=built).unwrapped
    env.reset(seed=seed)
    state = env._batch.contents["route"].part.state
    moments, done = {}, False
    while not done:
        deciding = int(state["router"]["deciding"][0])
        moments[deciding] = float(env._batch.world.clock["now_s"][0])
        _, _, done, _, info = env.step(0)
    return moments, info, env.results()


def test_a_bucket_delays_what_exceeds_its_rate(tmp_path) -> None:
    """300 tokens at once, of 100 each, then 100 a second; the other client is not held."""
    moments, info, _ = decided_s(limited(tmp_path, "hold"))
    mine = [moments[i] for i in range(0, 20, 2)]
    assert mine[:3] == [0.0, 0.02, 0.04]
    # the bucket was full until the first came at 0: request k is paid for at (k + 1) - 3 seconds
    assert mine[3:] == pytest.approx([k + 1 - 3 for k in range(3, 10)])
    assert [moments[i] for i in range(1, 20, 2)] == pytest.approx(np.arange(1, 20, 2) / 100)
    assert info["finished"] == 20


def test_a_bucket_refuses_what_exceeds_its_rate(tmp_path) -> None:
    moments, info, tables = decided_s(limited(tmp_path, "reject"))
    assert sorted(moments) == [0, 1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 17, 19]
    assert (tables["requests"]["outcome"][6::2] == REJECTED).all()
    assert info["rejected"] == 7 and tables["clients"]["rejected"].tolist() == [7, 0]


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "problem", "remedy"),
    [
        ({"clients": []}, "clients = []", "[[clients]]"),
        ({"clients": [{}]}, "clients[0].name = ''", "letters"),
        ({"clients": [{"name": "a b"}]}, "clients[0].name = 'a b'", "letters"),
        ({"clients": [TWO[0], TWO[0]]}, "clients[1].name = 'heavy'", "another"),
        ({"clients": [{"name": "a", "count": 0}]}, "clients[0].count = 0", "whole number"),
        ({"clients": [{"name": "a", "count": 70000}]}, "counts", "65536"),
        ({"clients": [{"name": "a", "share": 0}]}, "shares are 0", "above 0"),
        ({"clients": [{"name": "a", "weight": 0}]}, "clients[0].weight = 0", "above 0"),
        ({"clients": [{"name": "a", "priority": 2}]}, "clients[0].priority = 2", "[0, 1]"),
        ({"clients": [{"name": "a", "burst_tokens": 9}]}, "no token bucket", "tokens_per_s"),
        (
            {"clients": [{"name": "a", "tokens_per_s": 9, "over_rate": "reject"}]},
            "burst_tokens = 0",
            "size",
        ),
        ({"clients": [{"name": "a", "over_rate": "x"}]}, "over_rate = 'x'", "hold, reject"),
        ({"clients": [{"name": "a", "speed": 1}]}, "clients[0].speed is unknown", "weight"),
        ({"replicas": [{**REPLICA, "scheduling_policy": "vtc"}]}, "'vtc'", "add [[clients]]"),
        (
            {
                "clients": [{"name": "a", "deadline_s": 1}],
                "replicas": [{**REPLICA, "scheduling_policy": "vtc"}],
            },
            "clients.deadline_s = 1 of 'a'",
            "leave out scheduling_policy",
        ),
    ],
)
def test_bad_clients_are_refused(table, problem: str, remedy: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        from_dict(world(**table))
    assert problem in str(caught.value) and remedy in str(caught.value)


def test_a_client_of_a_trace_needs_a_class(tmp_path) -> None:
    trace = write(tmp_path, EVEN, "even.csv")
    with pytest.raises(ScenarioError, match=r"client 'b'.*named '\*'"):
        scenario([{"name": "a"}], {"trace": str(trace), "num_requests": 0})
    built = scenario([{"name": "a"}, {"name": "*"}], {"trace": str(trace), "num_requests": 0})
    assert built.clients.class_of.tolist() == [0, 1]
    assert scenario([{"name": "b"}, {"name": "*"}]).with_trace(trace).clients.class_of[0] == 1
    with pytest.raises(ScenarioError, match="client 'a', which is in none of the classes heavy"):
        scenario().with_trace(trace)


def test_a_bad_deadline_of_a_trace_is_refused(tmp_path) -> None:
    text = "arrival_s,prompt_tokens,output_tokens,who,left\n0,9,9,a,1\n1,9,9,b,-2\n"
    trace = write(tmp_path, text, "bad.csv")
    with pytest.raises(TraceError, match=r"line 3: deadline_s = '-2' is no deadline"):
        readers.read(trace, columns={"client": "who", "deadline_s": "left"})
    stream = readers.read(trace, columns={"client": "who"})
    assert stream.client.tolist() == [0, 1] and stream.client_names == ("a", "b")
