"""How large a scenario may be: numbers that arrays can hold, and worlds that memory can.

All of it is checked on the numbers themselves, before anything of that size is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..hardware.cluster import Pool
from ..hardware.fabric_plan import FabricPlan, count_leafs, rails_of
from ..workload.requests.source import Workload
from .checks import ScenarioError
from .deployments import Replica

MOST_WHOLE = 2**31 - 1
SMALLEST, LARGEST = 1e-30, 1e30
MOST_DEPTH = 12
MOST_TEXT = 1000
MOST_RECORDS = 2**25
"""Of one kind in a serving world: some GiB."""
MOST_GPUS, MOST_PORTS = 2**20, 2**24
"""Of a cluster; ports are those of leaf switches, and those of spines."""


def brief(value: Any) -> str:
    """Return a value as an error shows it: a long one by its beginning and length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, a bomb
        return f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


def check_values(value: Any, where: str = "", depth: int = 0) -> None:
    """Refuse what no field can hold, wherever it stands: numbers, texts, tables without end.

    Raises:
        ScenarioError: naming the field, its value and what is allowed.
    """
    if depth > MOST_DEPTH:
        raise ScenarioError(
            f"{where[:60]}... lies {depth} levels deep; tables and lists may go {MOST_DEPTH} deep"
        )
    if isinstance(value, dict):
        for key, item in value.items():
            check_values(item, f"{where}.{key}" if where else str(key), depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            check_values(item, f"{where}[{i}]", depth + 1)
    elif isinstance(value, str):
        if len(value) > MOST_TEXT:
            raise ScenarioError(f"{where} = {brief(value)} is too long: at most {MOST_TEXT}")
    elif isinstance(value, int):
        if not -MOST_WHOLE <= value <= MOST_WHOLE:
            raise ScenarioError(
                f"{where} = {brief(value)} is too large: a whole number may be at most {MOST_WHOLE}"
            )
    elif isinstance(value, float) and 0 < abs(value) < float("inf"):
        if not SMALLEST <= abs(value) <= LARGEST:
            raise ScenarioError(
                f"{where} = {value!r} is out of range: a number is 0, or from {SMALLEST:g} to "
                f"{LARGEST:g} in size"
            )


def check_cluster(pools: Sequence[Pool], plan: FabricPlan) -> None:
    """Refuse clusters of more GPUs or ports than a world can hold.

    Raises:
        ScenarioError: naming the fields, what they make and what is allowed.
    """
    gpus = sum(pool.nodes * max(pool.gpus_per_node, pool.nics_per_node) for pool in pools)
    _check("cluster.pools: nodes x gpus_per_node", gpus, MOST_GPUS, "GPUs or NICs")
    switches = sum(count_leafs(pool, plan) * max(rails_of(pool, plan), 1) for pool in pools)
    _check("cluster.fabric.uplinks", switches * plan.uplinks, MOST_PORTS, "ports of leaf switches")
    _check("cluster.fabric.spines", plan.spines * max(plan.uplinks, switches), MOST_PORTS, "ports")
    spines = plan.spines * (switches if plan.kind == "fat-tree" else 1)
    _check("cluster.fabric.core_uplinks", spines * plan.core_uplinks, MOST_PORTS, "ports of spines")


def _check(field: str, amount: int, most: int, what: str) -> None:
    if amount > most:
        raise ScenarioError(
            f"{field} makes {amount} {what}; a cluster may have at most {most}: lower it"
        )


def check_serving(replicas: Sequence[Replica], workload: Workload) -> None:
    """Refuse replicas and requests whose world would not fit in memory.

    Raises:
        ScenarioError: naming the fields that take most, and how many records are allowed.
    """
    count, (ids, nodes) = len(replicas), workload.room
    slots = max(replica.deployment.max_num_seqs for replica in replicas)
    block = max(replica.deployment.block_size for replica in replicas)
    parts = {
        "workload.num_requests": workload.num_requests,
        "replicas.max_num_seqs": count * slots,
        "replicas.block_size": count * block,
        "workload.num_requests, max_tokens / prefix_block_tokens": ids,
        "workload.num_requests, max_ids_per_request and replicas": nodes * count,
    }
    field, most = max(parts.items(), key=lambda part: part[1])
    if most > MOST_RECORDS:
        raise ScenarioError(
            f"{field}: one world would hold {most} records for this, each of 10 to 100 bytes; at "
            f"most {MOST_RECORDS}: lower it"
        )
