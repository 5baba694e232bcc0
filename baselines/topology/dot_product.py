"""Tetris' alignment: nodes whose free resources look like what the pod asks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpuyard.envs.cluster_view import ClusterView

from .one_by_one import OneByOne
from .request import Ints, Request


def alignment(free: ArrayLike, request: ArrayLike, largest: ArrayLike) -> NDArray[np.float64]:
    """Return the dot product of request and free resources, each a share of the largest node.

    Args:
        free: (N, resources).
        request: (resources,).
        largest: (resources,).

    Returns:
        float64 (N,), at most the number of resources.
    """
    largest = np.asarray(largest, float)
    return (np.asarray(free) / largest) @ (np.asarray(request) / largest)


class DotProduct(OneByOne):
    """Each pod on the node with the largest, or the smallest, alignment.

    Resources are GPUs and network: what the uplinks of a node's leaf have left, which only gangs
    of several nodes ask for.

    Source: Tetris (SIGCOMM 2014), which takes the largest alignment. FGD (USENIX ATC 2023) compares
    with a dot-product rule that takes the smallest, and so packs.

    Args:
        prefer: "large" (Tetris) or "small" (FGD's).
        ties: see :class:`.one_by_one.OneByOne`.
        order: see :class:`.planner.TopologyPlanner`.
        pod_gpus: see there.

    Raises:
        ValueError: unknown ``prefer``.
    """

    def __init__(
        self,
        *,
        prefer: str = "large",
        ties: str = "first",
        order: str = "fifo-first-fit",
        pod_gpus: int | None = None,
    ) -> None:
        super().__init__(ties=ties, order=order, pod_gpus=pod_gpus)
        if prefer not in ("large", "small"):
            raise ValueError(f"prefer = {prefer!r} must be 'large' or 'small'")
        self.prefer = prefer

    def begin(self, view: ClusterView) -> None:
        """Note the share of every leaf's uplinks that is not in use."""
        self.headroom = node_headroom(view)

    def score(self, request: Request, free: Ints, size: int, nodes: Ints) -> NDArray[np.float64]:
        """Return the alignment, or minus it."""
        have = np.stack([free, self.headroom], axis=1)
        several = float(request.pods > 1)
        value = alignment(have, [size, several], [request.node_gpus, 1.0])
        return value if self.prefer == "large" else -value


def node_headroom(view: ClusterView) -> NDArray[np.float64]:
    """Return the unused share of the uplinks of each node's leaf switches, float64 (N,), 0 to 1."""
    cluster, fabric = view.cluster, view.cluster.fabric
    up = fabric.by_group(view.link_load)[1][0]
    of_switch = np.append(up.mean(axis=1), np.nan)
    # slots without a GPU have no switch: -1 picks the appended NaN
    of_gpu = of_switch[fabric.gpu_switch].reshape(cluster.num_nodes, -1)
    return 1.0 - np.nanmean(of_gpu, axis=1)
