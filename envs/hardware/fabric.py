"""Builders of clusters: leaf-spine, rail-optimised and fat-tree, with or without optical switches.

==================  ==========================================================================
builder             leaf switches
==================  ==========================================================================
leaf_spine          one per ``nodes_per_leaf`` nodes; every one reaches every spine
rail_optimised      one per ``nodes_per_leaf`` nodes and rail: slot r of a node is on rail
                    ``r % rails``; every one reaches every spine
fat_tree            one per ``nodes_per_leaf`` nodes; ``leafs_per_pod`` of them and their spines are
                    a pod, and ``core_uplinks`` links join every spine to the core
==================  ==========================================================================

Each pool has leaf switches (in a fat-tree: pods) of its own; the last of them may be partly filled.
Without a core there is one fabric pod, and a pool's leafs are a placement pod.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .catalogue import GPU
from .cluster import Cluster, Fabric, Pool
from .fabric_plan import GBIT, FabricPlan, check_plan, check_pool, fabric_error, rails_of


def pool(
    gpu: GPU,
    nodes: int,
    gpus_per_node: int | None = None,
    nics_per_node: int | None = None,
    nic_gbit: float | None = None,
    scale_up_gbps: float | None = None,
    nodes_per_leaf: int = 0,
    leafs: tuple[tuple[int, ...], ...] = (),
    where: str = "pool",
) -> Pool:
    """Return a pool of nodes; what is not given is usual for the GPU.

    ``scale_up_gbps`` is in GB/s, as in ``gpus.csv``. A node is the GPU's scale-up domain (NVSwitch
    and PCIe: 8, NVL72: 72) with a NIC per GPU. GPUs that are bridged in pairs fill nodes of 8 and
    talk over PCIe. ``where`` names the pool in errors.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """
    bridged = gpu.scale_up == "bridge"
    gpus = gpus_per_node if gpus_per_node is not None else 8 if bridged else gpu.scale_up_domain
    usual = gpu.pcie_bytes_per_s if bridged and gpus > 2 else gpu.scale_up_bytes_per_s
    result = Pool(
        gpu=gpu,
        gpus_per_node=gpus,
        nodes=nodes,
        nics_per_node=gpus if nics_per_node is None else nics_per_node,
        nic_bytes_per_s=gpu.nic_bytes_per_s if nic_gbit is None else nic_gbit * GBIT,
        scale_up_bytes_per_s=usual if scale_up_gbps is None else scale_up_gbps * 1e9,
        nodes_per_leaf=nodes_per_leaf,
        leafs=leafs,
    )
    check_pool(result, where)
    return result


def leaf_spine(
    pools: Sequence[Pool], name: str = "leaf-spine", source: str = "", **fields: Any
) -> Cluster:
    """Return a two-tier cluster; ``fields`` are those of :class:`FabricPlan`."""
    return build(pools, FabricPlan("leaf-spine", **fields), name, source)


def rail_optimised(
    pools: Sequence[Pool], name: str = "rail", source: str = "", **fields: Any
) -> Cluster:
    """Return a rail-optimised two-tier cluster; ``fields`` are those of :class:`FabricPlan`."""
    return build(pools, FabricPlan("rail", **fields), name, source)


def fat_tree(
    pools: Sequence[Pool], name: str = "fat-tree", source: str = "", **fields: Any
) -> Cluster:
    """Return a three-tier cluster; ``fields`` are those of :class:`FabricPlan`."""
    return build(pools, FabricPlan("fat-tree", **fields), name, source)


def build(pools: Sequence[Pool], plan: FabricPlan, name: str, source: str = "") -> Cluster:
    """Return the cluster of these pools under the fabric that ``plan`` describes.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """
    pools = tuple(pools)
    check_plan(pools, plan)
    node_leaf, leaf_pool, leaf_pod = _domains(pools, plan)
    rails = np.array([rails_of(each, plan) for each in pools])
    first_switch = np.concatenate([[0], np.cumsum(rails[leaf_pool])])
    switch_leaf = np.repeat(np.arange(len(leaf_pool)), rails[leaf_pool])
    three = plan.kind == "fat-tree"
    switch_pod = leaf_pod[switch_leaf] if three else np.zeros_like(switch_leaf)
    node_pool = leaf_pool[node_leaf]
    up = np.array([_uplink_bytes_per_s(each, plan) for each in pools])[leaf_pool[switch_leaf]]
    uplinks = np.repeat(up[:, None], plan.uplinks, axis=1)
    ports = _spine_ports(plan, np.bincount(switch_pod).max())
    fabric = Fabric(
        kind="optical" if plan.optical else plan.kind,
        gpu_switch=_gpu_switch(pools, node_pool, node_leaf, first_switch, rails),
        switch_pod=switch_pod.astype(np.int32),
        uplinks=plan.uplinks,
        spines=plan.spines,
        core_uplinks=plan.core_uplinks,
        planes=plan.planes,
        optical=plan.optical,
        spine_ports=ports,
        reconfigure_s=plan.reconfigure_s,
        node_bytes_per_s=np.array([p.nics_per_node * p.nic_bytes_per_s for p in pools])[node_pool],
        uplink_bytes_per_s=uplinks,
        core_bytes_per_s=_core_bytes_per_s(plan, uplinks, switch_pod),
    )
    return Cluster(
        name=name,
        pools=pools,
        node_pool=node_pool.astype(np.int32),
        node_leaf=node_leaf.astype(np.int32),
        leaf_pod=leaf_pod.astype(np.int32),
        fabric=fabric,
        source=source,
    )


def _domains(pools: tuple[Pool, ...], plan: FabricPlan) -> tuple[NDArray, NDArray, NDArray]:
    """Return the leaf of every node, and pool and pod of every leaf."""
    node_leaf, leaf_pool, leaf_pod = [], [], []
    leafs = pods = 0
    for index, each in enumerate(pools):
        local, pod = _leafs_and_pods(each, plan)
        count = len(pod)
        node_leaf.append(leafs + local)
        leaf_pool.append(np.full(count, index))
        leaf_pod.append(pods + pod)
        leafs, pods = leafs + count, pods + pod[-1] + 1
    return np.concatenate(node_leaf), np.concatenate(leaf_pool), np.concatenate(leaf_pod)


def _leafs_and_pods(each: Pool, plan: FabricPlan) -> tuple[NDArray, NDArray]:
    """Return the leaf of every node of a pool, and the pod of every leaf, both from 0."""
    if each.leafs:
        sizes = [nodes for pod in each.leafs for nodes in pod]
        pods = np.repeat(np.arange(len(each.leafs)), [len(pod) for pod in each.leafs])
        return np.repeat(np.arange(len(sizes)), sizes), pods
    leaf = np.arange(each.nodes) // (each.nodes_per_leaf or plan.nodes_per_leaf)
    count = leaf[-1] + 1
    return leaf, np.arange(count) // (plan.leafs_per_pod or count)


def _gpu_switch(
    pools: tuple[Pool, ...],
    node_pool: NDArray,
    node_leaf: NDArray,
    first_switch: NDArray,
    rails: NDArray,
) -> NDArray[np.int32]:
    """Return the leaf switch of every GPU slot, -1 where a node has fewer GPUs."""
    slot = np.arange(max(each.gpus_per_node for each in pools))
    gpus = np.array([each.gpus_per_node for each in pools])[node_pool, None]
    switch = first_switch[node_leaf, None] + slot % rails[node_pool, None]
    return np.where(slot < gpus, switch, -1).ravel().astype(np.int32)


def _uplink_bytes_per_s(each: Pool, plan: FabricPlan) -> float:
    """Return the rate of an uplink; the NICs of a full leaf switch set it if the plan does not."""
    if plan.uplink_gbit is not None:
        return plan.uplink_gbit * GBIT
    if not plan.uplinks:
        return 0.0
    nodes = each.nodes_per_leaf or plan.nodes_per_leaf
    down = nodes * each.nics_per_node * each.nic_bytes_per_s / rails_of(each, plan)
    return down / (plan.oversubscription * plan.uplinks)


def _core_bytes_per_s(plan: FabricPlan, uplinks: NDArray, switch_pod: NDArray) -> NDArray:
    """Return float64 (pods, A, V); what a full pod puts on a spine sets it if not the plan."""
    shape = switch_pod[-1] + 1, plan.spines, plan.core_uplinks
    if not plan.core_uplinks:
        return np.zeros(shape)
    if plan.core_gbit is not None:
        return np.full(shape, plan.core_gbit * GBIT)
    first = np.searchsorted(switch_pod, np.arange(shape[0]))
    below = plan.leafs_per_pod * uplinks[first, 0] * plan.uplinks / plan.spines
    each = below / (plan.core_oversubscription * plan.core_uplinks)
    return np.broadcast_to(each[:, None, None], shape).copy()


def _spine_ports(plan: FabricPlan, switches: int) -> int:
    """Return ports of a spine towards ``switches`` leaf switches.

    Uplink k of every leaf switch ends at optical switch k, where every spine has the same number
    of ports; without optical switches a spine needs one per parallel link.
    """
    if not plan.spines:
        return 0
    parallel = plan.uplinks // plan.spines
    needed = -(-switches // plan.spines) * plan.uplinks if plan.optical else switches * parallel
    if plan.spine_ports and not plan.optical and plan.spine_ports < needed:
        raise fabric_error(plan, "spine_ports", f"{switches} leaf switches need {needed} ports")
    if plan.optical and plan.spine_ports % plan.uplinks:
        remedy = f"give a multiple of the {plan.uplinks} optical switches, for example {needed}"
        raise fabric_error(plan, "spine_ports", remedy)
    return plan.spine_ports or needed
