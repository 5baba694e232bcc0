"""Cluster views made by hand, for tests of planners."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from gpuyard.envs.cluster_view import DOWN, FREE, GANG_VIEW, QUEUE_VIEW, ClusterView
from gpuyard.envs.hardware.catalogue import gpu
from gpuyard.envs.hardware.cluster import Cluster, Fabric, Pool
from gpuyard.envs.observation import Layout

PLACING = SimpleNamespace(name="by hand", decisions=frozenset({"place"}), layout=Layout({"place"}))
"""What a planner is told of a scenario."""

GANG_DEFAULTS = {
    "arrival_s": 0.0,
    "estimate_s": 100.0,
    "executed_s": 0.0,
    "start_s": np.nan,
    "end_s": np.nan,
    "slowdown": 1.0,
    "priority": 0.5,
    "tenant": 0,
    "pool": -1,
    "required": 3,
    "preferred": 3,
    "preemptions": 0,
    "blocked": 0,
}


def make_cluster(
    nodes: int = 4,
    gpus_per_node: int = 8,
    nodes_per_leaf: int = 2,
    leafs_per_pod: int = 0,
    pools: tuple[tuple[str, int], ...] | None = None,
    uplinks: int = 4,
    spines: int = 4,
    optical: bool = False,
    spine_ports: int = 0,
) -> Cluster:
    """A leaf-spine cluster, one switch per leaf; ``pools`` are (GPU type, nodes) pairs."""
    pools = pools or (("H100-SXM", nodes),)
    nodes = sum(count for _, count in pools)
    node_leaf = np.arange(nodes, dtype=np.int32) // nodes_per_leaf
    leafs = int(node_leaf[-1]) + 1
    leaf_pod = np.arange(leafs, dtype=np.int32) // (leafs_per_pod or leafs)
    nic = 50e9
    fabric = Fabric(
        kind="optical" if optical else "leaf-spine",
        gpu_switch=np.repeat(node_leaf, gpus_per_node).astype(np.int32),
        switch_pod=leaf_pod,
        uplinks=uplinks,
        spines=spines,
        core_uplinks=0,
        planes=1,
        optical=optical,
        spine_ports=spine_ports or leafs * max(1, uplinks // spines),
        reconfigure_s=0.0,
        node_bytes_per_s=np.full(nodes, nic * gpus_per_node),
        uplink_bytes_per_s=np.full((leafs, uplinks), nic),
        core_bytes_per_s=np.zeros((int(leaf_pod[-1]) + 1, spines, 0)),
    )
    return Cluster(
        name="by hand",
        pools=tuple(
            Pool(gpu(name), gpus_per_node, count, gpus_per_node, nic, 450e9)
            for name, count in pools
        ),
        node_pool=np.repeat(np.arange(len(pools)), [count for _, count in pools]).astype(np.int32),
        node_leaf=node_leaf,
        leaf_pod=leaf_pod,
        fabric=fabric,
    )


def gangs(*rows: dict) -> np.ndarray:
    """GANG_VIEW rows from dicts; ``id`` and ``gpus`` must be given, the rest has defaults."""
    table = np.zeros(len(rows), GANG_VIEW)
    for entry, row in zip(table, rows, strict=True):
        for name, value in {**GANG_DEFAULTS, **row}.items():
            entry[name] = value
    return table


def make_view(
    pending: tuple[dict, ...] | list[dict] = (),
    running: tuple[dict, ...] | list[dict] = (),
    cluster: Cluster | None = None,
    now_s: float = 0.0,
    down: tuple[int, ...] = (),
    preemption: bool = False,
    speeds: np.ndarray | list | None = None,
    running_speeds: np.ndarray | list | None = None,
    quotas: tuple[int, ...] = (10**9,),
    queues: list[dict] | None = None,
    uplink_job: np.ndarray | None = None,
    uplink_flows: np.ndarray | None = None,
    circuits: np.ndarray | None = None,
    **cluster_options,
) -> ClusterView:
    """A view of a cluster on which gangs run and wait.

    Args:
        pending: dicts of GANG_VIEW fields, in queue order.
        running: the same, with ``on``: the GPUs that the gang holds, in rank order.
        cluster: by default ``make_cluster(**cluster_options)``.
        now_s: time.
        down: nodes that failed.
        preemption: whether plans may preempt.
        speeds: (len(pending), pools), by default 1 everywhere the gang may run.
        running_speeds: the same for running gangs.
        quotas: of each tenant, GPUs.
        queues: instead dicts of QUEUE_VIEW fields and ``name``, tenants first, parents by number.
        uplink_job, uplink_flows, circuits: (switches, uplinks); by default unused, and wired
            uplink k to spine k mod spines.
    """
    cluster = cluster or make_cluster(**cluster_options)
    fabric = cluster.fabric
    gpu_job = np.where(fabric.gpu_switch < 0, DOWN, FREE).astype(np.int32)
    rows, table = [], queue_table(queues or [{"limit": quota} for quota in quotas])
    for row in running:
        row = dict(row)
        on = np.asarray(row.pop("on"), int)
        assert (gpu_job[on] == FREE).all(), f"gang {row['id']} on GPUs that are taken"
        gpu_job[on] = row["id"]
        queue = row.get("tenant", 0)
        while queue >= 0:
            table["held"][queue] += len(on)
            queue = table["parent"][queue]
        rows.append({"gpus": len(on), "start_s": 0.0, "end_s": 100.0, **row})
    for node in down:
        gpu_job.reshape(cluster.num_nodes, -1)[node] = DOWN
    shape = (fabric.num_switches, fabric.uplinks)
    wired = np.broadcast_to(np.arange(fabric.uplinks) % fabric.spines, shape)
    if circuits is None:
        circuits = np.full(shape, -1) if fabric.optical else wired
    waiting, active = gangs(*pending), gangs(*rows)
    return ClusterView(
        now_s=now_s,
        cluster=cluster,
        gpu_job=gpu_job,
        uplink_job=_or(uplink_job, np.full(shape, FREE)),
        uplink_flows=_or(uplink_flows, np.zeros(shape)),
        circuits=np.asarray(circuits, np.int32),
        link_load=np.zeros(len(fabric.capacity)),
        pending=waiting,
        running=active,
        speeds=_speeds(speeds, waiting, cluster),
        running_speeds=_speeds(running_speeds, active, cluster),
        queues=table,
        queue_names=tuple(queue.get("name", "") for queue in queues or [{}] * len(quotas)),
        preemption=preemption,
    )


def queue_table(rows: list[dict]) -> np.ndarray:
    """QUEUE_VIEW of dicts; by default no parent, no limit, weight 1."""
    table = np.zeros(len(rows), QUEUE_VIEW)
    table["parent"], table["limit"], table["weight"] = -1, 10**9, 1.0
    for at, row in enumerate(rows):
        for name, value in row.items():
            if name != "name":
                table[name][at] = value
    return table


def _or(given, default) -> np.ndarray:
    return np.asarray(default if given is None else given, np.int32)


def _speeds(given, table: np.ndarray, cluster: Cluster) -> np.ndarray:
    pools = np.arange(len(cluster.pools))
    allowed = (table["pool"][:, None] == -1) | (table["pool"][:, None] == pools)
    return allowed * (1.0 if given is None else np.asarray(given, float))


def due(mask, kinds=("place",)) -> dict[str, np.ndarray]:
    """Worlds in which such decisions are due, in turn; the last row but one waits."""
    cluster = np.zeros((len(mask), len(PLACING.layout.columns("cluster"))), np.float32)
    for row, kind in enumerate((*kinds, *kinds[-1:] * len(mask))[: len(mask)]):
        cluster[row, PLACING.layout.index("cluster", f"kind_{kind}")] = 1
    candidates = np.zeros((*np.shape(mask), len(PLACING.layout.columns("candidates"))), np.float32)
    candidates[:, -2, PLACING.layout.index("candidates", "place.is_wait")] = 1
    return {"action_mask": mask, "cluster": cluster, "candidates": candidates}
