"""The forms in which clusters say what their nodes have: clouds, shares, slices, adapters."""

from __future__ import annotations

import pytest
from test_inventory import node, nodes_file

from gpuyard.cli import main
from gpuyard.envs.hardware.inventory import read_kubernetes, read_matrix, read_slurm
from gpuyard.envs.scenario import load

H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
MIG = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"}
SHARED_T4 = {"nvidia.com/gpu.product": "Tesla-T4-SHARED", "nvidia.com/gpu.replicas": "10"}
MACHINE = "node.kubernetes.io/instance-type"
GOOGLE = "cloud.google.com/gke-accelerator"
SLICED, AWAY = "with GPUs cut into MIG slices", "down, drained, failing or in maintenance"
TWO_ENTRIES = "gpu:h100_hbm3:4(S:0),gpu:h100_hbm3:4(S:1)"


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gpu:h200:8(S:0-1),shard:h200:32(S:0-1)", ("h200", 8)),
        ("gpu:h200:8,mps:h200:800,nvme:1", ("h200", 8)),
        (TWO_ENTRIES, ("h100_hbm3", 8)),
        ("gpu", ("", 1)),
        ("gpu:8(S:0-1)", ("", 8)),
        ("gpu:h200", ("h200", 1)),
        ("gpu:h200:no_consume:8", ("h200", 8)),
        ("gpu:no_consume:8", ("", 8)),
        ("gpu:8 CfgTRES=cpu=224,mem=2T,gres/gpu=8,gres/gpu:h200=8", ("h200", 8)),
        ("gpu:a100_1g.5gb:7,gpu:a100:7", SLICED),
        ("gpu:1g.10gb:14(S:0-1)", SLICED),
        ("gpu:a100:4,gpu:v100:4", "with GPUs of several types"),
        ("gpu:h200:0", "without GPUs"),
        ("craynetwork:4", "without GPUs"),
    ],
)
def test_forms_of_gres(tmp_path, gres, expected):
    path = tmp_path / "scontrol.txt"
    path.write_text(f"NodeName=a Gres={gres} State=IDLE\nNodeName=b Gres=gpu:h100:2 State=MIXED\n")
    found = read_slurm(path)
    if isinstance(expected, str):
        assert found.left_out == {expected: ["a"]}
    else:
        assert (found.nodes[0].product, found.nodes[0].gpus) == expected


@pytest.mark.parametrize("state", ["drng", "idle*", "maint", "IDLE+MAINTENANCE", "unk", "failg"])
def test_states_in_which_nobody_starts(tmp_path, state):
    path = tmp_path / "sinfo.txt"
    path.write_text(f"NODELIST|GRES|STATE|\na|gpu:8|{state}|\nb[01-02]-ib|gpu:8|idle|\n")
    found = read_slurm(path)
    assert [n.name for n in found.nodes] == ["b01-ib", "b02-ib"]
    assert found.left_out == {AWAY: ["a"]}


def test_trays_of_a_rack_have_four(tmp_path, capsys):
    path = tmp_path / "topology.conf"
    path.write_text("BlockName=b1 Nodes=r1-[01-18]\nBlockName=b2 Nodes=r2-[01-18]\nBlockSizes=18\n")
    arguments = ["import", "slurm", str(path), "--gpu"]
    for gpu, each in (("GB300-NVL72", 4), ("GB200-NVL72", 4), ("H100-SXM", 8)):
        assert main([*arguments, gpu]) == 0
        assert f"gpus_per_node = {each}  # assumed: --gpus-per-node" in capsys.readouterr().out
    assert main([*arguments, "GB300-NVL72", "--gpus-per-node", "2"]) == 0
    assert "gpus_per_node = 2\n" in capsys.readouterr().out
    assert main([*arguments, "L4", "--gpus-per-node", "0"]) == 2
    assert "--gpus-per-node 0: must be above 0" in capsys.readouterr().err


def test_nodes_can_be_taken_away(tmp_path):
    path, out = tmp_path / "topology.conf", tmp_path / "mine.toml"
    leafs = "SwitchName=s0 Nodes=a[0-4]\nSwitchName=s1 Nodes=a[5-9]\n"
    path.write_text(f"{leafs}SwitchName=s2 Switches=s[0-1]\n")
    assert main(["import", "slurm", str(path), "--gpu", "H100-SXM", "--out", str(out)]) == 0
    out.write_text(out.read_text().replace("nodes = 10 ", "nodes = 5 "))
    assert load(out).cluster.pools[0].nodes == 5


def bare(name, labels, **allocatable):
    """Return a node of these labels; two underscores stand for a slash."""
    there = {key.replace("__", "/"): value for key, value in allocatable.items()}
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": there}}


@pytest.mark.parametrize(
    ("labels", "allocatable", "expected"),
    [
        # clouds
        ({GOOGLE: "nvidia-h100-mega-80gb"}, 8, ("H100-SXM", 8)),
        ({GOOGLE: "nvidia-l4"}, 2, ("L4", 2)),
        ({"gpu.nvidia.com/model": "H100_NVLINK_80GB"}, "8", ("H100-SXM", 8)),
        ({MACHINE: "p5.48xlarge"}, "8", ("H100-SXM", 8)),
        ({MACHINE: "p5en.48xlarge"}, "8", ("H200-SXM", 8)),
        ({MACHINE: "Standard_ND96isr_H100_v5"}, 8, ("H100-SXM", 8)),
        ({MACHINE: "Standard_ND96asr_v4"}, 8, ("A100-40", 8)),
        ({MACHINE: "BM.GPU.H200.8"}, 8, ("H200-SXM", 8)),
        ({MACHINE: "g5.xlarge"}, 1, ("", 1)),
        ({**H100, MACHINE: "p4d.24xlarge"}, 8, ("H100-SXM", 8)),
        # shares of GPUs
        (SHARED_T4, 40, ("T4", 4)),
        (MIG, 56, SLICED),
        # nobody counts them: dynamic resource allocation
        ({**H100, "nvidia.com/gpu.count": "8"}, None, ("H100-SXM", 8)),
        ({**H100, "nvidia.com/gpu.count": "8"}, 0, "without GPUs"),
        (None, None, "without GPUs"),
    ],
)
def test_gpus_of_a_kubernetes_node(tmp_path, labels, allocatable, expected):
    given = {} if allocatable is None else {"nvidia.com__gpu": allocatable}
    found = read_kubernetes(nodes_file(tmp_path, bare("a", labels, **given), node("b")))
    if isinstance(expected, str):
        assert found.left_out == {expected: ["a"]}
    else:
        assert (found.nodes[0].gpu, found.nodes[0].gpus) == expected


def test_kubernetes_slices_and_shares_by_name(tmp_path):
    mixed = bare("a", H100, **{"nvidia.com__gpu": "0", "nvidia.com__mig-1g.10gb": "14"})
    shared = {**H100, "nvidia.com/gpu.replicas": "4"}
    nodes = [mixed, bare("b", shared, **{"nvidia.com__gpu.shared": "32"})]
    found = read_kubernetes(nodes_file(tmp_path, *nodes))
    assert found.left_out == {SLICED: ["a"]}
    assert [(n.name, n.gpus) for n in found.nodes] == [("b", 8)]


def resource_slice(node_name, devices, inner):
    named = [
        {"attributes": {"productName": {"string": product}, "type": {"string": kind}}}
        for product, kind in devices
    ]
    spec = {
        "driver": "gpu.nvidia.com",
        "nodeName": node_name,
        "devices": [{inner: device} for device in named] if inner else named,
    }
    return {"kind": "ResourceSlice", "metadata": {"name": f"{node_name}-gpu"}, "spec": spec}


@pytest.mark.parametrize("inner", ["", "basic"])
def test_resource_slices_say_what_nodes_have(tmp_path, inner):
    tray = [("NVIDIA GB200", "gpu")] * 4 + [("NVIDIA GB200", "mig")]
    clique = {"nvidia.com/gpu.clique": "7b96.1"}
    slices = [resource_slice(name, tray, inner) for name in ("a", "b")]
    nodes = [bare("a", clique, cpu="144"), bare("b", clique, cpu="144")]
    found = read_kubernetes(nodes_file(tmp_path, *nodes, *slices))
    assert [(n.name, n.gpu, n.gpus, n.leaf) for n in found.nodes] == [
        (name, "GB200-NVL72", 4, "7b96.1") for name in ("a", "b")
    ]
    alone = read_kubernetes(nodes_file(tmp_path, *slices))
    assert [(n.name, n.gpu, n.gpus) for n in alone.nodes] == [
        (name, "GB200-NVL72", 4) for name in ("a", "b")
    ]


@pytest.mark.parametrize(
    ("leaf", "pod"),
    [
        ("topology.k8s.aws/network-node-layer-3", "topology.k8s.aws/network-node-layer-2"),
        ("cloud.google.com/gce-topology-subblock", "cloud.google.com/gce-topology-block"),
        ("accelerator.topograph.run/domain", ""),
    ],
)
def test_labels_of_clouds_and_domains(tmp_path, leaf, pod):
    above = {pod: "p"} if pod else {}
    eight = {"nvidia.com__gpu": 8}
    nodes = [bare(f"n{i}", {**H100, **above, leaf: f"l{i // 2}"}, **eight) for i in range(4)]
    found = read_kubernetes(nodes_file(tmp_path, *nodes))
    assert [n.leaf for n in found.nodes] == ["l0", "l0", "l1", "l1"]
    assert {n.pod for n in found.nodes} == {"p" if pod else ""}
    assert found.origin.endswith(f"leafs by {leaf}")
    some = read_kubernetes(nodes_file(tmp_path, *nodes, bare("n4", H100, **eight)))
    assert some.origin.endswith(f"not by {leaf}, which 4 of 5 nodes have")


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node("a"), node("a")], r"items\[1\].metadata.name = 'a': stands there twice"),
        ([{"metadata": {"name": "a"}, "status": "up"}], "a.status = 'up': must be an object"),
        ([{"metadata": {"name": "a", "labels": 3}}], "a.labels = 3: must be an object"),
        (
            [{"metadata": {"name": "a"}, "status": {"allocatable": [8], "conditions": 1}}],
            r"a: allocatable = \[8\]: must be an object",
        ),
        ([{"kind": "ResourceSlice"}], "ResourceSlice.spec = None: must be an object"),
        ([bare("a", {**H100, "nvidia.com/gpu.replicas": "x"}, **{"nvidia.com__gpu": 8})], "replic"),
    ],
)
def test_errors_name_what_is_wrong(tmp_path, nodes, said):
    with pytest.raises(ValueError, match=said):
        read_kubernetes(nodes_file(tmp_path, *nodes))


ADAPTERS = """\t[4mGPU0\tGPU1\tmlx5_0\tmlx5_bond_0\trocep1s0\tCPU Affinity\tNUMA Affinity[0m
GPU0\t X \tSOC\tPIX\tSYS\tNODE\t0-47\t0
GPU1\tSOC\t X \tNODE\tSYS\tPIX\t0-47\t0
mlx5_0\tPIX\tNODE\t X \tSYS\tNODE
mlx5_bond_0\tSYS\tSYS\tSYS\t X \tSYS
rocep1s0\tNODE\tPIX\tNODE\tSYS\t X
"""
"""As copied from a screen, whose codes have lost their escape."""


def test_names_of_adapters(tmp_path):
    path = tmp_path / "topo.txt"
    path.write_text(ADAPTERS)
    machine = read_matrix(path)
    assert (machine.gpus, machine.nics, machine.nvlinks, machine.bridged) == (2, 3, 0, False)
