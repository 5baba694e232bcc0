"""What jobs train where no trace says so: a choice by size, not a measurement.

Small jobs are CNNs and BERT with their all-reduce, jobs of a node or two also language models, and
large ones language models, some with experts or tables spread over all GPUs (all-to-all).
"""

from __future__ import annotations

from .generator import Kind

SMALL = (Kind("ResNet-50", 0.3), Kind("VGG-16", 0.3), Kind("BERT-large-512", 0.4))
MEDIUM = (
    Kind("VGG-16", 0.25),
    Kind("BERT-large-512", 0.25),
    Kind("GPT-2-XL", 0.25),
    Kind("Llama-3-8B", 0.25),
)
LARGE = (
    Kind("Llama-3-8B", 0.3),
    Kind("Llama-2-13B", 0.25),
    Kind("VGG-16", 0.15),
    Kind("vclos/Pangu/pairwise", 0.3),
)


def kinds_of(gpus: int) -> tuple[Kind, ...]:
    """Return what jobs of this size train."""
    return SMALL if gpus < 8 else MEDIUM if gpus <= 16 else LARGE
