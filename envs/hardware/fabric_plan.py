"""What a fabric is built from, and which plans do not make a connected one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cluster import Pool

GBIT = 1e9 / 8
"""Bytes/s of 1 Gbit/s."""
KINDS = ("leaf-spine", "rail", "fat-tree")


@dataclass(frozen=True)
class FabricPlan:
    """What a fabric is built from: the fields of a scenario's ``[cluster.fabric]``.

    Attributes:
        kind: one of :data:`KINDS`.
        nodes_per_leaf: nodes under one leaf switch or rail group; a pool may have its own.
        rails: leaf switches of a rail group; 0: as many as a node has NICs. Only for "rail".
        leafs_per_pod: leaf switches of a pod. Only for "fat-tree".
        spines: spines, per pod in a fat-tree.
        uplinks: of every leaf switch; a multiple of ``spines``, the surplus being parallel links.
            With optical switches: how many of those there are, any number.
        oversubscription: bytes/s of the NICs under a leaf switch over those of its uplinks.
        uplink_gbit: Gbit/s of an uplink; None: from the oversubscription.
        core_uplinks: of every spine. Only for "fat-tree".
        core_oversubscription: bytes/s below a spine over those of its core links.
        core_gbit: Gbit/s of a core link; None: from the core oversubscription.
        planes: 2: each NIC has a port in each of two disjoint planes of spines.
        optical: optical switches between leafs and spines.
        spine_ports: ports of a spine towards the leafs; 0: just enough.
        reconfigure_s: time to set optical circuits.
    """

    kind: str = "leaf-spine"
    nodes_per_leaf: int = 8
    rails: int = 0
    leafs_per_pod: int = 0
    spines: int = 8
    uplinks: int = 8
    oversubscription: float = 1.0
    uplink_gbit: float | None = None
    core_uplinks: int = 0
    core_oversubscription: float = 1.0
    core_gbit: float | None = None
    planes: int = 1
    optical: bool = False
    spine_ports: int = 0
    reconfigure_s: float = 0.0


def rails_of(each: Pool, plan: FabricPlan) -> int:
    """Return the leaf switches of a leaf of this pool."""
    return (plan.rails or each.nics_per_node) if plan.kind == "rail" else 1


def count_leafs(each: Pool, plan: FabricPlan) -> int:
    """Return the leafs of this pool."""
    if each.leafs:
        return sum(map(len, each.leafs))
    return -(-each.nodes // max(each.nodes_per_leaf or plan.nodes_per_leaf, 1))


def count_pods(each: Pool, plan: FabricPlan) -> int:
    """Return the pods of this pool in a fat-tree."""
    return len(each.leafs) or -(-count_leafs(each, plan) // plan.leafs_per_pod)


def check_pool(each: Pool, where: str) -> None:
    """Refuse pools without nodes, GPUs or bandwidth."""
    for field in ("nodes", "gpus_per_node", "nics_per_node"):
        value = getattr(each, field)
        if not _whole(value) or value < 1:
            raise ValueError(f"{where}.{field} = {value!r} must be a whole number >= 1")
    if not _whole(each.nodes_per_leaf) or each.nodes_per_leaf < 0:
        value = each.nodes_per_leaf
        raise ValueError(f"{where}.nodes_per_leaf = {value!r}: give 1 or more, or leave it out")
    if each.leafs and sum(map(sum, each.leafs)) != each.nodes:
        raise ValueError(f"{where}.leafs = {each.leafs!r} must have {each.nodes} nodes together")
    if each.leafs and max(map(max, each.leafs)) != each.nodes_per_leaf:
        value = each.nodes_per_leaf
        raise ValueError(f"{where}.nodes_per_leaf = {value!r} must be the largest of its leafs")
    for field, value in (
        ("nic_gbit", each.nic_bytes_per_s / GBIT),
        ("scale_up_gbps", each.scale_up_bytes_per_s / 1e9),
    ):
        if not 0 < value < float("inf"):
            raise ValueError(f"{where}.{field} = {value:g} carries nothing: give a rate > 0")


def check_plan(pools: tuple[Pool, ...], plan: FabricPlan) -> None:
    """Refuse plans that do not make a connected fabric."""
    if not pools:
        raise ValueError("cluster: no pools; give at least one [[cluster.pools]] table")
    for each in pools:
        check_pool(each, f"cluster.pools of {each.gpu.name}")
    if plan.kind not in KINDS:
        raise fabric_error(plan, "kind", f"use one of {', '.join(KINDS)}")
    for field, low in _LOWEST.items():
        value = getattr(plan, field)
        if not _whole(value) or value < low:
            raise fabric_error(plan, field, f"give a whole number >= {low}")
    for field in ("oversubscription", "uplink_gbit", "core_oversubscription", "core_gbit"):
        value = getattr(plan, field)
        if value is not None and not 0 < value < float("inf"):
            raise fabric_error(plan, field, "links would carry nothing; give a number > 0")
    if not 0 <= plan.reconfigure_s < float("inf"):
        raise fabric_error(plan, "reconfigure_s", "give seconds >= 0")
    _check_rails(pools, plan)
    _check_connected(pools, plan)


_LOWEST = {
    "nodes_per_leaf": 1,
    "rails": 0,
    "leafs_per_pod": 0,
    "spines": 0,
    "uplinks": 0,
    "core_uplinks": 0,
    "planes": 1,
    "spine_ports": 0,
}


def _check_rails(pools: tuple[Pool, ...], plan: FabricPlan) -> None:
    if plan.rails and plan.kind != "rail":
        raise fabric_error(plan, "rails", 'only with kind = "rail"; leave it out')
    for each in pools:
        rails = rails_of(each, plan)
        if each.gpus_per_node % rails or each.nics_per_node % rails:
            remedy = (
                f"every rail needs as many of the {each.gpus_per_node} GPUs and "
                f"{each.nics_per_node} NICs of a {each.gpu.name} node; give a divisor of both"
            )
            raise ValueError(f"cluster.fabric.rails = {rails}: {remedy}")


def _check_connected(pools: tuple[Pool, ...], plan: FabricPlan) -> None:
    switches = sum(count_leafs(each, plan) * rails_of(each, plan) for each in pools)
    for field, other in (("spines", "uplinks"), ("uplinks", "spines")):
        if not getattr(plan, field) and (switches > 1 or getattr(plan, other)):
            raise fabric_error(plan, field, f"cuts off {switches} leaf switches; give 1 or more")
        if getattr(plan, field) % plan.planes:
            raise fabric_error(plan, field, f"give a multiple of planes = {plan.planes}")
    if plan.spines and not plan.optical and plan.uplinks % plan.spines:
        raise fabric_error(plan, "uplinks", f"give a multiple of spines = {plan.spines}")
    if plan.kind != "fat-tree":
        if any(len(each.leafs) > 1 for each in pools):
            raise fabric_error(plan, "kind", 'several pods are a "fat-tree"; leave it out')
        for field in ("leafs_per_pod", "core_uplinks"):
            if getattr(plan, field):
                raise fabric_error(plan, field, 'only with kind = "fat-tree"; leave it out')
        return
    if plan.optical:
        raise fabric_error(plan, "optical", 'only with kind = "leaf-spine" or "rail"')
    if not plan.leafs_per_pod:
        raise fabric_error(plan, "leafs_per_pod", "give the leaf switches of a pod, 1 or more")
    pods = sum(count_pods(each, plan) for each in pools)
    if pods > 1 and not plan.core_uplinks:
        raise fabric_error(plan, "core_uplinks", f"cuts off {pods} pods; give 1 or more")


def _whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def fabric_error(plan: FabricPlan, field: str, remedy: str) -> ValueError:
    """Return the error to raise for one field."""
    return ValueError(f"cluster.fabric.{field} = {getattr(plan, field)!r}: {remedy}")
