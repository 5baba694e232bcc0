"""Replicas on several nodes send: what each token costs a NIC, who waits for whom, and when."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import pytest
from cluster_worlds import Check, apart, make, service, small
from cluster_worlds import play as play_at_random

from gpuyard.envs.cluster_view import Plan
from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment
from gpuyard.envs.perf.serving.traffic import traffic
from gpuyard.envs.scenario import Scenario

NIC = 12.5e9
TOKEN_BYTES = 64 * 2 * 4096 * (2 * 3 / 4) / 2
"""64 all-reduces of 8 KB among 4 ranks, over both NICs that a node has for the replica."""
CROSSED = ((0, 1, 4, 5), (2, 3, 6, 7))
"""GPUs of two replicas on nodes of two: both go from the first leaf to the second one."""


def test_all_reduces_by_hand():
    """Llama-3-8B: rings, 2 (R-1)/R of the bytes over the two NICs that a node has for it."""
    d = Deployment(gpu("A100-80"), model("Llama-3-8B"), tp=4, node_gpus=2)
    sent = traffic(d)
    assert sent.bytes_per_token == TOKEN_BYTES and len(sent.phases) == 1
    source, target = sent.phases[0].flows(4)
    assert list(zip(source, target, strict=True)) == [(0, 2), (1, 3), (2, 0), (3, 1)]
    assert not traffic(Deployment(gpu("A100-80"), model("Llama-3-8B"), tp=4)).phases


def test_switches_that_add_up_halve_it():
    """Two nodes of H100: a node sends its sum once, 1/g of it over each NIC."""
    d = Deployment(gpu("H100-SXM"), model("Llama-3-8B"), tp=4, node_gpus=2)
    assert traffic(d).bytes_per_token == 64 * 2 * 4096 / 2


def test_stages_pass_on_hidden_state_and_residual():
    """Four stages of two ranks, two on a node: a rank sends half of 2 times 16 bits an element."""
    d = Deployment(gpu("A100-80"), model("Llama-3-8B"), tp=2, pp=4, node_gpus=4)
    (phase,) = traffic(d).phases
    assert phase.bytes == 2 * 2 * 4096 / 2
    assert list(zip(*phase.flows(8), strict=True)) == [(r, r + 2) for r in range(6)]


def test_experts_on_two_nodes():
    """DeepSeek-V3: 58 layers, 8 experts, 7168 elements that go in FP8 and come back in BF16."""
    d = Deployment(
        *(gpu("H100-SXM"), model("DeepSeek-V3")),
        dp=16, ep=16, dtype="fp8", engine="sglang", all_to_all="deepep",
    )  # fmt: skip
    sent, both_ways = traffic(d), 7168 * (1 + 4 / 128) + 2 * 7168
    nodes_hit = 2 * (1 - 0.5**8)
    assert sent.bytes_per_token == pytest.approx(58 / 16 * both_ways * nodes_hit / 2)
    assert sent.quick_scale == pytest.approx(8 / nodes_hit), "a copy for every expert"
    assert sent.quick_tokens == 256 * 16


def world(fidelity: str = "fluid", uplink_gbit: float = 200.0, rate_per_s: float = 5.0) -> Scenario:
    """Return two replicas of four GPUs, whose leafs have one uplink of as much as two NICs."""
    return small(
        service("chat", tp=4, min=2, max=2, workload={"preset": "chat", "num_requests": 60,
                "rate_per_s": rate_per_s, "max_tokens": 2048}),
        cluster={
            "pools": [{"gpu": "A100-80", "nodes": 6, "gpus_per_node": 2, "nic_gbit": 100}],
            "fabric": {"nodes_per_leaf": 2, "uplinks": 1, "spines": 1, "uplink_gbit": uplink_gbit},
        },
        jobs={"num_jobs": 1, "max_gpus": 1, "rate_per_h": 0.5},
        scaler={"interval_s": 0.0},
        network={"fidelity": fidelity},
    )  # fmt: skip


def test_where_no_replica_can_lie_on_several_nodes_there_is_no_room_for_senders():
    alone = make(small(service("chat", required="node"), name="whole"))._world
    assert len(alone.shared["traffic"]) == 0 and alone.state["sendings"].shape[1] == 0
    assert alone.state["senders"].shape == alone.state["jobs"].shape


def play(env: Any, share: float, look: Any = None) -> dict[str, np.ndarray]:
    """Place both replicas across leafs, send a share of the requests to the first one."""
    observation, _ = env.reset(seed=0)
    env.propose(Plan(0, np.array(sum(CROSSED, ()))))
    observation, *_ = env.step(env.action_space.n - 1)
    done, routed = False, 0
    while not done:
        if look is not None:
            look(env, observation)
        choices = np.flatnonzero(env.action_masks())
        action = int(choices[0])
        if observation["cluster"][0] > 0:
            action = int(routed * share) == int((routed + 1) * share)
            routed += 1
        observation, _, done, _, _ = env.step(int(action))
    return env.results()["requests"]


def sends(env: Any) -> Any:
    """Return the sender records of both replicas."""
    return env._world.state["senders"][0][-2:]


def test_two_replicas_over_one_uplink_by_hand():
    """Beside each other each has half: a token waits as long as it takes alone, times the share of
    time in which the other sends. What is on the links is what was measured of their steps."""
    env, seen, check = make(world()), [], Check()

    def look(env: Any, observation: Any) -> None:
        check(env, observation)
        state = env._world.state
        senders, sendings = sends(env), state["sendings"][0]
        if not (senders["heap_at"] >= 0).all():
            return
        waits_s = state["replicas"]["waits_s"][0]
        comm_s = sendings["step_tokens"] * TOKEN_BYTES / NIC
        duty = comm_s / (senders["compute_s"] + comm_s)
        np.testing.assert_allclose(waits_s, TOKEN_BYTES / NIC * duty[::-1], rtol=2e-3)
        seen.append((duty, waits_s.copy()))
        rate = sendings["step_tokens"] * TOKEN_BYTES / senders["iteration_s"]
        up = np.sort(state["link_rate"][0])[-2:]  # both directions of the one uplink
        np.testing.assert_allclose(up, 2 * rate.sum(), rtol=0.03)
        alternating = mean_communication_s(senders["compute_s"], comm_s)
        np.testing.assert_allclose(senders["comm_s"], alternating, rtol=0.05)

    play(env, 0.5, look)
    assert seen and max(duty.min() for duty, _ in seen) > 0.05


def mean_communication_s(compute_s: np.ndarray, alone_s: np.ndarray) -> np.ndarray:
    """Return the mean communication of two who compute for random times and share one link."""
    rng, now_s, total, count = np.random.default_rng(0), 0.0, np.zeros(2), np.zeros(2)
    begun, left = np.full(2, np.nan), np.zeros(2)
    ready = [(rng.exponential(compute_s[i]), i) for i in range(2)]
    heapq.heapify(ready)
    while count.sum() < 20_000:
        busy = np.isfinite(begun)
        rate = 1.0 / max(busy.sum(), 1)
        ends_s = np.where(busy, now_s + left / rate, np.inf)
        k = int(ends_s.argmin())
        next_s = min(ends_s[k], ready[0][0] if ready else np.inf)
        left = np.where(busy, left - rate * (next_s - now_s), left)
        now_s = next_s
        if ready and ready[0][0] == next_s:
            _, i = heapq.heappop(ready)
            begun[i], left[i] = now_s, alone_s[i]
        else:
            total[k] += now_s - begun[k]
            count[k] += 1
            begun[k] = np.nan
            heapq.heappush(ready, (now_s + rng.exponential(compute_s[k]), k))
    return total / count


def test_alone_nothing_changes():
    """One replica serves, the other has nothing to send: as in a world without contention."""
    waits_s = []

    def look(env: Any, observation: Any) -> None:
        if (sends(env)["heap_at"] >= 0).any():
            waits_s.append(env._world.state["replicas"]["waits_s"][0].max())

    found = play(make(world()), 1.0, look)
    assert waits_s and max(waits_s) == 0.0
    without = play(make(world("none")), 1.0)
    for name in ("first_token_s", "finish_s"):
        np.testing.assert_allclose(found[name], without[name], rtol=1e-9)


def test_too_narrow_an_uplink_slows_one_alone():
    """Two flows over an uplink of one NIC: bytes take twice as long as the NICs would."""
    waits_s = []

    def look(env: Any, observation: Any) -> None:
        if (sends(env)["heap_at"] >= 0).any():
            waits_s.append(env._world.state["replicas"]["waits_s"][0].max())

    narrow = play(make(world(uplink_gbit=100.0)), 1.0, look)
    np.testing.assert_allclose(max(waits_s), TOKEN_BYTES / NIC, rtol=1e-6)
    wide = play(make(world()), 1.0)
    tpot = [
        np.mean((t["finish_s"] - t["first_token_s"]) / (t["output_tokens"] + 1e-9))
        for t in (narrow, wide)
    ]
    assert tpot[0] > tpot[1]


@pytest.mark.parametrize("fidelity", ["flow", "occupancy"])
def test_each_step_waits_for_its_own_bytes(fidelity):
    """Requests one at a time: a token of a step over half a NIC's rate waits as long as it takes
    alone, and in flow and occupancy just those tokens wait that were computed."""
    wide, narrow = (play(make(world(fidelity, gbit, 0.02)), 1.0) for gbit in (200.0, 100.0))
    apart = wide["arrival_s"][1:] > narrow["finish_s"][:-1]
    apart = np.concatenate([[True], apart]) & np.concatenate([apart, [True]])
    assert apart.sum() > 30
    for name, tokens in (
        ("first_token_s", wide["prompt_tokens"] - wide["cached_tokens"]),
        ("finish_s", wide["prompt_tokens"] - wide["cached_tokens"] + wide["output_tokens"] - 1),
    ):
        waited_s = (narrow[name] - wide[name])[apart]
        np.testing.assert_allclose(waited_s, (TOKEN_BYTES / NIC * tokens)[apart], rtol=1e-6)


@pytest.mark.parametrize("fidelity", ["flow", "occupancy"])
def test_links_carry_no_more_than_they_can(fidelity):
    """Two replicas over one uplink, added up flow by flow; they use it as a whole at times."""
    check, most = Check(), []

    def look(env: Any, observation: Any) -> None:
        check(env, observation)
        state, capacity = env._world.state, env._world.shared["capacity"]
        senders, usages = state["senders"][0], state["usages"][0]
        usages = usages[: state["network"][0]["usages"]]
        on = senders[usages["sender"]]
        rates = usages["weight"] * on["rate"] * (on["phase"] == usages["phase"])
        load = np.bincount(usages["link"], rates, len(capacity)) / capacity
        most.append(load.max())
        np.testing.assert_allclose(state["link_rate"][0] / capacity, load, atol=1e-9)

    play(make(world(fidelity)), 0.5, look)
    assert 0.99 < max(most) <= 1.0 + 1e-9


@pytest.mark.parametrize("fidelity", ["flow", "occupancy"])
def test_nothing_is_lost_where_nodes_fail(fidelity):
    """Prefill and decode replicas on two nodes each, whose KV caches cross the same links."""
    env = make(
        small(
            *(apart("chat", tp=4, transfer_overlap="layers"), service("code", tp=2, max=2)),
            cluster={
                "pools": [{"gpu": "A100-80", "nodes": 20, "gpus_per_node": 2}],
                "fabric": {"nodes_per_leaf": 5, "oversubscription": 4.0},
            },
            faults={"node_mtbf_h": 0.06, "repair_h": 0.005},  # one every 11 s
            network={"fidelity": fidelity},
        )
    )
    handed_back = 0
    for seed in range(4):
        info = play_at_random(env, seed, Check())
        assert info["terminated"] and info["place.finished"] == 12
        assert info["route.finished"] == env.scenario.workload.num_requests
        fleet = env._world.state["fleet"][0]
        assert fleet["moved_bytes"] == pytest.approx(fleet["arrived_bytes"] + fleet["lost_bytes"])
        handed_back += info["handed_back"]
    assert handed_back > 0


def test_an_idle_replica_on_several_nodes_keeps_no_world_going(tmp_path):
    """Its service is asked first and done; the other's last request is on a replica by itself."""
    traces = {}
    for name, arrival_s in (("large", 20.0), ("single", 60.0)):
        traces[name] = tmp_path / f"{name}.csv"
        traces[name].write_text(f"arrival_s,prompt_tokens,output_tokens\n{arrival_s},400,300\n")
    services = [
        service(name, tp=tp, max=1, workload={"trace": str(traces[name]), "num_requests": 0})
        for name, tp in (("large", 2), ("single", 1))
    ]
    cluster = {
        "pools": [{"gpu": "A100-80", "nodes": 6, "gpus_per_node": 1}],
        "fabric": {"nodes_per_leaf": 6},
    }
    jobs = {"num_jobs": 1, "rate_per_h": 1200.0, "max_gpus": 1, "max_duration_s": 20.0}
    limits = {"max_time_s": 3600.0}  # a world that goes on for ever is truncated here
    env = make(
        small(*services, cluster=cluster, jobs=jobs, scaler={"interval_s": 0.0}, limits=limits)
    )
    env.reset(seed=0)
    done = False
    while not done:
        *_, done, truncated, info = env.step(int(np.flatnonzero(env.action_masks())[0]))
        assert not truncated
    assert info["route.finished"] == 2 and info["time_s"] < 600.0
