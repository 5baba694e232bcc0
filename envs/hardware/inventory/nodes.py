"""The nodes of a cluster as a tool lists them, before anybody says what their links carry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .. import catalogue
from ..topology import Topology
from .products import has_words


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        name: its own.
        product: what the tool calls its GPU; "" if it does not say.
        gpu: the GPU of the catalogue; "" if that is not known.
        gpus: how many it has.
        leaf: the leaf switch, rack or block that it hangs at; "": not known.
        pod: what joins its leaf with others; "": not known.
    """

    name: str
    product: str
    gpu: str
    gpus: int
    leaf: str = ""
    pod: str = ""


@dataclass(frozen=True)
class Inventory:
    """The nodes with GPUs, and what was left out.

    Attributes:
        nodes: in the file's order.
        origin: the file, and which of its words say where a node hangs.
        left_out: names of nodes by the reason.
        counted: whether the file says how many GPUs a node has.
    """

    nodes: tuple[Node, ...]
    origin: str
    left_out: Mapping[str, Sequence[str]]
    counted: bool = True

    def named(self, gpus: Mapping[str, str]) -> Inventory:
        """Return this with GPUs of the catalogue for those that the file leaves open.

        Args:
            gpus: catalogue names by what the tool calls a GPU; "" stands for all others.

        Raises:
            ValueError: a GPU is still not known; the message says which option to give.
        """
        nodes = tuple(
            replace(n, gpu=gpus.get(n.product, "") or n.gpu or gpus.get("", "")) for n in self.nodes
        )
        for node in nodes:
            if not node.gpu:
                said = f"calls its GPU {node.product!r}" if node.product else "does not say its GPU"
                option = f"--gpu {node.product}=NAME" if node.product else "--gpu NAME"
                close = [name for name in catalogue.gpu_names() if has_words(node.product, name)]
                raise ValueError(
                    f"{self.origin}: node {node.name!r} {said}, which could be several; give "
                    f"{option} ({', '.join(close) or 'gpuyard list gpus'})"
                )
        return replace(self, nodes=nodes)

    def pools(self) -> dict[tuple[str, int], tuple[Node, ...]]:
        """Return the nodes by GPU and number of GPUs, each a pool, in order of appearance."""
        kinds = dict.fromkeys((node.gpu, node.gpus) for node in self.nodes)
        return {
            kind: tuple(node for node in self.nodes if (node.gpu, node.gpus) == kind)
            for kind in kinds
        }

    @property
    def regular(self) -> bool:
        """Whether ``nodes`` and ``nodes_per_leaf`` say it all: one pod, and leafs of one size."""
        leafs = Counter(node.leaf for node in self.nodes)
        return len({node.pod for node in self.nodes}) == 1 and len(set(leafs.values())) == 1


def inventory(nodes: list[Node], origin: str, left_out: dict[str, list[str]]) -> Inventory:
    """Return the nodes of a file.

    Raises:
        ValueError: none of them has a GPU.
    """
    if not nodes:
        reasons = ", ".join(f"{len(names)} {why}" for why, names in left_out.items())
        raise ValueError(f"{origin}: no node with GPUs" + (f" ({reasons})" if reasons else ""))
    return Inventory(tuple(nodes), origin, left_out)


def usual_gpus(gpu: str) -> int:
    """Return how many GPUs a node has as a rule: a tray of an NVL72 rack 4, any other one 8."""
    return 4 if gpu and catalogue.gpu(gpu).scale_up_domain == 72 else 8


def with_topology(
    found: Inventory | None, topology: Topology, origin: str, gpu: str, gpus: int | None
) -> Inventory:
    """Return the nodes of a Slurm topology, with the GPUs of an inventory if there is one.

    Args:
        found: what ``scontrol show node`` says; None: nothing, all nodes are alike.
        topology: leafs and pods.
        origin: its file.
        gpu: of nodes of which nothing is known.
        gpus: how many each of those has; None: what is usual.

    Raises:
        ValueError: the inventory has none of the topology's nodes.
    """
    known = {node.name: node for node in found.nodes} if found else {}
    left_out = {why: list(names) for why, names in found.left_out.items()} if found else {}
    each = gpus or usual_gpus(gpu)
    away = {name for names in left_out.values() for name in names}
    nodes = []
    for p, pod in enumerate(topology.pods):
        for leaf in pod:
            for name in leaf.nodes:
                node = known.get(name, None if found else Node(name, "", gpu, each))
                if node is not None:
                    nodes.append(replace(node, leaf=leaf.name, pod=f"pod{p}"))
                elif name not in away:
                    left_out.setdefault("in the topology that nothing else is known of", []).append(
                        name
                    )
    made = inventory(nodes, f"{origin} and {found.origin}" if found else origin, left_out)
    return replace(made, counted=found is not None or gpus is not None)
