"""A Kubernetes cluster's nodes, as ``kubectl get nodes -o json`` prints them.

Where a node hangs say the labels of NVIDIA's Topograph (github.com/NVIDIA/topograph,
docs/engines/k8s.md): ``fabric.topograph.run/tier-0`` for the nearest switch and ``tier-1`` above it
from v1.1.0 on, ``network.topology.nvidia.com/leaf`` and ``spine`` before; or those of a cloud; or
else the NVLink domain. Other labels can be named. Which GPUs it has stands in
:mod:`.kubernetes_gpus` and :mod:`.dra`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..topology.entry import Place
from .dra import gpus_by_node
from .kubernetes_gpus import count_of, product_of
from .nodes import Inventory, Node, inventory
from .products import by_product

LEVELS = (
    ("fabric.topograph.run/tier-0", "fabric.topograph.run/tier-1"),
    ("network.topology.nvidia.com/leaf", "network.topology.nvidia.com/spine"),
    ("topology.nvidia.com/leaf", "topology.nvidia.com/spine"),
    ("topology.k8s.aws/network-node-layer-3", "topology.k8s.aws/network-node-layer-2"),
    ("cloud.google.com/gce-topology-subblock", "cloud.google.com/gce-topology-block"),
    ("oci.oraclecloud.com/rdma.local_block_id", "oci.oraclecloud.com/rdma.network_block_id"),
    ("backend.coreweave.cloud/leafgroup", "backend.coreweave.cloud/superpod"),
    ("accelerator.topograph.run/domain",),
    ("network.topology.nvidia.com/accelerator",),
    ("nvidia.com/gpu.clique",),
)
"""Labels of the leaf and of what joins leafs: of Topograph by version, the newest first, of AWS,
Google, Oracle and CoreWeave, and of NVLink domains."""


def read_nodes(path: str | Path, keys: Sequence[str] = ()) -> Inventory:
    """Return the nodes with GPUs that may be scheduled on.

    Args:
        path: the file.
        keys: labels of the leaf and, if there is one, of what joins leafs; those of
            :data:`LEVELS` if nothing is given.

    Raises:
        ValueError: naming file, node, key, value and remedy.
    """
    path = Path(path)
    place = Place(path)
    nodes: dict[str, Node] = {}
    left_out: dict[str, list[str]] = {}
    items, slices = _items(place)
    offered = gpus_by_node(place, slices)
    levels = tuple(keys) or _levels(items)
    for at, item in enumerate(items):
        meta = _table(place, item, "metadata", f"items[{at}]")
        name = meta.get("name")
        if not isinstance(name, str) or not name:
            raise place.bad(f"items[{at}].metadata.name", name, "give each node its name")
        if name in nodes:
            raise place.bad(f"items[{at}].metadata.name", name, "stands there twice; leave one out")
        labels = _table(place, meta, "labels", name) if meta.get("labels") is not None else {}
        status = _table(place, item, "status", name) if item.get("status") is not None else {}
        gpus, why = count_of(place, name, labels, status)
        product, gpu = product_of(labels)
        if name in offered:
            gpus, said = offered[name]
            product, gpu = (product, gpu) if gpu else (said, by_product(said))
        if _is_away(item):
            left_out.setdefault("cordoned or not ready", []).append(name)
        elif not gpus:
            left_out.setdefault(why, []).append(name)
        else:
            hangs = [str(labels.get(key, "")) for key in levels]
            leaf, pod = (*hangs, "", "")[:2]
            nodes[name] = Node(name, product, gpu, gpus, leaf, pod)
    if not items:  # slices alone say nothing of where nodes hang
        for name, (gpus, said) in offered.items():
            nodes[name] = Node(name, said, by_product(said), gpus)
    known = sum(bool(node.leaf) for node in nodes.values())
    by_label = f", leafs by {levels[0]}" if known else ""
    if 0 < known < len(nodes):
        by_label = f", not by {levels[0]}, which {known} of {len(nodes)} nodes have"
    return inventory(list(nodes.values()), f"{path}{by_label}", left_out)


def _items(place: Place) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the nodes and the resource slices of a list, or the one node of a file."""
    text = place.text()
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise place.error(f"is not JSON ({error}); save kubectl get nodes -o json") from error
    items = whole.get("items", [whole]) if isinstance(whole, dict) else whole
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise place.error("has no list of nodes; save what kubectl get nodes -o json prints")
    slices = [item for item in items if item.get("kind") == "ResourceSlice"]
    nodes = [item for item in items if item.get("kind") != "ResourceSlice"]
    wrong = next((item for item in nodes if item.get("kind", "Node") != "Node"), None)
    if wrong is not None:
        remedy = "only nodes and resource slices are read: kubectl get nodes,resourceslices -o json"
        raise place.bad("kind", wrong["kind"], remedy)
    return nodes, slices


def _levels(items: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return the labels of leaf and pod that the nodes have."""
    meta = [item["metadata"] for item in items if isinstance(item.get("metadata"), dict)]
    labels = [table["labels"] for table in meta if isinstance(table.get("labels"), dict)]
    there = {key for table in labels for key in table}
    return next((level for level in LEVELS if level[0] in there), LEVELS[0])


def _table(place: Place, item: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = item.get(key)
    if not isinstance(value, dict):
        raise place.bad(f"{where}.{key}", value, "must be an object, as kubectl prints it")
    return value


def _is_away(item: dict[str, Any]) -> bool:
    """Tell whether nothing may be started there."""
    spec, status = item.get("spec"), item.get("status")
    if isinstance(spec, dict) and spec.get("unschedulable"):
        return True
    conditions = status.get("conditions") if isinstance(status, dict) else None
    conditions = conditions if isinstance(conditions, list) else []
    ready = [
        c.get("status") for c in conditions if isinstance(c, dict) and c.get("type") == "Ready"
    ]
    return bool(ready) and ready[0] != "True"
