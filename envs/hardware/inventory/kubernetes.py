"""A Kubernetes cluster's nodes, as ``kubectl get nodes -o json`` prints them.

GPUs are the allocatable ``nvidia.com/gpu`` or ``amd.com/gpu``, their product the label of the
vendor's GPU feature discovery. Where a node hangs say the labels of NVIDIA's Topograph
(github.com/NVIDIA/topograph, docs/engines/k8s.md): ``fabric.topograph.run/tier-0`` for the nearest
switch and ``tier-1`` above it from v1.1.0 on, ``network.topology.nvidia.com/leaf`` and ``spine``
before; other labels can be named.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..topology.entry import Place
from .nodes import Inventory, Node, inventory
from .products import by_product

COUNTS = ("nvidia.com/gpu", "amd.com/gpu")
PRODUCTS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name")
MEMORY_MIB = "nvidia.com/gpu.memory"
LEVELS = (
    ("fabric.topograph.run/tier-0", "fabric.topograph.run/tier-1"),
    ("network.topology.nvidia.com/leaf", "network.topology.nvidia.com/spine"),
    ("topology.nvidia.com/leaf", "topology.nvidia.com/spine"),
)
"""Labels of the leaf and of what joins leafs, by version of Topograph, the newest first."""


def read_nodes(path: str | Path, keys: Sequence[str] = ()) -> Inventory:
    """Return the nodes with GPUs that may be scheduled on.

    Args:
        path: the file.
        keys: labels of the leaf and, if there is one, of what joins leafs; those of Topograph if
            nothing is given.

    Raises:
        ValueError: naming file, node, key, value and remedy.
    """
    path = Path(path)
    place = Place(path)
    nodes: list[Node] = []
    left_out: dict[str, list[str]] = {}
    items = _items(place)
    levels = tuple(keys) or _levels(items)
    for at, item in enumerate(items):
        meta = _table(place, item, "metadata", f"items[{at}]")
        name = meta.get("name")
        if not isinstance(name, str) or not name:
            raise place.bad(f"items[{at}].metadata.name", name, "give each node its name")
        labels = _table(place, meta, "labels", name) if "labels" in meta else {}
        gpus = _gpus(place, item, name)
        if _is_away(item):
            left_out.setdefault("cordoned or not ready", []).append(name)
        elif not gpus:
            left_out.setdefault("without GPUs", []).append(name)
        else:
            product = next((str(labels[key]) for key in PRODUCTS if key in labels), "")
            gpu = by_product(product, _memory_gib(labels)) if product else ""
            hangs = [str(labels.get(key, "")) for key in levels]
            leaf, pod = (*hangs, "", "")[:2]
            nodes.append(Node(name, product, gpu, gpus, leaf, pod))
    return inventory(nodes, str(path), left_out)


def _items(place: Place) -> list[dict[str, Any]]:
    """Return the nodes of a list, or the one node of a file."""
    text = place.text()
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise place.error(f"is not JSON ({error}); save kubectl get nodes -o json") from error
    items = whole.get("items", [whole]) if isinstance(whole, dict) else whole
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise place.error("has no list of nodes; save what kubectl get nodes -o json prints")
    wrong = next((item for item in items if item.get("kind", "Node") != "Node"), None)
    if wrong is not None:
        raise place.bad("kind", wrong["kind"], "only nodes are read: kubectl get nodes -o json")
    return items


def _levels(items: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return the labels of leaf and pod that the nodes have."""
    there = {key for item in items for key in (item.get("metadata") or {}).get("labels") or {}}
    return next((level for level in LEVELS if level[0] in there), LEVELS[0])


def _table(place: Place, item: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = item.get(key)
    if not isinstance(value, dict):
        raise place.bad(f"{where}.{key}", value, "must be an object, as kubectl prints it")
    return value


def _gpus(place: Place, item: dict[str, Any], name: str) -> int:
    """Return the GPUs that pods may have: allocatable ones, else the capacity."""
    status = item.get("status") or {}
    there = status.get("allocatable") or status.get("capacity") or {}
    for key in COUNTS:
        if key in there:
            text = str(there[key])
            if not (text.isascii() and text.isdigit() and len(text) <= 5):
                raise place.bad(f"{name}: {key}", there[key], "give a whole number")
            return int(text)
    return 0


def _memory_gib(labels: dict[str, Any]) -> float:
    """Return the memory of a GPU that its label gives in MiB; 0: it does not."""
    text = str(labels.get(MEMORY_MIB, ""))
    return int(text) / 1024 if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def _is_away(item: dict[str, Any]) -> bool:
    """Tell whether nothing may be started there."""
    if (item.get("spec") or {}).get("unschedulable"):
        return True
    conditions = (item.get("status") or {}).get("conditions") or []
    ready = [
        c.get("status") for c in conditions if isinstance(c, dict) and c.get("type") == "Ready"
    ]
    return bool(ready) and ready[0] != "True"
