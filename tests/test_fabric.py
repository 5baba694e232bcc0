"""Fabrics: published switch counts, who hangs where, capacities by hand, bad input."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.envs.hardware.catalogue import gpu, gpu_from
from gpuyard.envs.hardware.clusters import BLUEPRINTS, cluster
from gpuyard.envs.hardware.fabric import fat_tree, leaf_spine, pool, rail_optimised
from gpuyard.envs.scenario.checks import ScenarioError
from gpuyard.envs.scenario.cluster import read_cluster

H100 = gpu("H100-SXM")
G = 1e9 / 8  # bytes/s of 1 Gbit/s


def slots(found):
    """Leaf switch of every GPU slot, (nodes, slots)."""
    return found.fabric.gpu_switch.reshape(found.num_nodes, -1)


# --- named clusters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gpus", "nodes", "switches", "uplinks", "spines", "spine_ports"),
    [
        ("default", 512, 64, 8, 16, 8, 16),
        # arXiv 2308.05692: 128 leafs of 64 down / 64 up, 64 spines of 128 ports
        ("vclos-8192", 8192, 2048, 128, 64, 64, 128),
        # 256 leafs of 32/32, 128 spines of 64 ports, 32 optical switches
        ("vclos-8192-ocs", 8192, 2048, 256, 32, 128, 64),
        # 16 leafs + 8 spines + 2 for storage = 26 switches of 64 ports
        ("sakuraone", 800, 100, 16, 32, 8, 64),
        ("v100-32", 32, 8, 4, 8, 4, 8),
        ("philly-like", 2490, 552, 20, 4, 4, 20),
        ("helios-like", 1064, 133, 7, 8, 4, 14),
        ("alibaba-like", 736, 134, 9, 4, 4, 9),
        # arXiv 2407.21783: racks of 16 GPUs
        ("clos-16k", 16384, 2048, 1024, 16, 16, 128),
    ],
)
def test_named_clusters_have_the_published_size(
    name, gpus, nodes, switches, uplinks, spines, spine_ports
):
    found = cluster(name)
    fabric = found.fabric
    assert found.num_gpus == gpus
    assert found.num_nodes == nodes
    assert fabric.num_switches == switches
    assert (fabric.uplinks, fabric.spines) == (uplinks, spines)
    assert fabric.spine_ports == spine_ports
    assert found.source


def test_no_named_cluster_is_left_out_above():
    assert len(BLUEPRINTS) == 9


def test_rates_of_the_isolation_study():
    for name in ("vclos-8192", "vclos-8192-ocs"):
        found = cluster(name)
        assert np.all(found.fabric.uplink_bytes_per_s == 100 * G)
        assert found.pools[0].nic_bytes_per_s == 100 * G
        assert found.pools[0].scale_up_bytes_per_s == 1000 * G
        assert found.fabric.num_switches * found.fabric.uplinks == found.num_gpus  # 1:1
    ocs = cluster("vclos-8192-ocs").fabric
    assert ocs.optical
    assert ocs.spine_ports * ocs.spines == 8192  # all uplinks can be lit at once
    assert ocs.spine_ports // ocs.uplinks == 2  # ports of each spine at each optical switch


def test_llama3_cluster_is_full_in_a_pod_and_1_to_7_above():
    found = cluster("clos-16k")
    fabric = found.fabric
    assert np.bincount(found.leaf_pod).tolist() == [128] * 8
    nics = found.num_gpus // 8 * H100.nic_bytes_per_s  # of a pod
    assert fabric.uplink_bytes_per_s[:128].sum() == pytest.approx(nics)
    assert fabric.core_bytes_per_s[0].sum() == pytest.approx(nics / 7)


def test_sakuraone_keeps_a_slot_on_its_rail():
    found = cluster("sakuraone")
    assert (slots(found) % 8 == np.arange(8)).all()  # rail of slot r is r
    assert (slots(found) // 8 == found.node_leaf[:, None]).all()
    assert np.bincount(found.node_leaf).tolist() == [50, 50]
    down = 50 * 400 * G
    assert (found.fabric.uplink_bytes_per_s.sum(axis=1) >= down).all()  # full bisection
    assert found.fabric.uplink_bytes_per_s[0, 0] == 800 * G


def test_alibaba_like_is_an_eighth_of_the_node_list(data_dir):
    import csv
    from collections import Counter

    counted: Counter[str] = Counter()
    path = data_dir / "traces/alibaba-gpu-v2023/openb_node_list_all_node.csv"
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            counted[row["model"]] += int(row["gpu"])
    names = {"G2": "A10", "G3": "A100-80", "V100M32": "V100-32", "V100M16": "V100-16", "T4": "T4"}
    pools = {p.gpu.name: p.gpus_per_node * p.nodes for p in cluster("alibaba-like").pools}
    for theirs, ours in names.items():
        assert pools[ours] == pytest.approx(counted[theirs] / 8, rel=0.08)


@pytest.mark.parametrize("gpus", [8, 512, 4096, 100_000])
def test_large_clusters_of_any_size(gpus):
    found = cluster("large", gpus)
    assert found.num_gpus == gpus
    assert found.fabric.num_switches == math.ceil(gpus / 128)
    assert np.bincount(found.leaf_pod).max() <= 32


# --- builders ------------------------------------------------------------------------------------


def test_oversubscription_and_parallel_links_by_hand():
    found = leaf_spine([pool(H100, 8)], nodes_per_leaf=4, spines=2, uplinks=8, oversubscription=2.0)
    fabric = found.fabric
    # 4 nodes x 8 NICs x 400G = 12.8T down; 6.4T up on 8 links = 800G; 4 parallel links per spine
    assert fabric.uplink_bytes_per_s == pytest.approx(np.full((2, 8), 800 * G))
    assert fabric.spine_ports == 2 * 4
    assert fabric.node_bytes_per_s == pytest.approx(np.full(8, 3200 * G))
    assert len(fabric.capacity) == 2 * 8 + 2 * 2 * 8
    given_rate = leaf_spine([pool(H100, 8)], nodes_per_leaf=4, spines=2, uplinks=8, uplink_gbit=400)
    assert (given_rate.fabric.uplink_bytes_per_s == 400 * G).all()


def test_rails_by_hand():
    found = rail_optimised([pool(H100, 4)], nodes_per_leaf=2, spines=2, uplinks=2, rails=4)
    # slots r and r + 4 share rail r; groups of 2 nodes
    assert slots(found)[0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert slots(found)[2].tolist() == [4, 5, 6, 7, 4, 5, 6, 7]
    # a rail switch has 2 nodes x 2 NICs of 400G below and 2 uplinks
    assert found.fabric.uplink_bytes_per_s[0, 0] == pytest.approx(800 * G)


def test_fat_tree_by_hand():
    found = fat_tree(
        [pool(H100, 12)],
        nodes_per_leaf=2,
        leafs_per_pod=3,
        spines=4,
        uplinks=4,
        core_uplinks=2,
        core_oversubscription=3.0,
    )
    fabric = found.fabric
    assert found.leaf_pod.tolist() == [0, 0, 0, 1, 1, 1]
    assert fabric.switch_pod.tolist() == [0, 0, 0, 1, 1, 1]
    # a leaf sends 2 x 3.2T over 4 uplinks of 1.6T; a spine gets 3 x 1.6T, 1.6T go on over 2 links
    assert fabric.core_bytes_per_s == pytest.approx(np.full((2, 4, 2), 800 * G))
    assert len(fabric.capacity) == 2 * (12 + 6 * 4 + 2 * 4 * 2)


def test_pools_have_leafs_of_their_own_on_one_fabric():
    small = pool(gpu("A10"), 5, gpus_per_node=4, nic_gbit=100, nodes_per_leaf=3)
    found = leaf_spine([pool(H100, 4), small], nodes_per_leaf=2, spines=2, uplinks=4)
    assert found.node_pool.tolist() == [0] * 4 + [1] * 5
    assert found.node_leaf.tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert found.leaf_pod.tolist() == [0, 0, 1, 1]
    assert found.fabric.switch_pod.tolist() == [0, 0, 0, 0]
    assert slots(found)[4].tolist() == [2] * 4 + [-1] * 4
    rates = found.fabric.uplink_bytes_per_s[:, 0] / G
    assert rates == pytest.approx([2 * 3200 / 4, 2 * 3200 / 4, 3 * 400 / 4, 3 * 400 / 4])


@pytest.mark.parametrize(
    ("name", "gpus", "scale_up"),
    [("H100-SXM", 8, 450e9), ("L40S", 8, 32e9), ("GB200-NVL72", 72, 900e9), ("A30", 8, 32e9)],
)
def test_scale_up_domains(name, gpus, scale_up):
    found = pool(gpu(name), 2)
    assert found.gpus_per_node == gpus
    assert found.nics_per_node == gpus
    assert found.scale_up_bytes_per_s == scale_up  # A30: bridged in pairs, PCIe beyond


def test_dual_plane_and_optical():
    fields = {"nodes_per_leaf": 4, "spines": 4, "uplinks": 8}
    dual = leaf_spine([pool(H100, 16)], planes=2, **fields).fabric
    assert dual.planes == 2
    # uplink k ends at spine k % spines, spine s is in plane s % planes: half of them in each
    spine = np.arange(dual.uplinks) % dual.spines
    assert np.bincount(spine % dual.planes).tolist() == [4, 4]
    optical = leaf_spine([pool(H100, 16)], optical=True, reconfigure_s=0.05, **fields).fabric
    assert (optical.kind, optical.reconfigure_s) == ("optical", 0.05)
    assert optical.spine_ports == 8  # one port per optical switch: 4 leafs share 4 spines


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["leaf-spine", "rail", "fat-tree"]),
    nodes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    per_leaf=st.integers(1, 9),
    spines=st.integers(1, 4),
    parallel=st.integers(1, 3),
    per_pod=st.integers(1, 4),
)
def test_every_fabric_is_consistent(kind, nodes, per_leaf, spines, parallel, per_pod):
    pools = [pool(H100, n, gpus_per_node=2 * (i + 1)) for i, n in enumerate(nodes)]
    fields = {"nodes_per_leaf": per_leaf, "spines": spines, "uplinks": spines * parallel}
    if kind == "fat-tree":
        found = fat_tree(pools, leafs_per_pod=per_pod, core_uplinks=2, **fields)
    else:
        found = (rail_optimised if kind == "rail" else leaf_spine)(pools, **fields)
    fabric, hung = found.fabric, slots(found)
    assert (hung >= 0).sum() == found.num_gpus
    assert set(hung[hung >= 0]) == set(range(fabric.num_switches))  # none without GPUs
    # a leaf's nodes follow each other, and share pool, pod and switches
    assert (np.diff(found.node_leaf) >= 0).all() and (np.diff(found.leaf_pod) >= 0).all()
    for leaf in range(len(found.leaf_pod)):
        members = np.flatnonzero(found.node_leaf == leaf)
        assert len(members) <= per_leaf
        assert len(set(found.node_pool[members])) == 1
        assert (hung[members] == hung[members[0]]).all()
    # no switch serves two leafs, and no pod two pools
    leafs = np.broadcast_to(found.node_leaf[:, None], hung.shape)[hung >= 0]
    assert len(set(zip(hung[hung >= 0], leafs, strict=True))) == fabric.num_switches
    pods = found.leaf_pod[found.node_leaf]
    assert all(len(set(found.node_pool[pods == p])) == 1 for p in set(pods))
    assert (fabric.capacity > 0).all()
    assert fabric.core_bytes_per_s.shape[0] == fabric.switch_pod.max() + 1


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"uplinks": 0, "spines": 0}, r"spines = 0: cuts off 8 leaf switches"),
        ({"uplinks": 0}, r"uplinks = 0: cuts off 8 leaf switches"),
        ({"uplinks": 12}, r"uplinks = 12: give a multiple of spines = 8"),
        ({"planes": 3}, r"spines = 8: give a multiple of planes = 3"),
        ({"planes": 0}, r"planes = 0: give a whole number >= 1"),
        ({"spines": -2}, r"spines = -2: give a whole number >= 0"),
        ({"nodes_per_leaf": 0}, r"nodes_per_leaf = 0: give a whole number >= 1"),
        ({"nodes_per_leaf": 2.5}, r"nodes_per_leaf = 2.5: give a whole number"),
        ({"uplink_gbit": 0}, r"uplink_gbit = 0: links would carry nothing"),
        ({"oversubscription": -1.0}, r"oversubscription = -1.0: links would carry nothing"),
        ({"reconfigure_s": -1.0}, r"reconfigure_s = -1.0: give seconds >= 0"),
        ({"spine_ports": 4}, r"spine_ports = 4: 8 leaf switches need 16 ports"),
        ({"optical": True, "spine_ports": 20}, r"spine_ports = 20: give a multiple of the 16"),
        ({"core_uplinks": 2}, r"core_uplinks = 2: only with kind = \"fat-tree\""),
        ({"rails": 4}, r"rails = 4: only with kind = \"rail\""),
        ({"kind": "rail", "rails": 3}, r"rails = 3: every rail needs as many of the 8 GPUs"),
        ({"kind": "fat-tree"}, r"leafs_per_pod = 0: give the leaf switches of a pod"),
        ({"kind": "fat-tree", "leafs_per_pod": 4}, r"core_uplinks = 0: cuts off 2 pods"),
        ({"kind": "fat-tree", "leafs_per_pod": 4, "core_uplinks": 1, "optical": True}, "optical"),
        ({"kind": "torus"}, r"kind = 'torus': use one of leaf-spine, rail, fat-tree"),
    ],
)
def test_fabrics_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        cluster("default", **fields)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"preset": "defalt"}, r"cluster.preset = 'defalt': did you mean default"),
        ({"preset": 3}, r"cluster.preset = 3 must be text"),
        ({"preset": "large"}, r"say how large with cluster.num_gpus"),
        ({"preset": "large", "num_gpus": 100}, r"num_gpus = 100: give a multiple of 8"),
        ({"num_gpus": 64}, r'num_gpus = 64: only with preset = "large"'),
        ({"gpus": 3}, r"cluster.gpus is unknown; use one of fabric, num_gpus, pools, preset"),
        ({"pools": []}, r"cluster.pools = \[\]: give at least one"),
        ({"pools": [{"gpu": "H100-SXM"}]}, r"pools\[0\].nodes is missing"),
        ({"pools": [{"gpu": "H1000", "nodes": 2}]}, r"pools\[0\].gpu = 'H1000'.*did you mean"),
        ({"pools": [{"gpu": "T4", "nodes": 0}]}, r"pools\[0\].nodes = 0 must be a whole number"),
        ({"pools": [{"gpu": "T4", "nodes": 2, "nic_gbit": -5}]}, r"nic_gbit = -5 carries nothing"),
        ({"pools": [{"gpu": "T4", "nodes": 2.5}]}, r"nodes = 2.5 must be a whole number"),
        ({"fabric": {"spine": 3}}, r"cluster.fabric.spine is unknown"),
        ({"fabric": {"optical": 1}}, r"optical = 1 must be true or false"),
        ({"fabric": {"uplink_gbit": "fast"}}, r"uplink_gbit = 'fast' must be a number"),
    ],
)
def test_tables_that_cannot_be_are_refused(table, message):
    with pytest.raises(ScenarioError, match=message):
        read_cluster(table, {})


# --- the [cluster] table -------------------------------------------------------------------------


def test_an_empty_table_is_the_default_cluster():
    assert read_cluster({}, {}).name == "default"
    assert read_cluster({}, {}).num_gpus == 512


def test_a_preset_with_other_fields():
    found = read_cluster({"preset": "default", "fabric": {"oversubscription": 4}}, {})
    default = cluster("default").fabric
    assert found.fabric.uplink_bytes_per_s == pytest.approx(default.uplink_bytes_per_s / 2)
    pools = [{"gpu": "H200-SXM", "nodes": 16}]
    assert read_cluster({"preset": "default", "pools": pools}, {}).num_gpus == 128


def test_pools_of_own_gpus():
    own = gpu_from("Mine", {"sms": 10, "fp16_tflops": 100, "memory_gib": 10, "bandwidth_gbps": 500,
                            "nic_gbit": 200, "domain": 4, "like": "T4"})  # fmt: skip
    pools = [{"gpu": "Mine", "nodes": 4}, {"gpu": "T4", "nodes": 2, "gpus_per_node": 2}]
    fabric = {"nodes_per_leaf": 2, "spines": 1, "uplinks": 1, "uplink_gbit": 100}
    found = read_cluster({"pools": pools, "fabric": fabric}, {"Mine": own})
    assert found.num_gpus == 4 * 4 + 2 * 2
    assert replace(found.pools[0]).nic_bytes_per_s == 200 * G
    assert found.fabric.uplink_bytes_per_s[:, 0] == pytest.approx([100 * G] * 3)


def test_one_leaf_needs_no_uplinks():
    found = leaf_spine([pool(H100, 2)], nodes_per_leaf=2, spines=0, uplinks=0)
    assert found.fabric.num_switches == 1
    assert len(found.fabric.capacity) == 4
