"""Which gangs fit a cluster at all: they never mix pools, and a level's domain bounds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..hardware.catalogue import Model
from ..hardware.cluster import LEVELS, Cluster
from ..perf.training import gang_profile
from .checks import ScenarioError


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
    gangs: Iterable[tuple[str, int, int]],
    required: int,
    cluster: Cluster,
    models: Mapping[str, Model],
) -> None:
    """Refuse gangs that can never start.

    Args:
        gangs: profile, GPUs and only pool (-1: any) of every kind of job that occurs.
        required: widest level allowed.
        cluster: where they are to run. Run times refer to its pool of the highest 16-bit peak.
        models: the scenario's own by name.

    Raises:
        ScenarioError: naming the profile, the size, the limit and the remedy.
    """
    most = level_gpus(cluster)[:, required]
    best = max(cluster.pools, key=lambda pool: pool.gpu.fp16_flops)
    site = (best.gpus_per_node, best.nic_bytes_per_s, best.scale_up_bytes_per_s, best.gpu)
    largest = sorted(set(gangs), key=lambda gang: -gang[1])
    for name, gpus, only in largest:
        if only >= len(cluster.pools):
            raise ScenarioError(
                f"jobs: pool {only} is asked for, but {cluster.name} has only the pools 0 to "
                f"{len(cluster.pools) - 1}; correct the job list"
            )
        allowed = list(range(len(cluster.pools)) if only < 0 else [only])
        _check_room(f"a gang of {gpus} GPUs", gpus, max(most[allowed]), "", required, cluster)
        try:
            job = gang_profile.profile(models.get(name, name), gpus, *site)
        except ValueError as error:
            raise ScenarioError(
                f"jobs: {error}; or choose what jobs train in [jobs.profiles]"
            ) from error
        room = [most[k] for k in allowed if gang_profile.speed(job, cluster.pools[k].gpu) > 0]
        what = f"{name} on {gpus} GPUs"
        _check_room(what, gpus, max(room, default=0), " with memory for it", required, cluster)


def _check_room(
    what: str, gpus: int, room: int, which: str, required: int, cluster: Cluster
) -> None:
    """Refuse a gang larger than the ``room`` in the domains it may use."""
    if gpus <= room:
        return
    level = LEVELS[required]
    where = "any pool" if level == "zone" else f"any {level}"
    remedy = f"set jobs.max_gpus = {room} to cut larger jobs down" if room else "drop this profile"
    if level != "zone":
        remedy += f", or a wider jobs.required than {level!r}"
    raise ScenarioError(
        f"jobs: {what} never fits: {cluster.name} has at most {room} GPUs{which} in {where} it "
        f"may use; {remedy}, or take a larger cluster"
    )
