"""Prefill and decode apart: bytes, seconds and blocks of a handover, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_worlds import GPUS_PER_NODE, apart, make, service, small

from gpuyard.envs.engine.serving.records import COMING, DECODE, HANDED, MOVING, PREFILL, WHOLE
from gpuyard.envs.perf.serving.kv_transfer import nic_constants
from gpuyard.envs.rules import TRUNCATED
from gpuyard.envs.scenario import ScenarioError

KV_BYTES = 2 * 32 * 8 * 128 * 2  # Llama-3-8B, a token: K and V, layers, KV heads, width, bf16
BLOCK = 16


def workload_of(path, requests):
    """Return the workload of requests given as (arrival, prompt, output)."""
    lines = [
        "arrival_s,prompt_tokens,output_tokens",
        *(",".join(map(str, row)) for row in requests),
    ]
    trace = path / "requests.csv"
    trace.write_text("\n".join(lines) + "\n")
    return {"trace": str(trace), "num_requests": 0}


def world(path, requests, tables=None, **changes):
    """Return a world that serves requests given as (arrival, prompt, output); jobs come later."""
    changes = {"workload": workload_of(path, requests), "required": "node", **changes}
    jobs = {"num_jobs": 1, "rate_per_h": 0.5, "max_gpus": 1}
    tables = {"jobs": jobs, "scaler": {"interval_s": 0.0}, **(tables or {})}
    return make(small(apart("chat", **changes), name="by-hand", **tables))


def run(env, until, seed=0):
    env.reset(seed=seed)
    for _ in range(1000):
        if until(env):
            return
        env.step(int(np.flatnonzero(env.action_masks())[0]))
    raise AssertionError("that moment never came")


def request(env, index=0):
    return env._world.state["requests"][0, index]


def test_one_handover_takes_what_its_parts_take(tmp_path):
    env = world(tmp_path, [(10.0, 1000, 20)])
    run(env, lambda env: request(env)["stage"] == HANDED)
    handed_s = float(env._world.clock["now_s"][0])
    specs, replicas = env._world.shared["replica_specs"], env._world.state["replicas"][0]
    assert env.action_masks().tolist()[:4] == [False, False, True, False], "to the decode replica"
    assert request(env)["source"] == 0 and request(env)["replica"] == -1
    blocks = -(-1000 // BLOCK)
    assert specs[0]["kv_blocks"] - replicas[0]["free_blocks"] == blocks, "held until they are there"
    env.step(2)
    assert request(env)["stage"] in (MOVING, WHOLE)
    # both replicas stand on one node: 1 ms, and the slower of the bytes over 0.8 of NVLink and the
    # posting of K and V of 32 layers, 3.1 us each; 110 ms of answers through the router before
    nvlink = 0.8 * 300e9  # A100, one direction
    bytes_s = blocks * BLOCK * KV_BYTES / nvlink
    post_s = blocks * 32 * 2 * 3.1e-6  # 3.0 over NICs
    wanted_s = handed_s + 0.110 + 0.001 + max(bytes_s, post_s)
    fleet = env._world.state["fleet"][0]
    assert fleet["moves"] == 1 and fleet["moved_bytes"] == blocks * BLOCK * KV_BYTES
    run_on(env)
    assert request(env)["arrive_s"] == pytest.approx(wanted_s)
    assert fleet["arrived_bytes"] == fleet["moved_bytes"] and fleet["lost_bytes"] == 0
    assert fleet["moving_s"] == pytest.approx(wanted_s - handed_s)
    assert request(env)["first_token_s"] > wanted_s
    assert replicas[0]["free_blocks"] == specs[0]["kv_blocks"] and replicas[0]["holding"] == 0


NIC = {"gpus_per_node": 2, "nics_per_node": 1, "nic_gbit": 10.0}
ONE_NIC = {"pools": [{"gpu": "A100-80", "nodes": 6, **NIC}], "fabric": {"nodes_per_leaf": 6}}


@pytest.mark.parametrize("senders", [1, 2])
def test_a_replica_has_the_nics_of_its_node_unless_a_neighbour_sends(tmp_path, senders):
    """One NIC for two GPUs: a prefill replica of one GPU has all of it, two have half each."""
    roles = [
        {"kind": "prefill", "tp": 1, "min": 2, "max": 2},
        {"kind": "decode", "tp": 2, "min": 2, "max": 2},
    ]
    requests = [(400.0, 4000, 2)] * senders
    tables = {"cluster": ONE_NIC}
    env = world(tmp_path, requests, tables, roles=roles, required="zone", preferred="node")
    env.reset(seed=0)
    rows = iter(range(4) if senders == 2 else (0, 2))  # of prefill replicas, then of decode ones
    done = False
    while not done:
        routes = env._world.clock["due"][0] == 0
        first = int(np.flatnonzero(env.action_masks())[0])
        *_, terminated, truncated, _ = env.step(next(rows) if routes else first)
        done = terminated or truncated
    assert terminated
    fleet = env._world.state["fleet"][0]
    start_s, share = nic_constants("nixl")
    together_bytes_per_s = min(1.0, senders * share) * 10e9 / 8  # the node's link has all of it
    bytes_s = senders * 250 * BLOCK * KV_BYTES / together_bytes_per_s
    assert fleet["moves"] == senders
    assert fleet["moving_s"] / senders == pytest.approx(0.110 + start_s + bytes_s, rel=0.01)


def run_on(env):
    """Play an episode to its end."""
    done = False
    while not done:
        *_, terminated, truncated, _ = env.step(int(np.flatnonzero(env.action_masks())[0]))
        done = terminated or truncated
    assert terminated


def test_the_first_token_is_one_decode_step_behind_the_transfer(tmp_path):
    env = world(tmp_path, [(10.0, 1000, 2)])
    env.reset(seed=0)
    run_on(env)
    one = env.results()["requests"]
    step_s = float(one["finish_s"][0] - one["first_token_s"][0])
    assert float(one["first_token_s"][0] - request(env)["arrive_s"]) == pytest.approx(
        step_s, rel=0.2
    )


def test_short_prompts_stay_on_the_decode_replica(tmp_path):
    env = world(tmp_path, [(10.0, 60, 5), (12.0, 900, 5)], local_prefill_tokens=64)
    run(env, lambda env: env._world.clock["due"][0] == 0)
    assert env.action_masks()[:4].tolist() == [True, False, True, False]
    env.step(2)
    assert request(env)["source"] == -1 and request(env)["replica"] == 2
    run(env, lambda env: env._world.clock["due"][0] == 0 and env._world.clock["now_s"][0] >= 12.0)
    assert env.action_masks()[:4].tolist() == [True, False, False, False]


def test_a_request_waits_for_blocks_where_it_goes(tmp_path):
    """Two prompts of 1,500 tokens, of which the decode replica's 150 blocks hold one."""
    env = world(tmp_path, [(10.0, 1500, 300), (10.1, 1500, 10)], kv_blocks=150)
    env.reset(seed=0)
    seen = set()
    done = False
    while not done:
        seen.add(int(request(env, 1)["stage"]))
        *_, done, _, _ = env.step(int(np.flatnonzero(env.action_masks())[0]))
        spec, replica = env._world.shared["replica_specs"][2], env._world.state["replicas"][0, 2]
        assert 0 <= replica["free_blocks"] <= spec["kv_blocks"]
        if replica["coming"]:
            seen.add(COMING)
    table = env.results()["requests"]
    assert COMING in seen or table["first_token_s"][1] > table["finish_s"][0]
    assert table["first_token_s"][1] > table["finish_s"][0], "its blocks were the first one's"


def test_nobody_waits_for_blocks_in_front_of_those_who_hold_them(tmp_path):
    """The first outgrows 60 blocks beside the second, whose KV has come; both must go on."""
    requests = [(10.0, 480, 300), (10.1, 400, 10)]
    env = world(tmp_path, requests, kv_blocks=60, max_num_seqs=1)
    env.reset(seed=0)
    run_on(env)
    table = env.results()["requests"]
    assert table["preemptions"].tolist() == [1, 0]
    assert table["finish_s"][1] < table["finish_s"][0], "the second frees the blocks"


def test_roles_of_one_service_are_one_base_gang():
    env = make(small(apart("chat", tp=2)))
    specs, jobs = env._world.shared["replica_specs"], env._world.state["jobs"]
    assert specs["does"].tolist() == [PREFILL, PREFILL, DECODE, DECODE]
    assert specs["gang"].tolist() == [0, 1, 0, 2] and specs["rank"].tolist() == [0, 0, 2, 0]
    env.reset(seed=0)
    assert jobs["gpus"][0, :3].tolist() == [4, 2, 2] and GPUS_PER_NODE == 4


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        ([{"kind": "prefill"}], "must be prefill and decode"),
        ([{"kind": "prefill"}, {"kind": "prefill"}], "once each"),
        ([{"kind": "prefill"}, {"kind": "encode"}], "once each"),
        ([{"kind": "prefill"}, {"kind": "decode", "kv_dtype": "fp8"}], "kv_dtype"),
        ([{"kind": "prefill"}, {"kind": "decode", "engine": "sglang"}], "engine = .*'sglang'"),
        ([{"kind": "prefill"}, {"kind": "decode", "model": "Llama-3-70B", "tp": 4}], "model"),
        ([{"kind": "prefill", "min": 3}, {"kind": "decode"}], "min <= initial <= max|never fits"),
        ([{"kind": "prefill", "workload": {}}, {"kind": "decode"}], "is unknown"),
        ("both", "must be tables"),
    ],
)
def test_bad_roles_are_refused(roles, says):
    with pytest.raises(ScenarioError, match=says) as error:
        small(service("chat", max=1, roles=roles))
    assert "deployments[0]" in str(error.value)


def test_roles_that_never_serve_or_meet_are_refused():
    """Nodes have four GPUs: prefill and decode replicas of two each share one, of four never."""
    roles = [{"kind": "prefill"}, {"kind": "decode", "min": 0, "initial": 0}]
    small(service("chat", max=1, roles=roles))
    with pytest.raises(ScenarioError, match=r"deployments\[0\]: initial = 0 of decode with scaler"):
        small(service("chat", max=1, roles=roles), scaler={"interval_s": 0.0})
    small(apart("chat", tp=2, transfer_required="node"))
    with pytest.raises(ScenarioError, match=r"transfer_required = 'node' leaves .* no path: .* 4 "):
        small(apart("chat", tp=4, transfer_required="node"))
    small(apart("chat", tp=4, transfer_required="leaf"))


@pytest.mark.parametrize(("prefill", "decode", "nics"), [(1, 2, 1), (2, 1, 1), (2, 2, 2)])
def test_each_gpu_sends_and_takes_over_its_own_nic(tmp_path, prefill, decode, nics):
    """Nodes of one GPU under one leaf switch: the side with fewer NICs says how fast it is."""
    trace = tmp_path / "requests.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n10.0,1600,20\n")
    roles = [{"kind": "prefill", "tp": prefill}, {"kind": "decode", "tp": decode}]
    workload = {"trace": str(trace), "num_requests": 0}
    scenario = small(
        apart("chat", roles=roles, workload=workload, connector="mooncake"),
        cluster={
            "pools": [{"gpu": "A100-80", "nodes": 6, "gpus_per_node": 1}],
            "fabric": {"nodes_per_leaf": 6},
        },
        jobs={"num_jobs": 1, "rate_per_h": 0.5, "max_gpus": 1},
        scaler={"interval_s": 0.0},
    )
    env = make(scenario)
    env.reset(seed=0)
    run_on(env)
    # software, its start, then bytes at 0.73 of NICs of 25 GB/s (kv_transfer.toml)
    wanted_s = 0.110 + 0.34e-3 + 1600 * KV_BYTES / (0.73 * 25e9 * nics)
    assert request(env)["arrive_s"] - request(env)["sent_s"] == pytest.approx(wanted_s)


def nodes_of_one_gpu(nic_gbit: float = 200.0, **changes):
    """Return a world of one prefill and one decode replica, each on a node of its own."""
    fidelity = changes.pop("fidelity", "fluid")
    cluster = {
        "pools": [{"gpu": "A100-80", "nodes": 6, "gpus_per_node": 1, "nic_gbit": nic_gbit}],
        "fabric": {"nodes_per_leaf": 6},
    }
    roles = [{"kind": "prefill"}, {"kind": "decode"}]
    usual = {"roles": roles, "connector": "mooncake", "handover": "seeded"}
    return make(
        small(
            apart("chat", **{**usual, "max_num_batched_tokens": 4096, **changes}),
            cluster=cluster,
            network={"fidelity": fidelity},
            jobs={"num_jobs": 1, "rate_per_h": 0.5, "max_gpus": 1},
            scaler={"interval_s": 0.0},
        )
    )


def trace_of(path, name, text):
    """Return a workload that reads its requests from a file of these lines."""
    (path / name).write_text(text)
    return {"trace": str(path / name), "num_requests": 0}


@pytest.mark.parametrize("fidelity", ["fluid", "flow"])
@pytest.mark.parametrize("nic_gbit", [200.0, 4.0])
def test_a_cache_moves_layer_by_layer_beside_its_prompt(tmp_path, nic_gbit, fidelity):
    """By hand: what is left after it is a layer, or what the NIC could not take until then."""
    one = "arrival_s,prompt_tokens,output_tokens\n10.0,1600,20\n"
    how = {"workload": trace_of(tmp_path, "one.csv", one), "fidelity": fidelity}
    env = nodes_of_one_gpu(nic_gbit, **how)
    run(env, lambda env: request(env)["stage"] == HANDED)
    computed_s = float(env._world.clock["now_s"][0])  # as it is without overlap
    env = nodes_of_one_gpu(nic_gbit, transfer_overlap="layers", **how)
    run(env, lambda env: request(env)["stage"] == HANDED)
    begun_s = float(env._world.clock["now_s"][0])
    assert begun_s == pytest.approx(10.0 + env._world.shared["replica_specs"][0]["frontend_s"])
    assert request(env)["computed_s"] == computed_s
    run_on(env)
    layers, moves_s = 32, 1600 * KV_BYTES / (0.73 * nic_gbit * 1e9 / 8)
    first_s = max(begun_s + (computed_s - begun_s) / layers, begun_s + 0.007 + 0.34e-3)
    assert (first_s + moves_s < computed_s) == (nic_gbit == 200.0), "it shows both"
    wanted_s = max(computed_s + moves_s / layers, first_s + moves_s)
    assert request(env)["arrive_s"] == pytest.approx(wanted_s, abs=1e-9)
    assert request(env)["first_token_s"] > wanted_s


@pytest.mark.parametrize(("blocks", "moved"), [("all", 69 + 69), ("lacking", 69 + 5)])
def test_blocks_that_a_decode_replica_has_cached_need_not_move(tmp_path, blocks, moved):
    """The second prompt shares 1,024 of 1,100 tokens, 64 of 69 blocks, with the first one."""
    rows = [(10_000, [1, 2, 3]), (20_000, [1, 2, 4])]
    text = "".join(
        f'{{"timestamp": {at}, "input_length": 1100, "output_length": 5, "hash_ids": {ids}}}\n'
        for at, ids in rows
    )
    workload = trace_of(tmp_path, "two.jsonl", text)
    env = nodes_of_one_gpu(workload=workload, transfer_blocks=blocks)
    env.reset(seed=0)
    run_on(env)
    fleet, replicas = env._world.state["fleet"][0], env._world.state["replicas"][0]
    assert fleet["moved_bytes"] == fleet["arrived_bytes"] == moved * BLOCK * KV_BYTES
    assert (replicas["free_blocks"] == env._world.shared["replica_specs"]["kv_blocks"]).all()


def test_where_nobody_is_in_reach_an_episode_ends_as_stalled(tmp_path):
    """A node of prefill replicas, one of decode replicas, and KV caches that must not leave."""
    one = "arrival_s,prompt_tokens,output_tokens\n10.0,1600,20\n"
    roles = [{"kind": kind, "min": 2, "max": 2} for kind in ("prefill", "decode")]
    chat = {"tp": 2, "roles": roles, "workload": trace_of(tmp_path, "one.csv", one)}
    jobs = {"num_jobs": 1, "rate_per_h": 0.5, "max_gpus": 1}
    env = make(
        small(
            apart("chat", transfer_required="node", **chat), jobs=jobs, scaler={"interval_s": 0.0}
        )
    )
    env.reset(seed=0)
    done = False
    while not done:
        *_, terminated, done, info = env.step(int(np.flatnonzero(env.action_masks())[0]))
        assert not terminated
    assert TRUNCATED[int(info["truncated_reason"])] == "stalled"
    assert request(env)["replica"] == -1, "nobody computed it in vain"


@pytest.mark.parametrize(
    ("field", "value"),
    [("transfer_required", "rack"), ("transfer_blocks", "some"), ("transfer_overlap", "chunks")],
)
def test_bad_transfers_are_refused(field, value):
    with pytest.raises(ScenarioError, match=f"{field} = '{value}' must be one of"):
        small(apart("chat", **{field: value}))
