"""Collectives of training jobs: measured curves, closed forms, flows and hash collisions."""

import math

import accuracy_nccl
import accuracy_training as accuracy
import ecmp_closed_form as ecmp
import numpy as np
import pytest

from gpuyard.envs.hardware.catalogue import gpu
from gpuyard.envs.perf.network import internode, nccl, nccl_tuning
from gpuyard.envs.perf.network.internode import Group, Network
from gpuyard.envs.perf.training import patterns, vclos

MIB = 2**20
# NCCL all-reduce on 8 x H100, time in us. Source: NVIDIA dgxc-benchmarking, nccl/README.
H100_ALL_REDUCE = {
    1 * MIB: 27.4,
    2 * MIB: 42.2,
    4 * MIB: 54.2,
    8 * MIB: 83.0,
    16 * MIB: 123.8,
    32 * MIB: 199.3,
    64 * MIB: 324.7,
    128 * MIB: 586.4,
    256 * MIB: 1112.5,
    512 * MIB: 2151,
    1024 * MIB: 4029,
    4096 * MIB: 15749,
    16384 * MIB: 62648,
}
# k = n/4, n/2, n, 2n, 4n equal flows on n uplinks: slowdown over perfectly spread paths.
# Source: Monte Carlo with 4,000 draws in the project's reference study.
COLLISIONS = {
    4: (1.00, 1.25, 2.14, 1.78, 1.53),
    8: (1.12, 1.65, 2.59, 2.09, 1.76),
    16: (1.34, 2.07, 3.09, 2.41, 1.97),
    32: (1.66, 2.39, 3.52, 2.70, 2.16),
    64: (1.99, 2.73, 3.95, 2.98, 2.34),
}


def test_measured_collectives_inside_a_node(data_dir):
    table = accuracy.collectives(data_dir)
    assert len(table) == 24
    assert table.worst.max() <= 15
    assert table["median"].max() < 9


@pytest.mark.parametrize("size", H100_ALL_REDUCE)
def test_all_reduce_of_another_h100_host_and_beyond_the_fitted_sizes(size):
    predicted = nccl.collective_s("all_reduce", size, 8, gpu("H100-SXM"))
    assert predicted == pytest.approx(H100_ALL_REDUCE[size] * 1e-6, rel=0.17)


def test_curve_by_hand():
    # nccl.toml, H100: 8 ranks = alpha, bus, knee, size; far above the knee it is a straight line
    row = nccl._tables()["all_reduce"]["H100-SXM"]["8"]
    alpha, bus, knee, _ = row
    assert nccl.collective_s("all_reduce", 2**32, 8, gpu("H100-SXM")) == pytest.approx(
        (alpha + knee) * 1e-6 + 1.75 * 2**32 / (bus * 1e9), rel=1e-9
    )
    assert nccl.collective_s("all_gather", 1e6, 1, gpu("H100-SXM")) == 0
    assert nccl.collective_s("all_gather", np.array([1e3, 1e9]), 4, gpu("B200-SXM")).shape == (2,)


def test_related_gpus_scale_by_link_rate_and_bridges_fall_to_pcie():
    large = 2**32
    h100 = nccl.collective_s("all_reduce", large, 8, gpu("H100-SXM"))
    mi300 = nccl.collective_s("all_reduce", large, 8, gpu("MI300X"))
    assert mi300 / h100 == pytest.approx(450 / 448, rel=1e-3)
    bridged = nccl.collective_s("all_reduce", large, 8, gpu("A100-PCIe-80"))
    assert bridged > 5 * nccl.collective_s("all_reduce", large, 8, gpu("A100-80"))


def test_through_the_host_inside_a_node():
    # 16 GB/s for 2 x 3/4 of a gigabyte; 15.7 us later by hand: [13.1, 26.8, 15.7, 0.218] and 4 us
    board = gpu("RTX-PRO-6000")
    far = nccl.collective_s("all_reduce", 1e9, 4, board)
    assert far == pytest.approx((13.1 + 15.7 + 4) * 1e-6 + 1.5e9 / 16e9, rel=1e-6)
    assert nccl.collective_s("all_reduce", 1e9, 4, board, "pcie") < far
    assert nccl.send_recv_s(16e6, board) == pytest.approx(1e-3 + 12e-6)


def test_larger_domain_extrapolates():
    small, large = (nccl.collective_s("all_reduce", 1e9, n, gpu("GB200-NVL72")) for n in (4, 64))
    assert small < large < 2 * small


def test_unknown_collective_is_named():
    with pytest.raises(ValueError, match="'broadcast' is unknown; use one of all_reduce"):
        nccl.collective_s("broadcast", 1, 8, gpu("H100-SXM"))


@pytest.mark.parametrize(("ranks", "us"), [(2, 7.8), (4, 10.2), (8, 15.0)])
def test_nccl_latency_of_the_low_latency_ring(ranks, us):
    found = nccl_tuning.choices("all_reduce", 0, ranks, 1, 370e9)
    ring = next(c for c in found if (c.algorithm, c.protocol) == ("ring", "LL"))
    assert ring.seconds == pytest.approx(us * 1e-6)


def test_nccl_latency_across_nodes_by_hand():
    found = {(c.algorithm, c.protocol): c.seconds for c in _choices(0)}
    # 64 ranks on 8 nodes. Simple ring: 126 steps, 14 of them between nodes; 3.4 us inside
    assert found["ring", "Simple"] == pytest.approx(1.4e-6 * (8.4 + 112 * 3.4 + 14 * 14.0))
    # hops inside cost at least the host's 1 us; tree: 7 inside and 3 levels between, twice
    assert found["ring", "LL"] == pytest.approx(1e-6 * (6.6 + 112 * 1.0 + 14 * 2.7))
    assert found["tree", "LL"] == pytest.approx(1e-6 * (6.8 + 2 * (7 * 1.0 + 3 * 5.0)))


def test_nccl_picks_trees_for_small_and_rings_for_large_messages():
    assert (_choices(1e3)[0].algorithm, _choices(1e3)[0].protocol) == ("tree", "LL")
    assert (_choices(8e9)[0].algorithm, _choices(8e9)[0].protocol) == ("ring", "Simple")
    assert {c.algorithm for c in nccl_tuning.choices("all_gather", 1, 8, 2, 1e9)} == {"ring"}


def _choices(size):
    return nccl_tuning.choices("all_reduce", size, 64, 8, 370e9)


def bus(device, nodes, nic_gbps, efficiency, size):
    """Return the predicted bus bandwidth in GB/s of an all-reduce over nodes of eight."""
    where = Group(8, nodes)
    network = Network(nic_gbps * 1e9, 8, efficiency)
    seconds = internode.collective_s("all_reduce", size, where, gpu(device), network)
    return 2 * (where.ranks - 1) / where.ranks * size / seconds / 1e9


@pytest.mark.parametrize(
    ("device", "nodes", "nic", "efficiency", "size", "measured"),
    [
        # NVIDIA/nccl-tests issues 119 and 283, NVIDIA/nccl issues 495 and 837
        ("A100-80", 3, 12.5, 0.96, 128 * MIB, 96),  # 4 x 200G a host
        ("H200-SXM", 248, 50, 0.96, 512 * MIB, 350),
        ("A100-80", 2, 12.5, 0.90, 512 * MIB, 75),  # RoCE
        ("A100-80", 2, 6.25, 0.96, 512 * MIB, 55.5),  # trees on two nodes beat the NICs' sum
    ],
)
def test_bus_bandwidth_across_nodes(device, nodes, nic, efficiency, size, measured):
    assert bus(device, nodes, nic, efficiency, size) == pytest.approx(measured, rel=0.22)


def test_large_messages_run_at_the_rate_of_the_slower_part():
    network = Network(25e9, 8, 0.96)
    where = Group(8, 4)
    gathered = internode.collective_s("all_gather", 8e9, where, gpu("H100-SXM"), network)
    assert gathered == pytest.approx(31 / 32 * 8e9 / (8 * 24e9), rel=0.01)
    fast = Network(500e9, 8, 0.96)
    inside = float(nccl.collective_s("all_gather", 8e9, 8, gpu("H100-SXM")))
    assert internode.collective_s("all_gather", 8e9, where, gpu("H100-SXM"), fast) == pytest.approx(
        inside, rel=0.01
    )
    # all-to-all of N hosts: bus N/(N-1) x NIC (NVIDIA/nccl-tests issue 130)
    exchanged = internode.collective_s("all_to_all", 1e9, where, gpu("H100-SXM"), network)
    assert 1e9 / exchanged == pytest.approx(4 / 3 * 24e9, rel=0.01)


def seconds(op, size, where, device="H100-SXM", nic=50e9):
    return internode.collective_s(op, size, where, gpu(device), Network(nic))


def test_a_few_bytes_take_the_low_latency_tree():
    # NCCL: 6.8 us, up and down six levels of 5 us
    assert seconds("all_reduce", 8, Group(1, 64)) == pytest.approx(66.8e-6, rel=1e-3)
    assert seconds("all_gather", 8, Group(1, 64)) == pytest.approx(36.8e-6, rel=1e-3)


def test_ring_across_nodes_by_hand():
    # 8 nodes of 8, 12 MB: 6.8 + 2 (7 + 3 x 5) us to begin, 50 us for a full-rate protocol, 300 us
    # of filling of which 1 - 1/e is there, 2 x 63/64 x 12 MB on eight NICs of 48 GB/s
    wire = 2 * 63 / 64 * 12e6 / (8 * 48e9)
    by_hand = 50.8e-6 + 50e-6 + 300e-6 * (1 - math.exp(-1)) + wire
    assert internode.ring_s("all_reduce", 12e6, Group(8, 8), Network(50e9)) == pytest.approx(
        by_hand, rel=1e-4
    )


# us of nccl-tests. Sources: NVIDIA/nccl-tests issue 309, coreweave/nccl-tests, GKE A4 README
@pytest.mark.parametrize(
    ("op", "device", "where", "mib", "us", "tolerance"),
    [
        ("all_reduce", "H100-SXM", Group(8, 8), 4, 203.8, 0.15),
        ("all_reduce", "H100-SXM", Group(8, 8), 16, 378.1, 0.15),
        ("all_reduce", "H100-SXM", Group(8, 4), 8, 239.0, 0.10),
        ("all_reduce", "H100-SXM", Group(8, 4), 64, 624.1, 0.10),
        ("all_reduce", "H100-SXM", Group(8, 2), 1, 71.9, 0.12),
        ("all_reduce", "H100-SXM", Group(8, 2), 64, 466.1, 0.12),
        ("all_reduce", "H100-SXM", Group(8, 2), 8192, 34381, 0.12),
        ("all_reduce", "GB200-NVL72", Group(72, 2), 512, 2156.8, 0.12),
        ("all_reduce", "GB200-NVL72", Group(72, 2), 8192, 21493, 0.12),
        ("all_reduce", "GB200-NVL72", Group(72, 20), 8192, 45004, 0.15),
        ("all_gather", "B200-SXM", Group(8, 2), 8, 107.9, 0.12),
        ("all_gather", "B200-SXM", Group(8, 2), 1024, 2767, 0.05),
    ],
)
def test_published_times_across_nodes(op, device, where, mib, us, tolerance):
    assert seconds(op, mib * MIB, where, device) == pytest.approx(us * 1e-6, rel=tolerance)


def test_only_switches_that_add_halve_the_wire():
    # 400 GB/s of NVLink, NICs of 5 GB/s: two nodes of H100 send S, of A100 2 x 15/16 S
    h100 = seconds("all_reduce", 2**33, Group(8, 2), "H100-SXM", 5e9)
    a100 = seconds("all_reduce", 2**33, Group(8, 2), "A100-80", 5e9)
    assert a100 / h100 == pytest.approx(15 / 8, rel=0.01)
    assert not internode.switch_reduces(gpu("MI300X"))


@pytest.mark.parametrize("op", nccl.OPS)
@pytest.mark.parametrize("device", ["H100-SXM", "A100-80", "GB200-NVL72", "L40S", "RTX-4090"])
@pytest.mark.parametrize("shape", [(1, 2), (2, 2), (8, 2), (8, 3), (4, 64), (8, 1000)])
def test_more_bytes_take_longer_and_never_less_than_inside(op, device, shape):
    times = [seconds(op, size, Group(*shape), device) for size in np.geomspace(1, 1e11, 200)]
    assert np.all(np.diff(times) > 0)
    assert np.max(np.diff(np.log(times))) < 0.2  # no steps: sizes grow by 14 %
    inside = [seconds(op, size, Group(shape[0], 1), device) for size in np.geomspace(1, 1e11, 200)]
    assert np.all(np.array(times) >= inside)


def test_one_node_is_the_collective_inside():
    inside = float(nccl.collective_s("all_reduce", 1e7, 8, gpu("H100-SXM")))
    assert seconds("all_reduce", 1e7, Group(8, 1)) == inside


def test_nccl_tests_of_others(data_dir):
    if not (data_dir / accuracy_nccl.TABLE).is_file():
        pytest.skip(f"no {accuracy_nccl.TABLE} in {data_dir}")
    errors = accuracy_nccl.run(data_dir)
    assert errors["400G rings"]["median"] <= 10
    assert errors["400G rings"]["p90"] <= 25
    assert errors["two nodes, switches"]["worst"] <= 12
    assert errors["one node"]["median"] <= 7


@pytest.mark.parametrize(
    ("ranks", "stride", "expected"),
    [(8, 1, (8, 1)), (64, 1, (8, 8)), (64, 4, (2, 32)), (48, 8, (1, 48)), (12, 1, (6, 2))],
)
def test_groups_of_a_compact_job(ranks, stride, expected):
    where = internode.group(ranks, stride, Network(50e9, 8))
    assert (where.local, where.nodes) == expected


@pytest.mark.parametrize("field", ["nic_bytes_per_s", "gpus_per_node", "efficiency"])
def test_network_says_what_is_wrong(field):
    values = {"nic_bytes_per_s": 50e9, "gpus_per_node": 8, "efficiency": 0.9} | {field: 0}
    with pytest.raises(ValueError, match=f"network: {field} = 0"):
        Network(**values)


# --- flows -------------------------------------------------------------------------------------

REDUCING = [
    ("all_reduce", "ring", 2),
    ("all_gather", "ring", 1),
    ("reduce_scatter", "ring", 1),
    ("all_reduce", "halving_doubling", 2),
    ("all_gather", "halving_doubling", 1),
]


@pytest.mark.parametrize(("op", "algorithm", "passes"), REDUCING)
@pytest.mark.parametrize("shape", [(8, 1), (4, 2), (2, 8), (1, 16)])
def test_every_rank_sends_the_optimal_volume(op, algorithm, passes, shape):
    where = Group(*shape)
    n = where.ranks
    sent = patterns.sent_bytes(patterns.steps(op, algorithm, 1e9, where), where)
    assert sent == pytest.approx(np.full(n, passes * (n - 1) / n * 1e9))


@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "all_to_all"])
@pytest.mark.parametrize("shape", [(8, 2), (4, 8), (2, 6)])
def test_flows_put_on_the_nics_what_the_closed_form_says(op, shape):
    from gpuyard.envs.perf.training.communication import Communication

    where = Group(*shape)
    part = Communication("dp", op, where, 1, 1e9, 1)
    flows = patterns.steps(op, "pxn" if op == "all_to_all" else "ring", 1e9, where)
    outside = patterns.sent_bytes(flows, where, between_nodes=True)
    assert outside == pytest.approx(np.full(where.ranks, part.nic_bytes))
    inside = patterns.sent_bytes(flows, where) - outside
    assert inside == pytest.approx(np.full(where.ranks, part.scale_up_bytes))


def test_rings_and_pxn_stay_on_their_rail():
    where = Group(4, 4)
    for op, algorithm in (("all_reduce", "ring"), ("all_to_all", "pxn")):
        for step in patterns.steps(op, algorithm, 1.0, where):
            away = step.src // 4 != step.dst // 4
            assert np.all(step.src[away] % 4 == step.dst[away] % 4)
    pairwise = patterns.steps("all_to_all", "pairwise", 1.0, where)
    assert any(np.any(s.src % 4 != s.dst % 4) for s in pairwise)


@pytest.mark.parametrize("ranks", [2, 3, 4, 7, 8, 16, 31, 64])
def test_double_tree_reaches_everyone_and_shares_the_work(ranks):
    up, down = patterns.steps("all_reduce", "tree", 1.0, Group(1, ranks))
    half = ranks - 1
    for at in (slice(0, half), slice(half, None)):  # each tree: one parent each, all below one root
        parent = dict(zip(up.src[at].tolist(), up.dst[at].tolist(), strict=True))
        assert len(parent) == ranks - 1
        for rank in parent:
            depth = 0
            while rank in parent:
                rank, depth = parent[rank], depth + 1
            assert depth <= math.ceil(math.log2(ranks)) + 1
    sent = patterns.sent_bytes((up, down), Group(1, ranks))
    assert sent.sum() == pytest.approx(2 * (ranks - 1))
    assert sent.max() <= 2.5


def test_all_gather_delivers_everything():
    """Run the doubling flows on sets of blocks."""
    held = [{rank} for rank in range(16)]
    for step in patterns.steps("all_gather", "halving_doubling", 16.0, Group(4, 4)):
        before = [set(blocks) for blocks in held]
        for src, dst in zip(step.src, step.dst, strict=True):
            assert len(before[src]) == step.size_bytes
            held[dst] |= before[src]
    assert all(len(blocks) == 16 for blocks in held)


def test_hierarchical_all_reduce_crosses_once_per_rail():
    where = Group(8, 4)
    flows = patterns.steps("all_reduce", "hierarchical", 8e9, where)
    outside = patterns.sent_bytes(flows, where, between_nodes=True)
    assert outside == pytest.approx(np.full(32, 2 * 3 / 4 * 1e9))


def test_unknown_algorithms_and_sizes_are_named():
    with pytest.raises(ValueError, match="no 'ring' algorithm for 'all_to_all'"):
        patterns.steps("all_to_all", "ring", 1, Group(8, 1))
    with pytest.raises(ValueError, match="on 12 ranks: use a power of two"):
        patterns.steps("all_reduce", "halving_doubling", 1, Group(4, 3))
    assert patterns.steps("all_reduce", "ring", 1, Group(1, 1)) == ()


# --- vClos -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpus", [8, 64, 512])
def test_vclos_unit_times_are_those_of_the_flows(gpus):
    where = Group(4, gpus // 4)
    halving = patterns.steps("all_reduce", "halving_doubling", 1.0, where)
    time = patterns.slowest_flow_s(halving, where, 1000, 100)
    assert vclos.unit_time_s("halving_doubling", gpus) == pytest.approx(time)
    pairwise = patterns.steps("all_to_all", "pairwise", float(gpus), where)
    time = patterns.slowest_flow_s(pairwise, where, 1000, 100)
    assert vclos.unit_time_s("pairwise", gpus) == pytest.approx(time)


def test_vclos_unit_times_by_hand():
    # 8 GPUs, 4 a server: halves and quarters inside, eighths across, twice
    assert vclos.unit_time_s("halving_doubling", 8) == pytest.approx(
        2 * (0.75 / 1000 + 0.125 / 100)
    )
    assert vclos.unit_time_s("ring", 192) == pytest.approx(1.5 / 1000 + 0.25 / 100)
    assert vclos.unit_time_s("ring", 4) == pytest.approx(0.75 / 1000)
    assert sum(vclos.PANGU.values()) == pytest.approx(0.3477)
    assert sum(map(len, vclos.SHARES.values())) == 17
    with pytest.raises(ValueError, match="gpus = 192: halving_doubling needs a power of two"):
        vclos.unit_time_s("halving_doubling", 192)


# --- ECMP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("uplinks", COLLISIONS)
def test_collision_table(uplinks):
    """Closed form against 4,000 draws of our own and against the published table, 3 sigma each."""
    rng = np.random.default_rng(0)
    for flows, published in zip(
        (uplinks // 4, uplinks // 2, uplinks, 2 * uplinks, 4 * uplinks),
        COLLISIONS[uplinks],
        strict=True,
    ):
        draws = rng.integers(uplinks, size=(4000, flows)) + uplinks * np.arange(4000)[:, None]
        load = np.bincount(draws.ravel(), minlength=4000 * uplinks).reshape(4000, uplinks)
        slower = load.max(1) / max(1, flows / uplinks)
        sigma = slower.std() / math.sqrt(4000)
        exact = ecmp.slowdown(flows, uplinks)
        assert abs(slower.mean() - exact) <= 3 * sigma
        assert abs(published - exact) <= 3 * sigma + 0.005  # rounded to two digits


def test_expected_load_by_enumeration():
    # three flows on two links: max 3 in 2 of 8 cases, else 2
    assert ecmp.expected_max_load(3, 2) == pytest.approx((2 * 3 + 6 * 2) / 8)
    assert ecmp.expected_max_load(0, 4) == 0
    assert ecmp.expected_max_load(5, 1) == 5
    assert ecmp.expected_max_load(1, 64) == 1


def test_queue_pairs_move_along_the_row():
    assert ecmp.slowdown(16, 16, 4) == pytest.approx(ecmp.slowdown(64, 16), rel=1e-12)
    assert ecmp.slowdown(16, 16, 4) == pytest.approx(1.97, abs=0.02)


def test_collision_probability_exact_and_drawn():
    assert ecmp.collision_probability(2, 4) == pytest.approx(1 / 4)
    assert ecmp.collision_probability(4, 4) == pytest.approx(1 - 24 / 256)
    assert ecmp.collision_probability(5, 4) == 1
    draws = np.random.default_rng(1).integers(32, size=(20000, 6))
    hit = np.mean([len(set(row)) < 6 for row in draws])
    exact = ecmp.collision_probability(6, 32)
    assert abs(hit - exact) <= 3 * math.sqrt(exact * (1 - exact) / 20000)


def test_contended_iteration():
    # a tenth of exposed communication at slow = 2.1 is the +11 % that Crux reports
    assert ecmp.iteration_slowdown(0.1, 2.1) == pytest.approx(1.11)
    with pytest.raises(ValueError, match="uplinks = 0"):
        ecmp.expected_max_load(1, 0)
