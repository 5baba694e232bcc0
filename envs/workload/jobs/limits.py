"""Which gangs fit a cluster at all: they never mix pools, and a level's domain bounds them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.hardware.cluster import LEVELS, Cluster
from gpuyard.envs.perf import gang_profile

from ...checks import ScenarioError


def level_gpus(cluster: Cluster) -> NDArray[np.int64]:
    """Return the GPUs of the largest domain of each level in each pool, int64 (pools, LEVELS)."""
    per_node = np.array([pool.gpus_per_node for pool in cluster.pools])[cluster.node_pool]
    leaf_pool = np.zeros(len(cluster.leaf_pod), np.int64)
    leaf_pool[cluster.node_leaf] = cluster.node_pool
    leaf = np.bincount(cluster.node_leaf, per_node, len(cluster.leaf_pod))
    pod = np.zeros((len(cluster.pools), cluster.leaf_pod.max() + 1))
    np.add.at(pod, (leaf_pool, cluster.leaf_pod), leaf)
    most = np.zeros((len(cluster.pools), len(LEVELS)), np.int64)
    for k, pool in enumerate(cluster.pools):
        most[k] = pool.gpus_per_node, leaf[leaf_pool == k].max(), pod[k].max(), pod[k].sum()
    return most


def check_gangs(
    gpus: NDArray[np.int32], pool: NDArray[np.int16], required: int, cluster: Cluster
) -> None:
    """Refuse gangs that can never start.

    Args:
        gpus: (J,), sizes that occur.
        pool: (J,), the only pool of each, -1: any.
        required: widest level allowed.
        cluster: where they are to run.

    Raises:
        ScenarioError: naming the size, the limit and the remedy.
    """
    if pool.max(initial=-1) >= len(cluster.pools):
        raise ScenarioError(
            f"jobs: pool {pool.max()} is asked for, but {cluster.name} has only the pools 0 to "
            f"{len(cluster.pools) - 1}; correct the job list"
        )
    most = level_gpus(cluster)[:, required]
    room = np.where(pool < 0, most.max(), most[pool])
    bad = np.flatnonzero(gpus > room)
    if len(bad):
        size, limit = int(gpus[bad].max()), int(room[bad].max())
        level = LEVELS[required]
        where = "any pool" if level == "zone" else f"any {level}"
        remedy = f"set jobs.max_gpus = {limit} to cut larger jobs down"
        if level != "zone":
            remedy += f", or a wider jobs.required than {level!r}"
        raise ScenarioError(
            f"jobs: a gang of {size} GPUs never fits: {cluster.name} has at most {limit} GPUs in "
            f"{where} it may use; {remedy}, or take a larger cluster"
        )


def check_profiles(sizes: tuple[tuple[str, int], ...], cluster: Cluster) -> None:
    """Refuse what no gang profile describes: unknown names, models that do not fit in memory.

    Run times refer to the pool of the highest 16-bit peak.

    Raises:
        ScenarioError: naming the profile, the reason and the remedy.
    """
    pool = max(cluster.pools, key=lambda pool: pool.gpu.fp16_flops)
    site = (pool.gpus_per_node, pool.nic_bytes_per_s, pool.scale_up_bytes_per_s, pool.gpu.name)
    for name, gpus in sizes:
        try:
            gang_profile.profile(name, gpus, *site)
        except ValueError as error:
            raise ScenarioError(
                f"jobs: {error}; or choose what jobs train in [jobs.profiles]"
            ) from error
