"""Scenario parts from what a cluster's tools print; what they do not say is marked as assumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuyard.envs.hardware import catalogue, huggingface
from gpuyard.envs.hardware.inventory import Inventory, Machine, Node
from gpuyard.envs.scenario.write import key_text, value_text

NVLINK_GBPS = {"Volta": 25.0, "Ampere": 25.0, "Hopper": 25.0, "Blackwell": 50.0}
"""GB/s of one NVLink in one direction, by architecture. Source: NVIDIA, NVLink specifications."""


@dataclass(frozen=True)
class Rates:
    """What no file says. None: what is usual for the GPU.

    Attributes:
        nics_per_node: network ports of a node.
        nic_gbit: Gbit/s of each.
        scale_up_gbps: GB/s of a GPU inside its node.
        nodes_per_leaf: where no label or switch says which nodes are neighbours.
        spines: above the leafs.
        oversubscription: of uplinks.
    """

    nics_per_node: int | None = None
    nic_gbit: float | None = None
    scale_up_gbps: float | None = None
    nodes_per_leaf: int = 8
    spines: int = 4
    oversubscription: float = 1.0


def cluster_text(found: Inventory, rates: Rates, topology: str = "") -> str:
    """Return the tables of a cluster.

    Args:
        found: its nodes, all with GPUs of the catalogue.
        rates: of its links.
        topology: the file of its leafs and pods, beside the scenario; "": it has none.
    """
    pools = found.pools()
    lines = [
        f'description = "{_count(len(found.nodes), "node")}, imported"',
        "",
        f"# From {found.origin}: {_count(len(found.nodes), 'node')}.",
        *(
            f"# Left out: {len(names)} {why}: {_few(names)}."
            for why, names in found.left_out.items()
        ),
        *_without_pods(found, len(pools), topology),
        "",
    ]
    if topology:
        lines += ["[cluster]", f"topology = {value_text(topology)}  # leafs and pods", ""]
    for (gpu, gpus), nodes in pools.items():
        lines += [*_pool(gpu, gpus, nodes, rates, bool(topology), found.counted), ""]
    largest = max((gpus * len(nodes), len(nodes)) for (_, gpus), nodes in pools.items())
    fabric = _fabric(list(pools.values()), rates, bool(topology))
    return "\n".join([*lines, *fabric, _jobs(*largest)])


def _without_pods(found: Inventory, pools: int, topology: str) -> Iterator[str]:
    """Say that switches above the leafs are known and not written, if so."""
    pods = {node.pod for node in found.nodes}
    if topology or len(pods) < 2:
        return
    why = "--out writes them beside the scenario" if pools == 1 else "its nodes are of one kind"
    yield f"# Left out: {len(pods)} pods of leafs; a cluster has them if {why}."


def _pool(
    gpu: str, gpus: int, nodes: Sequence[Node], rates: Rates, has_topology: bool, counted: bool
) -> Iterator[str]:
    yield "[[cluster.pools]]"
    products = ", ".join(dict.fromkeys(node.product for node in nodes if node.product))
    yield f"gpu = {value_text(gpu)}" + (f"  # {products}" if products else "  # given: --gpu")
    if not has_topology:
        yield f"nodes = {len(nodes)}  # {_few([node.name for node in nodes])}"
        leafs = Counter(node.leaf for node in nodes)
        if "" not in leafs:
            sizes = sorted(leafs.values())
            said = "" if sizes[0] == sizes[-1] else f"; assumed: all alike, they have {_few(sizes)}"
            yield f"nodes_per_leaf = {sizes[-1]}  # {_count(len(leafs), 'leaf')}{said}"
    yield f"gpus_per_node = {gpus}" + ("" if counted else "  # assumed: --gpus-per-node")
    device = catalogue.gpu(gpu)
    nics = rates.nics_per_node or gpus
    yield _assumed("nics_per_node", nics, rates.nics_per_node, "one for each GPU")
    usual = device.nic_bytes_per_s * 8 / 1e9
    yield _assumed("nic_gbit", rates.nic_gbit or usual, rates.nic_gbit, "usual for the GPU")
    usual = device.scale_up_bytes_per_s / 1e9
    given = rates.scale_up_gbps
    yield _assumed("scale_up_gbps", given or usual, given, "usual for the GPU")


def _fabric(pools: Sequence[Sequence[Node]], rates: Rates, has_topology: bool) -> Iterator[str]:
    yield "[cluster.fabric]  # what the file does not say: the switches above the leafs"
    if not has_topology and any(not node.leaf for nodes in pools for node in nodes):
        each = rates.nodes_per_leaf
        yield f"nodes_per_leaf = {each}  # assumed: --nodes-per-leaf"
    yield f"spines = {rates.spines}  # assumed: --spines"
    yield f"uplinks = {rates.spines}  # assumed: one to each spine"
    yield f"oversubscription = {rates.oversubscription}  # assumed: --oversubscription"


def _jobs(gpus: int, nodes: int) -> str:
    """Return jobs to begin with: none larger than half of a pool, so that nodes can be taken away.

    Args:
        gpus: of the largest pool.
        nodes: of it.
    """
    most = gpus if nodes == 1 else 2 ** ((gpus // 2).bit_length() - 1)
    return "\n".join(
        [
            "",
            '[jobs]  # assumed; yours: trace = "jobs.csv" (gpuyard list formats, sacct among them)',
            'preset = "helios-like"',
            "num_jobs = 256",
            "load = 0.8",
            f"max_gpus = {most}  # larger jobs are cut to it; the largest pool has {gpus}",
            "",
        ]
    )


def topology_conf(found: Inventory) -> str:
    """Return the leafs and pods of an inventory as Slurm's ``topology.conf``."""
    leafs: dict[str, dict[str, list[str]]] = {}
    for node in found.nodes:
        leafs.setdefault(node.pod, {}).setdefault(node.leaf, []).append(node.name)
    lines: list[str] = []
    pods: list[str] = []
    for p, (_, below) in enumerate(leafs.items()):
        names = []
        for nodes in below.values():
            names.append(f"leaf{len(lines) - len(pods)}")
            lines.append(f"SwitchName={names[-1]} Nodes={','.join(nodes)}")
        pods.append(f"pod{p}")
        lines.append(f"SwitchName={pods[-1]} Switches={','.join(names)}")
    if len(pods) > 1:
        lines.append(f"SwitchName=core Switches={','.join(pods)}")
    return "\n".join(lines) + "\n"


def machine_text(machine: Machine, origin: str, gpu: str, nodes: int, rates: Rates) -> str:
    """Return the tables of a cluster of machines like one."""
    device = catalogue.gpu(gpu)
    each = NVLINK_GBPS.get(device.architecture, 0.0) * machine.nvlinks
    if machine.nvlinks and not machine.bridged and not rates.scale_up_gbps:
        said = f"NV{machine.nvlinks}, {machine.nvlinks} x {each / machine.nvlinks:g} GB/s"
    elif rates.scale_up_gbps:
        each, said = rates.scale_up_gbps, "given: --scale-up-gbps"
    elif machine.bridged:
        each, said = device.pcie_bytes_per_s / 1e9, "some pairs have no NVLink: PCIe"
    else:
        each, said = device.pcie_bytes_per_s / 1e9, "no NVLink: PCIe"
    nics = machine.nics or rates.nics_per_node or 1
    lines = [
        f'description = "{_count(nodes, "machine")} as in {Path(origin).name}"',
        "",
        "[[cluster.pools]]",
        f"gpu = {value_text(gpu)}  # given: --gpu",
        f"nodes = {nodes}  # given or assumed: --machines",
        f"gpus_per_node = {machine.gpus}  # columns GPU0 to GPU{machine.gpus - 1}",
        f"nics_per_node = {nics}" + ("  # columns of NICs" if machine.nics else "  # assumed"),
        _assumed(
            "nic_gbit",
            rates.nic_gbit or device.nic_bytes_per_s * 8 / 1e9,
            rates.nic_gbit,
            "usual for the GPU",
        ),
        f"scale_up_gbps = {each:g}  # {said}",
        "",
        "[cluster.fabric]",
        f"nodes_per_leaf = {rates.nodes_per_leaf}  # assumed: --nodes-per-leaf",
        f"spines = {rates.spines}  # assumed: --spines",
        f"uplinks = {rates.spines}  # assumed: one to each spine",
        f"oversubscription = {rates.oversubscription}  # assumed: --oversubscription",
    ]
    return "\n".join([*lines, _jobs(nodes * machine.gpus, nodes)])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def model_text(path: str) -> str:
    """Return a model's configuration as a table ``[models.NAME]``."""
    row, origin = huggingface.columns(path)
    name = huggingface.read(path).name
    lines = [
        f"[models.{key_text(name)}]  # from {path}; a replica says: model = {value_text(name)}"
    ]
    for column, value in row.items():
        if value not in ("", None):
            came = f"  # {origin[column]}" if column in origin else ""
            lines.append(f"{key_text(column)} = {value_text(_plain(value))}{came}")
    return "\n".join(lines) + "\n"


def _plain(value: object) -> object:
    """Return a cell as a number where it is one."""
    for kind in (int, float):
        try:
            return kind(str(value))
        except ValueError:
            continue
    return value


def _assumed(field: str, value: float, given: float | None, why: str) -> str:
    option = f"--{field.replace('_', '-')}"
    said = f"given: {option}" if given else f"assumed: {why} ({option})"
    return f"{field} = {value:g}  # {said}"


def _few(items: Sequence[object], most: int = 4) -> str:
    """Return the first few of a list."""
    shown = ", ".join(map(str, items[:most]))
    return shown if len(items) <= most else f"{shown} ... ({len(items)})"
