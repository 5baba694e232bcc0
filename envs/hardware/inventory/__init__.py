"""Clusters as their tools print them: nodes, their GPUs, and the switches that they hang at."""

from .kubernetes import read_nodes as read_kubernetes
from .nodes import Inventory, Node, with_topology
from .nvidia_smi import Machine, read_matrix
from .slurm_nodes import read_nodes as read_slurm

__all__ = [
    "Inventory",
    "Machine",
    "Node",
    "read_kubernetes",
    "read_matrix",
    "read_slurm",
    "with_topology",
]
