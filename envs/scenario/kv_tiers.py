"""Whether the KV tiers of a scenario go with its replicas and its workload."""

from __future__ import annotations

from ..perf.serving.kv_groups import kv_groups
from ..rules import KVStore
from ..workload.requests.source import Workload
from .checks import ScenarioError
from .deployments import Replica


def check_tiers(replicas: tuple[Replica, ...], store: KVStore, workload: Workload) -> None:
    """Refuse tiers that could never keep or give anything.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    for replica in replicas:
        where = replica.where
        if replica.host_kv_gb > 0:
            _check_prefixes(replica, workload, f"{where}.host_kv_gb = {replica.host_kv_gb:g}")
        elif replica.kv_write != "through":
            raise ScenarioError(
                f"{where}.kv_write = {replica.kv_write!r} writes to no tier: give host_kv_gb, too"
            )
        if store.capacity_gb > 0:
            name = f"kv_store.capacity_gb = {store.capacity_gb:g}: {where}"
            _check_prefixes(replica, workload, name)
            _check_same(replica, replicas[0], name)


def _check_prefixes(replica: Replica, workload: Workload, name: str) -> None:
    """Refuse a tier for a replica that reuses no prefixes, or whose ranks have caches apart."""
    if not workload.prefix_block_tokens:
        raise ScenarioError(f"{name}: the workload says nothing of prefixes; use one that does")
    if not kv_groups(replica.deployment).reuses_prefix:
        model = replica.deployment.model.name
        raise ScenarioError(f"{name}: {model} reuses no prefix; leave the tier out")
    if replica.deployment.dp > 1:
        raise ScenarioError(
            f"{name}: dp = {replica.deployment.dp} ranks have caches of their own, which tiers do "
            "not tell apart; use dp = 1"
        )


def _check_same(replica: Replica, first: Replica, name: str) -> None:
    """Refuse a store of replicas that cannot read each other's cache."""
    for field in ("model", "kv_dtype", "block_size"):
        if getattr(replica.deployment, field) != getattr(first.deployment, field):
            raise ScenarioError(
                f"{name}.{field} differs from that of {first.where}, whose cache it cannot read; "
                "give all of them the same"
            )
