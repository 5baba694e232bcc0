"""The ``[cluster]`` table of a scenario.

====================  =======================================================================
field                 what
====================  =======================================================================
``preset``            a cluster of :data:`.clusters.BLUEPRINTS`, or "large"; "default" if
                      nothing else is given
``num_gpus``          GPUs of "large"
``topology``          path of a Slurm ``topology.conf`` or ``topology.yaml``, relative to the file:
                      nodes, leafs and pods of the one pool, in place of a preset
``[[cluster.pools]]`` ``gpu``, ``nodes``; usual for the GPU if not given: ``gpus_per_node``,
                      ``nics_per_node``, ``nic_gbit`` (Gbit/s), ``scale_up_gbps`` (GB/s);
                      ``nodes_per_leaf`` (the fabric's); replace the pools of the preset
``[cluster.fabric]``  fields of :class:`.fabric_plan.FabricPlan`; change those of the preset
====================  =======================================================================
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..hardware import catalogue, topology
from ..hardware.catalogue import GPU
from ..hardware.cluster import Cluster, Pool
from ..hardware.clusters import Blueprint, blueprint
from ..hardware.fabric import build, pool
from ..hardware.fabric_plan import FabricPlan
from ..hardware.topology import Topology
from .checks import ScenarioError, check_type, checked_table, refuse_unknown
from .sizes import brief, check_cluster

POOL_FIELDS = {
    "gpu": "H100-SXM",
    "nodes": 64,
    "gpus_per_node": 8,
    "nics_per_node": 8,
    "nic_gbit": 400.0,
    "scale_up_gbps": 450.0,
    "nodes_per_leaf": 8,
}
"""Fields of ``[[cluster.pools]]``, each with an example."""


def read_cluster(
    table: dict[str, Any], gpus: dict[str, GPU], folder: Path | None = None
) -> Cluster:
    """Return the cluster that a scenario describes.

    Args:
        table: the ``[cluster]`` table.
        gpus: the scenario's own GPUs by name; others come from the catalogue.
        folder: where the path of a topology starts; the working directory by default.

    Raises:
        ScenarioError: naming the field, its value and the remedy.
    """
    known = {"preset", "num_gpus", "topology", "pools", "fabric"}
    refuse_unknown(checked_table(table, "cluster"), known, "cluster")
    try:
        if "topology" in table:
            return _by_topology(table, gpus, folder or Path.cwd())
        return _build(table, gpus)
    except ScenarioError:
        raise
    except ValueError as error:  # of the hardware, which knows no scenario
        raise ScenarioError(str(error)) from error


def _build(table: dict[str, Any], gpus: dict[str, GPU]) -> Cluster:
    found = _blueprint(table)
    pools = _read_pools(table["pools"], gpus) if "pools" in table else found.pools
    plan = replace(found.fabric, **_read_fabric(table.get("fabric", {})))
    check_cluster(pools, plan)
    name = table.get("preset", "own" if "pools" in table else "default")
    return build(pools, plan, name, found.source)


def _by_topology(table: dict[str, Any], gpus: dict[str, GPU], folder: Path) -> Cluster:
    """Return a cluster whose nodes, leafs and pods stand in a file of Slurm's."""
    path = table["topology"]
    check_type("cluster.topology", path, "topology.conf")
    for field in ("preset", "num_gpus"):
        if field in table:
            raise ScenarioError(
                f"cluster.{field} = {table[field]!r}: a topology has its own nodes; leave it out"
            )
    found = topology.read(folder / path)
    each = _pool_of(found, table.get("pools"), gpus)
    plan = _plan_of(found, table.get("fabric", {}))
    check_cluster((each,), plan)
    return build((each,), plan, Path(path).name, f"{path} ({found.kind}); rates of the scenario")


def _pool_of(found: Topology, rows: Any, gpus: dict[str, GPU]) -> Pool:
    """Return the nodes of a topology: a scenario says what they are, and how many if it is flat."""
    where = "cluster.pools[0]"
    if not isinstance(rows, list) or len(rows) != 1:
        raise ScenarioError(
            f"cluster.pools = {brief(rows)}: a topology does not say what its nodes are; give one "
            "[[cluster.pools]] table with their gpu"
        )
    row = checked_table(rows[0], where)
    mine = {"nodes_per_leaf"} if found.kind == "flat" else {"nodes", "nodes_per_leaf"}
    for field in sorted(mine & set(row)):
        raise ScenarioError(f"{where}.{field} = {row[field]!r}: the topology says it; leave it out")
    if found.kind == "flat":
        return _read_pool({**row, "nodes_per_leaf": row.get("nodes", 0)}, gpus, where)
    leafs = found.leafs
    size = {"nodes": sum(map(sum, leafs)), "nodes_per_leaf": max(map(max, leafs))}
    return _read_pool({**row, **size}, gpus, where, leafs)


def _plan_of(found: Topology, fabric: Any) -> FabricPlan:
    """Return the fabric of a topology: a fat-tree if it has several pods."""
    given = _read_fabric(fabric)
    for field in ("nodes_per_leaf", "leafs_per_pod"):
        if field in given:
            value = given[field]
            raise ScenarioError(
                f"cluster.fabric.{field} = {value!r}: the topology says it; leave it out"
            )
    default: dict[str, Any] = {}
    if len(found.leafs) > 1:
        default = {"kind": "fat-tree", "core_uplinks": FabricPlan.uplinks}
    if given.get("kind", default.get("kind")) == "fat-tree":
        default["leafs_per_pod"] = max(map(len, found.leafs), default=1)
    return FabricPlan(**{**default, **given})


def _blueprint(table: dict[str, Any]) -> Blueprint:
    if "preset" not in table and "pools" in table:
        return Blueprint((), FabricPlan(), "scenario")
    name = table.get("preset", "default")
    check_type("cluster.preset", name, "default")
    if "num_gpus" in table:
        check_type("cluster.num_gpus", table["num_gpus"], 4096)
    return blueprint(name, table.get("num_gpus"))


def _read_pools(rows: Any, gpus: dict[str, GPU]) -> tuple[Pool, ...]:
    if not isinstance(rows, list) or not rows:
        raise ScenarioError(f"cluster.pools = {rows!r}: give at least one [[cluster.pools]] table")
    return tuple(_read_pool(row, gpus, f"cluster.pools[{i}]") for i, row in enumerate(rows))


def _read_pool(
    row: Any, gpus: dict[str, GPU], where: str, leafs: tuple[tuple[int, ...], ...] = ()
) -> Pool:
    refuse_unknown(checked_table(row, where), set(POOL_FIELDS), where)
    for field, value in row.items():
        check_type(f"{where}.{field}", value, POOL_FIELDS[field])
    for field in ("gpu", "nodes"):
        if field not in row:
            example = POOL_FIELDS[field]
            raise ScenarioError(f"{where}.{field} is missing; give one, for example {example!r}")
    try:
        device = gpus.get(row["gpu"]) or catalogue.gpu(row["gpu"])
    except ValueError as error:
        raise ScenarioError(f"{where}.gpu = {row['gpu']!r}: {error}") from None
    sizes = {f: value for f, value in row.items() if f != "gpu"}
    return pool(device, **sizes, leafs=leafs, where=where)


def _read_fabric(table: Any) -> dict[str, Any]:
    where = "cluster.fabric"
    known = {item.name: item.default for item in fields(FabricPlan)}
    refuse_unknown(checked_table(table, where), set(known), where)
    for field, value in table.items():
        if field == "optical":
            if not isinstance(value, bool):
                raise ScenarioError(f"{where}.optical = {value!r} must be true or false")
        else:
            check_type(f"{where}.{field}", value, 400.0 if known[field] is None else known[field])
    return dict(table)
