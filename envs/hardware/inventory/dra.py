"""GPUs that Kubernetes gives out by dynamic resource allocation: ``ResourceSlice`` objects.

Source: Kubernetes, "Dynamic Resource Allocation", and the attributes that NVIDIA's and AMD's
drivers publish (``type``, ``productName``). In ``resource.k8s.io/v1beta1`` a device's attributes
stand one level lower, below ``basic``, than from ``v1beta2`` on. ``kubectl get
nodes,resourceslices -o json`` prints them beside the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..topology.entry import Place

DRIVERS = ("gpu.nvidia.com", "gpu.amd.com")


def gpus_by_node(place: Place, slices: Sequence[dict[str, Any]]) -> dict[str, tuple[int, str]]:
    """Return how many whole GPUs each node offers, and what they are called.

    Raises:
        ValueError: naming file, key, value and remedy.
    """
    found: dict[str, tuple[int, str]] = {}
    for item in slices:
        spec = item.get("spec")
        if not isinstance(spec, dict):
            raise place.bad("ResourceSlice.spec", spec, "must be an object, as kubectl prints it")
        node, devices = spec.get("nodeName"), spec.get("devices") or []
        if spec.get("driver") not in DRIVERS or not isinstance(node, str):
            continue
        if not isinstance(devices, list):
            raise place.bad(f"{node}: devices", devices, "must be a list, as kubectl prints it")
        for device in devices:
            named = _attributes(device)
            if named.get("type", "gpu") == "gpu":
                count, product = found.get(node, (0, ""))
                found[node] = count + 1, product or named.get("productName", "")
    return found


def _attributes(device: Any) -> dict[str, str]:
    """Return a device's attributes that are text."""
    inner = device.get("basic") or device if isinstance(device, dict) else {}
    given = inner.get("attributes") if isinstance(inner, dict) else None
    return {
        key.rpartition("/")[2]: str(value["string"])
        for key, value in (given if isinstance(given, dict) else {}).items()
        if isinstance(value, dict) and "string" in value
    }
