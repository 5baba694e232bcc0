"""Slurm's topology files: trees and blocks by hand, clusters from them, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from placement_worlds import make, play

from gpuyard.envs.hardware.topology import read
from gpuyard.envs.scenario import ScenarioError, load
from gpuyard.envs.scenario.cluster import read_cluster

POOLS = [{"gpu": "V100-32", "gpus_per_node": 4}]
THREE_LAYERS = """
# leafs of 2, 1 and 3 nodes; the last one hangs at the top itself
SwitchName=top Switches=pod,lone
switchname = pod switches = "l[0-1]"   # keys in any case
SwitchName=l1 Nodes=c LinkSpeed=100
SwitchName=l0 \\
    Nodes=a,b
SwitchName=lone Nodes=d[1-3]
"""
TOPOLOGIES = """
- topology: wide
  cluster_default: false
  flat: true
- topology: tall
  cluster_default: True
  tree:
    switches:
      - switch: root
        children: s[1-2]
      - {switch: s2, nodes: "node[03-04]"}
      - {switch: s1, nodes: "node[01-02]"}
"""


def write(folder: Path, text: str | bytes, name: str = "topology.conf") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- files by hand -------------------------------------------------------------------------------


def test_the_tree_of_slurms_manual(tmp_path: Path) -> None:
    found = read(write(tmp_path, """# topology/tree
SwitchName=s0 Nodes=dev[0-5]
SwitchName=s1 Nodes=dev[6-11]
SwitchName=s2 Nodes=dev[12-17]
SwitchName=s3 Switches=s[0-2]
"""))  # fmt: skip
    assert (found.kind, found.leafs) == ("tree", ((6, 6, 6),))
    assert found.nodes == tuple(f"dev{k}" for k in range(18))


def test_the_blocks_of_slurms_manual(tmp_path: Path) -> None:
    lines = [f"BlockName=block{k + 1} Nodes=node[{32 * k + 1}-{32 * k + 32}]" for k in range(4)]
    found = read(write(tmp_path, "\n".join([*lines, "BlockSizes=30,120"])))
    assert (found.kind, found.leafs) == ("block", ((32, 32, 32, 32),))
    assert found.nodes[:2] == ("node1", "node2") and len(found.nodes) == 128


def test_a_tree_of_three_layers_goes_pod_by_pod(tmp_path: Path) -> None:
    found = read(write(tmp_path, THREE_LAYERS))
    assert found.leafs == ((2, 1), (3,))
    assert found.nodes == ("a", "b", "c", "d1", "d2", "d3")
    # a top switch with one child joins nothing, as Amazon's files have them
    found = read(write(tmp_path, f"SwitchName=aws Switches=top\n{THREE_LAYERS}"))
    assert found.leafs == ((2, 1), (3,))


def test_the_default_of_several_topologies(tmp_path: Path) -> None:
    found = read(write(tmp_path, TOPOLOGIES, "topology.yaml"))
    assert (found.kind, found.leafs) == ("tree", ((2, 2),))
    assert found.nodes == ("node01", "node02", "node03", "node04")
    blocks = "block_sizes: [2, 4]\n    blocks:\n    - {block: b0, nodes: 'g[0-2]'}"
    more = f"- topology: x\n  block:\n    {blocks}\n    - {{block: b1, nodes: 'h[0-1]'}}\n"
    found = read(write(tmp_path, more, "one.yml"))  # the only one needs no mark
    assert (found.kind, found.leafs) == ("block", ((3, 2),))
    assert read(write(tmp_path, "- topology: x\n  flat: true\n", "flat.yaml")).leafs == ()


# --- clusters from them --------------------------------------------------------------------------


def cluster(folder: Path, text: str, name: str = "topology.conf", **table: Any) -> Any:
    write(folder, text, name)
    return read_cluster({"topology": name, "pools": POOLS, **table}, {}, folder)


def test_unequal_leafs_and_pods_make_a_fat_tree(tmp_path: Path) -> None:
    found = cluster(tmp_path, THREE_LAYERS, fabric={"spines": 2, "uplinks": 4})
    assert found.node_leaf.tolist() == [0, 0, 1, 2, 2, 2]
    assert found.leaf_pod.tolist() == [0, 0, 1]
    fabric = found.fabric
    assert (fabric.kind, fabric.core_uplinks, found.num_gpus) == ("fat-tree", 8, 24)
    nic = found.pools[0].nic_bytes_per_s
    # a full leaf has 3 nodes of 4 NICs, on 4 uplinks; a full pod 2 leafs, on 2 spines of 8 links
    assert fabric.uplink_bytes_per_s == pytest.approx(np.full((3, 4), 3 * nic))
    assert fabric.core_bytes_per_s == pytest.approx(np.full((2, 2, 8), 2 * 12 * nic / 16))


def test_one_pod_is_a_leaf_spine_or_rails(tmp_path: Path) -> None:
    found = cluster(tmp_path, TOPOLOGIES, "topology.yaml")
    assert found.fabric.kind == "leaf-spine" and found.leaf_pod.tolist() == [0, 0]
    rails = cluster(tmp_path, TOPOLOGIES, "topology.yaml", fabric={"kind": "rail"})
    assert rails.fabric.num_switches == 2 * 4  # one for each NIC of a node


def test_a_flat_topology_is_one_leaf(tmp_path: Path) -> None:
    pools = [{**POOLS[0], "nodes": 5}]
    found = cluster(tmp_path, "- topology: x\n  flat: true\n", "flat.yaml", pools=pools)
    assert found.node_leaf.tolist() == [0] * 5 and found.num_gpus == 20


@pytest.mark.parametrize(("required", "leafs"), [("leaf", 1), ("zone", 3)])
def test_an_episode_on_a_topology_of_a_file(tmp_path: Path, required: str, leafs: int) -> None:
    write(tmp_path, THREE_LAYERS)
    scenario = tmp_path / "mine.toml"
    scenario.write_text(
        '[cluster]\ntopology = "topology.conf"\n[[cluster.pools]]\ngpu = "V100-32"\n'
        "gpus_per_node = 4\n[jobs]\nnum_jobs = 30\nload = 0.9\nmax_gpus = 12\n"
        f'required = "{required}"\n[jobs.profiles]\nVGG-16 = 1.0\n'
    )
    env = make(load(scenario))
    play(env, 0)
    jobs = env.results()["jobs"]
    assert np.isfinite(jobs["finish_s"]).all() and jobs["gpus"].max() == 12
    assert jobs["leafs"].max() == leafs  # the leaf of three nodes holds the largest


# --- bad input -----------------------------------------------------------------------------------

LEAFS = "SwitchName=s0 Nodes=a\nSwitchName=s1 Nodes=b\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no switch; give each switch with its nodes"),
        (LEAFS, "line 2: switch = 's1': nothing joins it to 's0'; add a switch above both"),
        (f"{LEAFS}SwitchName=t Switches=s[0-2]\n", "line 3: switches = 's2': there is no such"),
        ("SwitchName=s0 Nodes=a[0-1],a1\n", "line 1: Nodes = 'a.0-1.,a1': has 'a1' twice"),
        ("SwitchName=s0 Nodes=a\nSwitchName=s1 Nodes=a\nSwitchName=t Switches=s[0-1]",
         "line 2: node = 'a': hangs at 's0' too; leave it out"),
        ("SwitchName=s0 Nodes=a\nSwitchName=s0 Nodes=b", "line 2: switch = 's0': stands in line 1"),
        ("SwitchName=s0 Switches=s0", "line 1: switch = 's0': hangs below itself"),
        ("SwitchName=t Nodes=a\nSwitchName=x Switches=y\nSwitchName=y Switches=x",
         "line 2: switch = 'x': hangs below itself; a topology is a tree"),
        (f"{LEAFS}SwitchName=x Switches=s[0-1]\nSwitchName=y Switches=s1",
         "line 4: switches = 's1': hangs below 'x' too"),
        ("SwitchName=s0", "line 1: switch = 's0': has no nodes or switches; give it one"),
        ("SwitchName=s0 Nodes=a Switches=b", "line 1: .* has both nodes and switches"),
        ("SwitchName=s0 Nodes=", r"line 1: 'Nodes=' is not Key=Value"),
        ('SwitchName=s0 Nodes=""', "line 1: Nodes = '': has an empty name"),
        ("SwitchName=s0 Node=a", "line 1: Node = 'a': no such key here; use one of SwitchName"),
        ("SwitchName=s0 Nodes=a Nodes=b", "line 1: Nodes = 'b': stands in this line twice"),
        ("SwitchName=s0 Nodes=a BlockSizes=4", "blocksizes = '4': does not belong"),
        ("RingName=r0 Nodes=a", "line 1: RingName = 'r0': no such key here"),
        ("Nodes=a", "line 1: 'Nodes=a' is no switch, no block"),
        ("SwitchName=s0 Nodes=a[0-999999999]", "line 1: Nodes = .* stands for 1000000000 names"),
        ("SwitchName=s0 Nodes=a[0-99999]\nSwitchName=s1 Nodes=b[0-99999]",
         "line 2: Nodes = .* a file may have 131072"),
        (f"{LEAFS}BlockName=b Nodes=c", "line 1: the file has blocks and switches"),
        ("BlockSizes=4", "line 1: has no block"),
        ("BlockName=b", "line 1: nodes = '': 'b' has none; give at least one"),
        ("BlockName=b Nodes=a[0-3]\nBlockSizes=2,6", "line 2: block size = 6: give 2 times"),
        ("BlockName=b Nodes=a[0-3]\nBlockSizes=0", "line 2: block size = 0: give 1 or more"),
        ("BlockName=b Nodes=a[0-3]\nBlockSizes=x", "line 2: BlockSizes = 'x': write numbers"),
        ("BlockName=b Nodes=a\nBlockSizes=2", "line 1: block = 'b': its 1 nodes are fewer"),
        ("SwitchName=a Switches=b,b2\nSwitchName=b Switches=c,c2\nSwitchName=c Switches=d,e\n"
         "SwitchName=d Nodes=d\nSwitchName=e Nodes=e\nSwitchName=c2 Nodes=c\nSwitchName=b2 Nodes=b",
         "line 4: switch = 'd': lies 4 layers deep; at most 3 are modelled"),
        (b"SwitchName=s0 Nodes=a\nSwitchName=\xff", "line 2: is not UTF-8 text; save it as such"),
    ],
)  # fmt: skip
def test_confs_that_are_no_cluster_are_refused(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ScenarioError, match=message) as raised:
        read_cluster({"topology": path.name, "pools": POOLS}, {}, tmp_path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no topology; give a list"),
        ("a: [", "line 1: is not valid YAML"),
        ("\n- a: '\n", "is not valid YAML"),
        ("topology: x", "line 1: topology.yaml must be a list"),
        ("- x", "line 1: topology must have fields; write topology"),
        ("- flat: true", "line 1: topology is missing; give one"),
        ("- topology: x", "line 1: the topology has topology; give it exactly one of tree"),
        ("- topology: x\n  flat: true\n  tree: {switches: []}", "give it exactly one of"),
        ("- topology: x\n  ring: {}", "line 2: topology field = 'ring': no such field here"),
        ("- topology: x\n  topology: y\n  flat: true", "line 2: topology field .* here twice"),
        ("- topology: x\n  flat: true\n- topology: y\n  flat: true", "none of 2 topologies has"),
        ("- topology: x\n  flat: false", "line 2: flat must be true"),
        ("- topology: x\n  flat: true\n  cluster_default: 7", "line 3: cluster_default must be"),
        ("- topology: x\n  tree: {}", "line 2: has no switch"),
        ("- topology: x\n  tree:\n    switches:\n    - nodes: a", "line 4: switch is missing"),
        ("- topology: x\n  tree:\n    switches:\n    - switch: s\n      nodes: [a]",
         "line 5: nodes must be text"),
        ("- topology: x\n  tree:\n    switches:\n    - switch: s\n      nodes: a[1",
         r"line 5: nodes = 'a\[1': has '\[1'"),
        ("- topology: x\n  block:\n    block_sizes: [x]\n    blocks: []", "line 3: block_sizes"),
        ("[" * 20_000, "nests without end"),
        ("- topology: x\n  flat: true\n\0", "is not valid YAML"),
    ],
)  # fmt: skip
def test_documents_that_are_no_cluster_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text, "topology.yaml")
    with pytest.raises(ScenarioError, match=message) as raised:
        read_cluster({"topology": path.name, "pools": POOLS}, {}, tmp_path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"topology": 3}, "cluster.topology = 3 must be text"),
        ({"topology": "none.conf"}, "none.conf: cannot be opened .*; check the path"),
        ({"topology": "."}, "is no file; give a topology.conf"),
        ({"preset": "default"}, "cluster.preset = 'default': a topology has its own nodes"),
        ({"pools": None}, "cluster.pools = None: a topology does not say what its nodes are"),
        ({"pools": POOLS * 2}, r"give one \[\[cluster.pools\]\] table with their gpu"),
        ({"pools": [{"nodes": 3, **POOLS[0]}]}, r"pools\[0\].nodes = 3: the topology says it"),
        ({"fabric": {"nodes_per_leaf": 3}}, "fabric.nodes_per_leaf = 3: the topology says it"),
        ({"fabric": {"kind": "leaf-spine"}}, 'kind = .leaf-spine.: several pods are a "fat-tree"'),
        ({"fabric": {"core_uplinks": 0}}, "core_uplinks = 0: cuts off 2 pods"),
    ],
)
def test_tables_that_do_not_go_with_a_topology_are_refused(
    tmp_path: Path, table: dict[str, Any], message: str
) -> None:
    write(tmp_path, THREE_LAYERS)
    with pytest.raises(ScenarioError, match=message):
        read_cluster({"topology": "topology.conf", "pools": POOLS, **table}, {}, tmp_path)
