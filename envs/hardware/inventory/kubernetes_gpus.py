"""Which GPUs a Kubernetes node has, and how many, by its labels and what may be allocated there.

The product is the label of the vendor's GPU feature discovery, or one of a cloud, or follows from
the type of the machine. Source: NVIDIA's GPU operator ("GPU Feature Discovery", "Time-slicing",
"MIG support"), AMD's GPU operator, and the lists of machine types of AWS, Azure, Google, Oracle and
CoreWeave.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..topology.entry import Place
from .products import by_product

COUNTS = ("nvidia.com/gpu", "nvidia.com/gpu.shared", "amd.com/gpu")
COUNT = "nvidia.com/gpu.count"
REPLICAS = "nvidia.com/gpu.replicas"
MEMORY_MIB = "nvidia.com/gpu.memory"
PRODUCTS = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "beta.amd.com/gpu.product-name",
    "gpu.nvidia.com/model",  # CoreWeave
    "cloud.google.com/gke-accelerator",
)
MACHINES = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")

OF_MACHINES = (
    (r"p3dn\.", "V100-32"),
    (r"p3\.", "V100-16"),
    (r"p4d\.", "A100-40"),
    (r"p4de\.", "A100-80"),
    (r"p5\.", "H100-SXM"),
    (r"p5en?\.", "H200-SXM"),
    (r"p6-b200\.", "B200-SXM"),
    (r"p6-b300\.", "B300-SXM"),
    (r"p6e-gb200\.", "GB200-NVL72"),
    (r"g4dn\.", "T4"),
    (r"g6\.", "L4"),
    (r"g6e\.", "L40S"),
    (r"a2-(highgpu|megagpu)-", "A100-40"),
    (r"a2-ultragpu-", "A100-80"),
    (r"a3-(highgpu|megagpu|edgegpu)-", "H100-SXM"),
    (r"a3-ultragpu-", "H200-SXM"),
    (r"a4-highgpu-", "B200-SXM"),
    (r"a4x-highgpu-", "GB200-NVL72"),
    (r"g2-standard-", "L4"),
    (r"standard_nd96i?sr_h100_v5", "H100-SXM"),
    (r"standard_nd96i?sr_h200_v5", "H200-SXM"),
    (r"standard_nd96a?sr_(a100_)?v4", "A100-40"),
    (r"standard_nd96amsr_a100_v4", "A100-80"),
    (r"standard_nc\d+ads_a100_v4", "A100-PCIe-80"),
    (r"standard_nd128isr_(ndr_)?gb200_v6", "GB200-NVL72"),
    (r"standard_nd128isr_(ndr_)?gb300_v6", "GB300-NVL72"),
    (r"standard_nc\d+as_t4_v3", "T4"),
    (r"bm\.gpu4\.8", "A100-40"),
    (r"bm\.gpu\.a100-v2\.8", "A100-80"),
    (r"bm\.gpu\.h100\.8", "H100-SXM"),
    (r"bm\.gpu\.h200\.8", "H200-SXM"),
    (r"bm\.gpu\.b200\.8", "B200-SXM"),
    (r"bm\.gpu\.gb200\.4", "GB200-NVL72"),
    (r"bm\.gpu\.mi300x\.8", "MI300X"),
)
"""Beginnings of the names of machine types in lower case, and the GPU that each has."""

OF_GOOGLE = {
    "nvidia-h100-80gb": "H100-SXM",
    "nvidia-h100-mega-80gb": "H100-SXM",
    "nvidia-tesla-a100": "A100-40",
    "nvidia-tesla-v100": "V100-16",
}
"""Values of ``gke-accelerator`` that say more there than elsewhere: what A2, A3 machines have."""


def product_of(labels: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a node's labels call its GPU, and the GPU of the catalogue; "": not known."""
    said = next((str(labels[key]) for key in PRODUCTS if labels.get(key)), "")
    said = said.removesuffix("-SHARED")
    gpu = OF_GOOGLE.get(said) or (by_product(said, _memory_gib(labels)) if said else "")
    machine = next((str(labels[key]) for key in MACHINES if labels.get(key)), "")
    if gpu or not machine:
        return said, gpu
    found = next((name for text, name in OF_MACHINES if re.match(text, machine.lower())), "")
    return said or machine, found


def count_of(
    place: Place, name: str, labels: Mapping[str, Any], status: Mapping[str, Any]
) -> tuple[int, str]:
    """Return how many GPUs a node has, or 0 and why it is left out.

    They are those that may be allocated, else the capacity; shares of GPUs (time-slicing, MPS)
    count as the GPUs that are shared. Where no plug-in counts them (dynamic resource allocation)
    the label of GPU feature discovery does.

    Raises:
        ValueError: naming file, node, key, value and remedy.
    """
    there = status.get("allocatable") or status.get("capacity") or {}
    if not isinstance(there, dict):
        raise place.bad(f"{name}: allocatable", there, "must be an object, as kubectl prints it")
    sliced = any(key.startswith("nvidia.com/mig-") and str(n) != "0" for key, n in there.items())
    if sliced or any("-MIG-" in str(labels.get(key, "")) for key in PRODUCTS):
        return 0, "with GPUs cut into MIG slices"
    counts = [_whole(place, name, key, there[key]) for key in COUNTS if key in there]
    if counts:
        replicas = _whole(place, name, REPLICAS, labels.get(REPLICAS, 1))
        gpus = sum(counts) // max(replicas, 1)
    else:
        gpus = _whole(place, name, COUNT, labels.get(COUNT, 0))
    return gpus, "" if gpus else "without GPUs"


def _whole(place: Place, name: str, key: str, value: object) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise place.bad(f"{name}: {key}", value, "give a whole number")
    return int(text)


def _memory_gib(labels: Mapping[str, Any]) -> float:
    """Return the memory of a GPU that its label gives in MiB; 0: it does not."""
    text = str(labels.get(MEMORY_MIB, ""))
    return int(text) / 1024 if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
