"""KV tiers of scenarios: sizes and rates by hand, bad input, effects the right way round."""

from __future__ import annotations

import numpy as np
import pytest
from engine_worlds import engine_world
from reference_steps import ReplicaSpec
from scenario_tables import REPLICA, replica, workload, world
from test_engine_exact import served

from gpuyard.envs.engine.core.records import records
from gpuyard.envs.engine.serving.tier_records import REPLICA_TIERS, TIER_SPEC
from gpuyard.envs.hardware import catalogue
from gpuyard.envs.parts.tiers import build_tiers
from gpuyard.envs.perf import Deployment
from gpuyard.envs.perf.serving import kv_tiers
from gpuyard.envs.perf.serving.cost_table import COST, CostTable
from gpuyard.envs.scenario import ScenarioError, from_dict
from gpuyard.envs.workload.requests.stream import RequestStream


def deployment(**changes) -> Deployment:
    settings = {"gpu": catalogue.gpu("H100-SXM"), "model": catalogue.model("Llama-3.1-8B")}
    return Deployment(**{**settings, **changes})


def test_a_unit_over_pcie_by_hand() -> None:
    """32 layers x 8 KV heads x 128 x (K and V) x 2 bytes = 131,072 bytes a token; 50 GB/s."""
    assert kv_tiers.host_unit_s(deployment(), 16) == pytest.approx(16 * 131_072 / 50e9)
    assert kv_tiers.host_units(deployment(), 16, 1e9) == int(1e9 / (16 * 131_072))


def test_ranks_copy_their_parts_side_by_side() -> None:
    whole, halves = deployment(), deployment(tp=2)
    assert kv_tiers.host_unit_s(halves, 16) == pytest.approx(kv_tiers.host_unit_s(whole, 16) / 2)
    assert kv_tiers.host_units(halves, 16, 1e9) == kv_tiers.host_units(whole, 16, 1e9)
    assert kv_tiers.store_unit_bytes(halves, 16) == 16 * 131_072
    assert kv_tiers.nic_unit_s(halves, 16) == pytest.approx(8 * 131_072 / 50e9)


def test_a_latent_cache_is_kept_by_every_rank_but_once_in_a_store() -> None:
    """61 layers x (512 + 64) x 2 bytes = 70,272 bytes a token of DeepSeek-V3."""
    model = catalogue.model("DeepSeek-V3")
    eight = deployment(gpu=catalogue.gpu("H200-SXM"), model=model, tp=8, dtype="fp8", ep=8)
    assert kv_tiers.store_unit_bytes(eight, 64) == 64 * 70_272
    assert kv_tiers.host_units(eight, 64, 8 * 64 * 70_272 * 10.5) == 10


def test_scenario_to_records() -> None:
    tiered = {**REPLICA, "host_kv_gb": 10, "kv_write": "back"}
    store = {"capacity_gb": 100.0, "gbps": 20.0}
    tiers, own = build_tiers(from_dict(world(replicas=[REPLICA, tiered], kv_store=store)))
    assert own["host"].tolist() == [-1, 0] and own["store"].tolist() == [1, 1]
    assert own["write_back"].tolist() == [0, 1]
    unit_bytes = 128 * 131_072  # the workload's prefix blocks
    assert tiers["units"].tolist() == [int(10e9 / unit_bytes), int(100e9 / unit_bytes)]
    assert tiers["unit_s"].tolist() == pytest.approx([unit_bytes / 25e9, unit_bytes / 20e9])
    assert not len(build_tiers(from_dict(world()))[0])


LINEAR = {**REPLICA, "gpu": "H100-SXM", "model": "Qwen3-Next-80B-A3B", "tp": 4}


@pytest.mark.parametrize(
    ("table", "problem", "remedy"),
    [
        (replica(host_kv_gb=-1), "replicas[1].host_kv_gb = -1", "from 0 to 1e+06"),
        (replica(host_kv_gb="x"), "replicas[1].host_kv_gb = 'x'", "must be a number"),
        (replica(kv_write="never"), "replicas[1].kv_write = 'never'", "one of through, back"),
        (replica(kv_write="back"), "replicas[1].kv_write = 'back'", "give host_kv_gb, too"),
        (world(kv_store=3), "kv_store = 3", "must be a table"),
        (world(kv_store={"size": 1}), "kv_store.size is unknown", "capacity_gb"),
        (world(kv_store={"capacity_gb": -1}), "kv_store.capacity_gb = -1", "from 0 to 1e+09"),
        (world(kv_store={"gbps": 0}), "kv_store.gbps = 0", "above 0"),
        (
            {**replica(model="Llama-2-7B"), "kv_store": {"capacity_gb": 1}},
            "kv_store.capacity_gb = 1: replicas[1].model",
            "give all of them the same",
        ),
    ],
)
def test_bad_tiers_are_refused(table, problem: str, remedy: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        from_dict(table)
    assert problem in str(caught.value) and remedy in str(caught.value)


def test_a_workload_without_prefixes_has_no_use_for_a_tier(tmp_path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,20,3\n1,20,3\n")
    table = {**workload(), "workload": {"trace": str(path), "num_requests": 0}}
    table["replicas"] = [{**REPLICA, "host_kv_gb": 4}]
    with pytest.raises(ScenarioError, match="says nothing of prefixes"):
        from_dict(table)


# -- a shared store, by hand ---------------------------------------------------------------------

SPEC = ReplicaSpec(max_num_seqs=4, max_num_batched_tokens=256, kv_blocks=64, prefix_block_tokens=16)
TOKEN_S = 1e-3  # per token in a step: all that a step costs


def plain_cost() -> CostTable:
    return CostTable(np.zeros((), COST)[()], TOKEN_S * np.arange(257.0), np.zeros(5))


def prompts(arrivals: list[float], tokens: int = 65) -> RequestStream:
    """The same prompt again and again, of four units and one token; one token of output."""
    n = len(arrivals)
    return RequestStream(
        arrival_s=np.array(arrivals),
        prompt_tokens=np.full(n, tokens, np.int32),
        output_tokens=np.ones(n, np.int32),
        max_tokens=np.ones(n, np.int32),
        session=np.full(n, -1, np.int32),
        prefix_offsets=4 * np.arange(n + 1),
        prefix_ids=np.tile(np.arange(4, dtype=np.int32), n),
        prefix_block_tokens=16,
        priority=np.zeros(n, np.float32),
    )


def store_of(unit_s: float, nic_unit_s: float, replicas: int, units: int = 100):
    tiers, own = records(1, TIER_SPEC), records(replicas, REPLICA_TIERS)
    tiers["units"], tiers["unit_s"] = units, unit_s
    own["host"], own["store"], own["nic_unit_s"] = -1, 0, nic_unit_s
    return tiers, own


def ttft_s(arrivals: list[float], replicas: list[int], tiers) -> list[float]:
    count = max(replicas) + 1
    world = served([SPEC] * count, [plain_cost()] * count, prompts(arrivals), replicas, tiers=tiers)
    rows = world.state["requests"][0]
    return (rows["first_token_s"] - rows["arrival_s"]).tolist()


def test_another_replica_reads_what_one_has_written() -> None:
    """Computed: 65 ms. Read later: four units, 2 ms each at the store, then one token, 1 ms."""
    tiers = store_of(unit_s=2e-3, nic_unit_s=1e-3, replicas=2)
    assert ttft_s([0.0, 1.0], [0, 1], tiers) == pytest.approx([0.065, 0.009])


def test_the_slower_of_store_and_nics_counts() -> None:
    tiers = store_of(unit_s=1e-3, nic_unit_s=5e-3, replicas=2)
    assert ttft_s([0.0, 1.0], [0, 1], tiers) == pytest.approx([0.065, 0.021])


def test_readers_queue_at_the_store() -> None:
    """Three replicas read at once: 8, 16 and 24 ms, each then computes one token."""
    tiers = store_of(unit_s=2e-3, nic_unit_s=1e-3, replicas=4)
    got = ttft_s([0.0, 1.0, 1.0, 1.0], [0, 1, 2, 3], tiers)
    assert got == pytest.approx([0.065, 0.009, 0.017, 0.025])


def test_what_is_not_yet_written_cannot_be_read() -> None:
    """Four units take 40 ms to write, from the step's start at 0 on: at 25 ms two are there."""
    tiers = store_of(unit_s=10e-3, nic_unit_s=1e-3, replicas=2)
    assert ttft_s([0.0, 0.025], [0, 1], tiers) == pytest.approx([0.065, 0.020 + 0.033])


def test_a_store_smaller_than_the_working_set_gives_nothing_under_lru() -> None:
    """Prefixes of three units in turn, each used once before it is used again; room for two."""
    stream = prompts([float(at) for at in range(8)], tokens=49)
    ids = np.concatenate([3 * (at % 2) + np.arange(3) for at in range(8)]).astype(np.int32)
    stream = RequestStream(
        **{**vars(stream), "prefix_ids": ids, "prefix_offsets": 3 * np.arange(9)}
    )
    small = ReplicaSpec(4, 256, kv_blocks=4, prefix_block_tokens=16)
    fetched = {}
    for units in (3, 6):
        tiers = store_of(unit_s=1e-3, nic_unit_s=1e-3, replicas=1, units=units)
        world = served([small], [plain_cost()], stream, [0] * 8, tiers=tiers)
        fetched[units] = world.state["requests"][0]["fetched_tokens"].sum()
    assert fetched[3] == 0 and fetched[6] >= 6 * 32


def test_a_world_without_tiers_has_no_arrays_of_them() -> None:
    world = engine_world([SPEC], [plain_cost()], prompts([0.0]))
    assert "tier_entries" not in world.state and len(world.shared["replica_tiers"]) == 0
