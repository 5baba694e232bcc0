"""Which gangs an optical fabric can start: leafs are joined by circuits that a gang sets, or not.

A gang that no leaf holds needs equal shares of several leafs of one pod, whole nodes, and for each
of its GPUs on a leaf an uplink whose circuit ends at the same spine as those of the other leafs.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..hardware.cluster import LEVELS, Cluster
from .checks import ScenarioError


def check_circuits(gangs: Iterable[tuple[str, int, int]], required: int, cluster: Cluster) -> None:
    """Refuse gangs for which an empty optical fabric has no circuits.

    Args:
        gangs: profile, GPUs and only pool (-1: any) of every kind of job that occurs.
        required: widest level allowed.
        cluster: where they are to run.

    Raises:
        ScenarioError: naming the size and the remedy.
    """
    if not cluster.fabric.optical:
        return
    can = {
        (gpus, only): any(
            _starts(cluster, gpus, pool, required)
            for pool in (range(len(cluster.pools)) if only < 0 else [only])
        )
        for _, gpus, only in gangs
    }
    sizes = [gpus for (gpus, _), starts in can.items() if not starts]
    if sizes:
        below = [gpus for gpus, _ in can if gpus < min(sizes)]
        remedy = f"set jobs.max_gpus = {max(below)} or " if below else ""
        raise ScenarioError(
            f"jobs: a gang of {min(sizes)} GPUs can never start on this optical fabric: no leaf "
            "holds it, and it does not fill equal shares of whole nodes on several leafs with an "
            f"uplink for each GPU and as many ports at the spines; {remedy}give "
            "cluster.fabric.nodes_per_leaf, uplinks, spines or spine_ports more"
        )


def _starts(cluster: Cluster, gpus: int, pool: int, required: int) -> bool:
    """Tell whether a gang can start on an empty pool."""
    per_node = cluster.pools[pool].gpus_per_node
    leafs = len(cluster.leaf_pod)
    nodes = np.bincount(cluster.node_leaf[cluster.node_pool == pool], minlength=leafs)
    need = -(-gpus // per_node)
    if gpus <= per_node or nodes.max() >= need:
        return True
    if required < LEVELS.index("pod") or gpus % per_node:
        return False
    pods = [nodes[(cluster.leaf_pod == pod) & (nodes > 0)] for pod in np.unique(cluster.leaf_pod)]
    return any(_joins(cluster, need, per_node, leafs) for leafs in pods)


def _joins(cluster: Cluster, need: int, per_node: int, leafs: np.ndarray) -> bool:
    """Tell whether some number of a pod's leafs, of so many nodes each, can be joined."""
    fabric = cluster.fabric
    rails = int(np.bincount(cluster.switch_leaf).max())
    for spans in range(2, min(need, len(leafs)) + 1):
        share = need // spans
        circuits = share * per_node // rails  # at each switch, one per GPU
        at_spines = fabric.spines * (fabric.spine_ports // spans)
        fits = circuits <= fabric.uplinks and circuits * rails <= at_spines
        if need % spans == 0 and (leafs >= share).sum() >= spans and fits:
            return True
    return False
