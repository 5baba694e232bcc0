"""Clusters from what Slurm, Kubernetes and nvidia-smi print: right values, and clear errors."""

import json
import re
from pathlib import Path

import pytest

from gpuyard.cli import main
from gpuyard.envs.hardware.inventory import read_kubernetes, read_matrix, read_slurm
from gpuyard.envs.hardware.inventory.products import by_product
from gpuyard.envs.scenario import load

TREE = """SwitchName=s0 Nodes=tux[0-3,12,18-20]
SwitchName=s1 Nodes=tux[4-11]
SwitchName=s2 Switches=s[0-1] LinkSpeed=100
"""
SCONTROL = """NodeName=tux0 Arch=x86_64 CoresPerSocket=32
   CPUAlloc=0 CPUTot=96 Gres=gpu:h100:8(S:0-1)
   State=IDLE ThreadsPerCore=1

NodeName=tux[1-2] CPUTot=96 Gres=gpu:h100:8,nvme:1 State=MIXED+PLANNED
NodeName=tux4 Gres=gpu:h100:8(IDX:0-7) State=ALLOCATED
NodeName=tux5 Gres=gpu:h100:8 State=DOWN*
NodeName=tux6 Gres=(null) State=IDLE
"""
SINFO = """NODELIST GRES STATE
tux0 gpu:a100_80:4,gpu:a100_80:4 idle
tux0 gpu:a100_80:4,gpu:a100_80:4 idle
tux1 gpu:8 mix
tux2 (null) idle
"""
MATRIX = """\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tNIC1\tCPU Affinity\x1b[0m
GPU0\t X \tNV18\tNV18\tPIX\tSYS\t0-47
GPU1\tNV18\t X \t{pair}\tNODE\tSYS\t0-47
GPU2\tNV18\t{pair}\t X \tSYS\tPIX\t48-95
NIC0\tPIX\tNODE\tSYS\t X \tSYS
NIC1\tSYS\tSYS\tPIX\tSYS\t X

Legend:
  X    = Self
"""


def node(name, product="NVIDIA-H100-80GB-HBM3", gpus="8", **labels):
    """Return a node as kubectl prints it; two underscores stand for a slash in a label's key."""
    named = {key.replace("__", "/").replace("_", "-"): value for key, value in labels.items()}
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": product, **named}},
        "status": {"allocatable": {"nvidia.com/gpu": gpus, "cpu": "96"}},
    }


def nodes_file(tmp_path, *nodes):
    path = tmp_path / "nodes.json"
    path.write_text(json.dumps({"kind": "List", "items": nodes}))
    return path


@pytest.mark.parametrize(
    ("text", "memory_gib", "name"),
    [
        ("NVIDIA-H100-80GB-HBM3", 0, "H100-SXM"),
        ("NVIDIA-H100-PCIe", 0, "H100-PCIe"),
        ("NVIDIA-A100-SXM4-40GB", 0, "A100-40"),
        ("NVIDIA-A100-PCIE-40GB", 0, "A100-PCIe-40"),
        ("NVIDIA A100-SXM4-80GB", 0, "A100-80"),
        ("Tesla-V100-SXM2-32GB", 0, "V100-32"),
        ("a100", 79.6, "A100-80"),
        ("NVIDIA-GB200", 0, "GB200-NVL72"),
        ("NVIDIA-B200", 0, "B200-SXM"),
        ("Tesla-T4", 0, "T4"),
        ("NVIDIA-A10G", 0, ""),
        ("h100", 0, ""),
        ("NVIDIA-H100-NVL", 93, ""),
        ("gpu", 0, ""),
    ],
)
def test_products(text, memory_gib, name):
    assert by_product(text, memory_gib) == name


def test_scontrol(tmp_path):
    path = tmp_path / "scontrol.txt"
    path.write_text(SCONTROL)
    found = read_slurm(path)
    assert [(n.name, n.product, n.gpus) for n in found.nodes] == [
        (name, "h100", 8) for name in ("tux0", "tux1", "tux2", "tux4")
    ]
    assert found.left_out == {
        "down, drained, failing or in maintenance": ["tux5"],
        "without GPUs": ["tux6"],
    }
    with pytest.raises(ValueError, match=r"calls its GPU 'h100'.*--gpu h100=NAME"):
        found.named({})
    assert {n.gpu for n in found.named({"h100": "H100-PCIe"}).nodes} == {"H100-PCIe"}


def test_sinfo(tmp_path):
    path = tmp_path / "sinfo.txt"
    path.write_text(SINFO)
    found = read_slurm(path).named({"": "H100-SXM"})
    assert [(n.name, n.gpu, n.gpus) for n in found.nodes] == [
        ("tux0", "A100-80", 8),
        ("tux1", "H100-SXM", 8),
    ]


def test_slurm_tree_and_nodes_become_a_scenario(tmp_path, capsys):
    (tmp_path / "topology.conf").write_text(TREE)
    (tmp_path / "scontrol.txt").write_text(SCONTROL)
    out = tmp_path / "mine.toml"
    given = ["--nodes", str(tmp_path / "scontrol.txt"), "--gpu", "h100=H100-SXM"]
    arguments = ["import", "slurm", str(tmp_path / "topology.conf"), *given, "--out", str(out)]
    assert main([*arguments, "--nic-gbit", "200"]) == 0
    cluster = load(out).cluster
    (pool,) = cluster.pools
    assert (pool.nodes, pool.gpus_per_node, pool.leafs) == (4, 8, ((3, 1),))
    assert pool.nic_bytes_per_s == 200 * 1e9 / 8
    text = out.read_text()
    assert re.search(r"nic_gbit = 200 +# given: --nic-gbit", text)
    assert re.search(r"scale_up_gbps = 450 +# assumed: usual for the GPU", text)
    assert "10 in the topology that nothing else is known of" in text
    capsys.readouterr()
    assert main(arguments) == 2  # nothing is lost
    assert "--force" in capsys.readouterr().err
    assert main([*arguments[:3], "--out", str(tmp_path / "other.toml")]) == 2
    assert "give --nodes scontrol.txt" in capsys.readouterr().err


def test_kubernetes_labels_become_leafs_and_pods(tmp_path, capsys):
    switches = {"fabric.topograph.run__tier_0": "s1", "fabric.topograph.run__tier_1": "c1"}
    others = {"fabric.topograph.run__tier_0": "s2", "fabric.topograph.run__tier_1": "c2"}
    cordoned = {**node("a3", **others), "spec": {"unschedulable": True}}
    cpu = {"kind": "Node", "metadata": {"name": "cpu"}, "status": {"allocatable": {"cpu": "8"}}}
    nodes = [node("a0", **switches), node("a1", **switches), node("a2", **others), cordoned, cpu]
    path, out = nodes_file(tmp_path, *nodes), tmp_path / "mine.toml"
    found = read_kubernetes(path)
    assert [(n.leaf, n.pod) for n in found.nodes] == [("s1", "c1"), ("s1", "c1"), ("s2", "c2")]
    assert found.left_out == {"cordoned or not ready": ["a3"], "without GPUs": ["cpu"]}
    assert main(["import", "kubernetes", str(path), "--out", str(out)]) == 0
    (pool,) = load(out).cluster.pools
    assert pool.gpu.name == "H100-SXM" and pool.leafs == ((2,), (1,))
    assert main(["import", "kubernetes", str(path)]) == 0  # without a file it is printed
    assert "nodes = 3" in capsys.readouterr().out


def test_kubernetes_pools_and_labels_of_ones_own(tmp_path):
    racks = [{"example.com__rack": f"r{i // 2}"} for i in range(5)]
    nodes = [node(f"n{i}", **racks[i]) for i in range(4)]
    small = node("n4", "NVIDIA-L4", "4", **racks[4])
    path, out = nodes_file(tmp_path, *nodes, small), tmp_path / "mine.toml"
    arguments = ["import", "kubernetes", str(path), "--leaf-label", "example.com/rack"]
    assert main([*arguments, "--out", str(out)]) == 0
    pools = load(out).cluster.pools
    assert [(p.gpu.name, p.nodes, p.gpus_per_node) for p in pools] == [
        ("H100-SXM", 4, 8),
        ("L4", 1, 4),
    ]
    assert pools[0].nodes_per_leaf == 2


def test_kubernetes_errors_name_what_is_wrong(tmp_path):
    path = tmp_path / "nodes.json"
    for text, said in (
        ("{", "is not JSON"),
        ('{"items": [{"kind": "Pod", "metadata": {"name": "a"}}]}', "kind = 'Pod'"),
        ('{"items": []}', "no node with GPUs"),
        ('{"items": [{"metadata": {}}]}', r"items\[0\].metadata.name = None"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_kubernetes(path)
    with pytest.raises(ValueError, match=r"a: nvidia.com/gpu = '8k'"):
        read_kubernetes(nodes_file(tmp_path, node("a", gpus="8k")))
    with pytest.raises(ValueError, match="cannot be opened"):
        read_kubernetes(tmp_path / "none.json")


def test_nvidia_smi_matrix(tmp_path):
    path, out = tmp_path / "topo.txt", tmp_path / "mine.toml"
    path.write_text(MATRIX.format(pair="NV18"))
    machine = read_matrix(path)
    assert (machine.gpus, machine.nics, machine.nvlinks, machine.bridged) == (3, 2, 18, False)
    arguments = ["import", "nvidia-smi", str(path), "--gpu", "H100-SXM", "--machines", "4"]
    assert main([*arguments, "--out", str(out)]) == 0
    (pool,) = load(out).cluster.pools
    assert (pool.nodes, pool.gpus_per_node, pool.nics_per_node) == (4, 3, 2)
    assert pool.scale_up_bytes_per_s == 450e9  # 18 NVLinks of 25 GB/s
    path.write_text(MATRIX.format(pair="SYS"))
    assert read_matrix(path).bridged
    path.write_text(MATRIX.format(pair="NV"))
    with pytest.raises(ValueError, match="line 3: GPU1 = 'NV'"):
        read_matrix(path)
    path.write_text("nothing")
    with pytest.raises(ValueError, match="no heading with GPU0"):
        read_matrix(path)


def test_a_configuration_becomes_a_table_of_models(tmp_path, capsys):
    config = tmp_path / "mistral" / "config.json"
    config.parent.mkdir()
    config.write_text(
        '{"architectures": ["MistralForCausalLM"], "num_hidden_layers": 32, "hidden_size": 4096,'
        '"num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,'
        '"vocab_size": 32000, "sliding_window": 4096}'
    )
    assert main(["import", "huggingface", str(config)]) == 0
    table = capsys.readouterr().out
    assert "layers = 32  # num_hidden_layers" in table
    scenario = tmp_path / "mine.toml"
    scenario.write_text(
        f'{table}\n[[replicas]]\ngpu = "H100-SXM"\nmodel = "mistral"\n[workload]\npreset = "chat"\n'
    )
    from gpuyard.envs.hardware import huggingface

    mine, read = load(scenario).replicas[0].deployment.model, huggingface.read(config)
    assert (mine.params, mine.kv_groups()) == (read.params, read.kv_groups())


@pytest.mark.parametrize("option", ["--nic-gbit", "--oversubscription"])
def test_rates_must_carry_something(tmp_path, capsys, option):
    path = Path(tmp_path / "topology.conf")
    path.write_text(TREE)
    assert main(["import", "slurm", str(path), "--gpu", "H100-SXM", option, "0"]) == 2
    assert f"{option} 0.0: must be above 0" in capsys.readouterr().err


def test_regular_leafs_need_no_file_and_can_be_varied(tmp_path):
    leaf = "network.topology.nvidia.com__leaf"
    nodes = [node(f"n{i}", **{leaf: f"leaf{i // 3}"}) for i in range(6)]
    out = tmp_path / "mine.toml"
    arguments = ["import", "kubernetes", str(nodes_file(tmp_path, *nodes)), "--out", str(out)]
    assert main(arguments) == 0
    assert not out.with_suffix(".topology.conf").exists()
    out.write_text(out.read_text().replace("nodes = 6 ", "nodes = 9 "))
    (pool,) = load(out).cluster.pools
    assert (pool.nodes, pool.nodes_per_leaf) == (9, 3)
    uneven = nodes_file(tmp_path, *nodes[:5])
    assert main([*arguments[:2], str(uneven), "--out", str(out), "--force"]) == 0
    assert load(out).cluster.pools[0].leafs == ((3, 2),)
    assert out.with_suffix(".topology.conf").exists()


def test_what_could_be_several_names_them(tmp_path):
    path = tmp_path / "scontrol.txt"
    path.write_text(SCONTROL)
    with pytest.raises(ValueError, match=r"--gpu h100=NAME \(H100-PCIe, H100-SXM\)"):
        read_slurm(path).named({})


def test_pods_that_are_left_out_are_said(tmp_path, capsys):
    """Printed, a cluster has numbers only; beside a file it has its tree."""
    pods = "".join(f"SwitchName=l{i} Nodes=n[{4 * i}-{4 * i + 3}]\n" for i in range(4))
    pods += "SwitchName=p0 Switches=l[0-1]\nSwitchName=p1 Switches=l[2-3]\n"
    path, out = tmp_path / "topology.conf", tmp_path / "mine.toml"
    path.write_text(pods + "SwitchName=core Switches=p[0-1]\n")
    arguments = ["import", "slurm", str(path), "--gpu", "H100-SXM"]
    main(arguments)
    assert "# Left out: 2 pods of leafs" in capsys.readouterr().out
    main([*arguments, "--out", str(out)])
    assert "pods of leafs" not in out.read_text()
    assert load(out).cluster.leaf_pod.tolist() == [0, 0, 1, 1]
