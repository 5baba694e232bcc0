"""Which GPU of the catalogue a tool means: ``NVIDIA-H100-80GB-HBM3``, ``gpu:a100``.

Product names are those that NVIDIA's device plugin writes into ``nvidia.com/gpu.product`` and
``nvidia-smi -L`` prints; AMD's plugin writes ``amd.com/gpu.product-name``. A type of Slurm's
``Gres`` is whatever an administrator chose; where it leaves open which of several variants is
meant nothing is guessed.
"""

from __future__ import annotations

import re

PRODUCTS = (
    (r"v100.*32", "V100-32"),
    (r"v100.*16", "V100-16"),
    (r"\bt4\b", "T4"),
    (r"\ba10\b", "A10"),
    (r"\ba30\b", "A30"),
    (r"\ba40\b", "A40"),
    (r"a6000", "RTX-A6000"),
    (r"a100.*pcie.*40", "A100-PCIe-40"),
    (r"a100.*pcie.*80|a100 80gb pcie", "A100-PCIe-80"),
    (r"a100.*40", "A100-40"),
    (r"a100.*80", "A100-80"),
    (r"\bl4\b", "L4"),
    (r"\bl20\b", "L20"),
    (r"l40s", "L40S"),
    (r"6000 ada", "RTX-6000-Ada"),
    (r"rtx pro 6000", "RTX-PRO-6000"),
    (r"3090", "RTX-3090"),
    (r"4090", "RTX-4090"),
    (r"5090", "RTX-5090"),
    (r"\bh20\b", "H20"),
    (r"h100.*pcie", "H100-PCIe"),
    (r"h100.*(hbm3|sxm|nvlink)", "H100-SXM"),
    (r"h800", "H800-SXM"),
    (r"h200", "H200-SXM"),
    (r"gb200", "GB200-NVL72"),
    (r"gb300", "GB300-NVL72"),
    (r"\bb200", "B200-SXM"),
    (r"\bb300", "B300-SXM"),
    (r"mi300x", "MI300X"),
    (r"mi355x", "MI355X"),
    (r"910b", "Ascend-910B"),
)
"""Patterns of product names in lower case with blanks, and the GPU that each means."""


def by_product(text: str, memory_gib: float = 0.0) -> str:
    """Return the name of the GPU that a tool's text means; "" if it says too little.

    Args:
        text: a product name, or a type of Slurm's.
        memory_gib: of a GPU, which tells variants apart; 0: not known.
    """
    plain = re.sub(r"[-_ ]+", " ", text.lower())
    if memory_gib:
        plain += f" {_round(memory_gib)}gb"
    for pattern, name in PRODUCTS:
        if re.search(pattern, plain):
            return name
    return ""


def has_words(text: str, name: str) -> bool:
    """Return whether a GPU's name has all words of a tool's text, as H100-SXM has ``h100``."""
    words = re.split(r"[-_ ]+", text.lower())
    return bool(text) and set(words) <= set(name.lower().split("-"))


def _round(memory_gib: float) -> int:
    """Return the size that a product is sold by: a driver shows a little less, or more."""
    return min((16, 24, 32, 40, 48, 80, 96, 141, 192), key=lambda size: abs(size - memory_gib))
