"""Where things stand in a world: leafs, nodes and links of its cluster, and its replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

Json = dict[str, Any]


def groups(scenario: Scenario) -> list[Json]:
    """Return where devices stand: the leafs of nodes with their links, or each replica alone."""
    if scenario.cluster is None:
        return _alone(scenario)
    cluster = scenario.cluster
    nic, uplink, _ = cluster.fabric.by_group(_numbers(cluster.fabric.capacity))
    found: list[Json] = []
    for leaf, pod in enumerate(cluster.leaf_pod.tolist()):
        places = []
        for node in np.flatnonzero(cluster.node_leaf == leaf).tolist():
            pool = cluster.pools[cluster.node_pool[node]]
            places.append(
                {
                    "name": f"node {node}",
                    "gpu": pool.gpu.name,
                    "gpus": pool.gpus_per_node,
                    "memory": round(pool.gpu.memory_bytes / 1e9, 1),
                    "node": node,
                    "first": node * cluster.gpus_per_node,
                    "links": _whole(nic[:, node]),
                }
            )
        links = uplink[:, cluster.switch_leaf == leaf].reshape(2, -1).T
        name = f"leaf {leaf}, pod {pod}" if cluster.fabric.core_uplinks else f"leaf {leaf}"
        found.append({"name": name, "nodes": places, "uplinks": _whole(links)})
    return found


def _alone(scenario: Scenario) -> list[Json]:
    """Return a group for each replica, where they stand outside any cluster."""
    found, first = [], 0
    for number, replica in enumerate(scenario.replicas):
        gpus, gpu = replica.deployment.gpus, replica.deployment.gpu.name
        place = {"name": f"replica {number}", "gpu": gpu, "first": first, "gpus": gpus}
        lines = [f"replica {number}", f"{gpus} {gpu}"]
        found.append({"name": f"replica {number}", "lines": lines, "nodes": [place], "uplinks": []})
        first += gpus
    return found


def core(scenario: Scenario) -> list[list[list[int]]]:
    """Return the pairs of links, up and down, between each pod's spines and the core."""
    if scenario.cluster is None:
        return []
    fabric = scenario.cluster.fabric
    core = fabric.by_group(_numbers(fabric.capacity))[2]
    return [_whole(core[:, pod].reshape(2, -1).T) for pod in range(core.shape[1])]


def role_names(scenario: Scenario) -> list[str]:
    """Return the name of every role of the scenario's services."""
    return [
        service.name if role.kind == "aggregated" else f"{service.name} {role.kind}"
        for service in scenario.services
        for role in service.roles
    ]


def replica_names(scenario: Scenario) -> list[str]:
    """Return the name of every replica: its role's and its number there, or its own number."""
    if not scenario.services:
        return [f"replica {number}" for number in range(len(scenario.replicas))]
    names, count, found = role_names(scenario), [0] * len(role_names(scenario)), []
    for slot in scenario.slots:
        found.append(f"{names[slot.role]} {count[slot.role]}")
        count[slot.role] += 1
    return found


def replicas(scenario: Scenario) -> list[Json]:
    """Return what each replica is, and where in its gang or among all devices it begins."""
    found, first = [], 0
    for number, (replica, name) in enumerate(
        zip(scenario.replicas, replica_names(scenario), strict=True)
    ):
        deployment, place = replica.deployment, {"role": -1, "gang": -1, "first": first}
        if scenario.services:
            slot = scenario.slots[number]
            place = {"role": slot.role, "gang": slot.gang, "first": slot.rank}
        found.append(
            {
                "name": name,
                "model": deployment.model.name,
                "gpu": deployment.gpu.name,
                "gpus": deployment.gpus,
                "sequences": deployment.max_num_seqs,
                "weights": round(replica.weight_share, 3),
                "kv": round(replica.kv_share, 3),
                **place,
            }
        )
        first += deployment.gpus
    return found


def _numbers(links: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the number of each link, as what :meth:`Fabric.by_group` takes."""
    return np.arange(len(links), dtype=np.float64)


def _whole(numbers: NDArray[np.float64]) -> list[Any]:
    return numbers.astype(int).tolist()
