"""What jobs train where no trace says so: a choice by size, not a measurement.

All of these run on any number of GPUs of any type. Jobs of fewer than 8 GPUs are CNNs and BERT;
larger ones all-reduce more, and three of ten exchange data all to all, as large models with experts
or embedding tables do (shares of the vClos study, which names its patterns like this).
"""

from __future__ import annotations

from .generator import Kind

SMALL = (Kind("ResNet-50", 0.3), Kind("VGG-16", 0.3), Kind("BERT-large-512", 0.4))
LARGE = (
    Kind("VGG-16", 0.2),
    Kind("BERT-large-512", 0.3),
    Kind("vclos/BERT-b16/ring", 0.2),
    Kind("vclos/Pangu/pairwise", 0.3),
)


def kinds_of(gpus: int) -> tuple[Kind, ...]:
    """Return what jobs of this size train."""
    return SMALL if gpus < 8 else LARGE
