"""Tenants and the queues around them, as ``[[jobs.tenants]]`` of a scenario says.

The engine keeps every ``quota``. What a queue deserves beyond or below it, and who has to give back
what it borrowed, is the business of policies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from ..workload.jobs.queues import NO_PARENT, Queue
from .checks import ScenarioError, check_values, checked_table, refuse_unknown


@dataclass(frozen=True)
class Tenant:
    """One tenant, or a queue that only holds others: one that rows name as their parent.

    Attributes:
        name: as in the job list, or free for a generator.
        quota: GPUs it may hold at a time, with all below it; 0: no limit.
        share: of the jobs of a generator, or of a list that names no tenants; 0: none, for a queue
            of deployments alone.
        parent: name of the row of the queue around it; "": none.
        deserved: GPUs it is entitled to; of a queue of queues by default their sum.
        guarantee: those of them that no other queue may borrow.
        weight: its part of the GPUs that nobody claims.
        priority: queues of higher priority divide those first.
    """

    name: str = ""
    quota: int = field(default=0, metadata={"whole": 0})
    share: float = field(default=1.0, metadata={"at_least": 0})
    parent: str = ""
    deserved: int = field(default=0, metadata={"whole": 0})
    guarantee: int = field(default=0, metadata={"whole": 0})
    weight: float = field(default=1.0, metadata={"at_least": 0})
    priority: float = field(default=0.0, metadata={"at_least": 0})


def read_tenants(rows: Any) -> tuple[Tenant, ...]:
    """Return the tenants of a ``[[jobs.tenants]]`` array; there may be none.

    Raises:
        ScenarioError: naming the field, its value and the remedy.
    """
    if not isinstance(rows, list):
        raise ScenarioError(f"jobs.tenants = {rows!r} must be tables: write [[jobs.tenants]]")
    found: list[Tenant] = []
    for i, row in enumerate(rows):
        where = f"jobs.tenants[{i}]"
        refuse_unknown(checked_table(row, where), {item.name for item in fields(Tenant)}, where)
        check_values(Tenant, row, where)
        tenant = Tenant(**row)
        if not tenant.name or tenant.name in {other.name for other in found}:
            raise ScenarioError(f"{where}.name = {tenant.name!r} must be a name of its own")
        found.append(tenant)
    _check_parents(found)
    if found and not any(tenant.share for tenant in owners(found)):
        raise ScenarioError("jobs.tenants: share = 0 of all: somebody must own the jobs")
    for i, row in enumerate(rows):
        if "share" in row and found[i] not in owners(found):
            raise ScenarioError(
                f"jobs.tenants[{i}].share = {row['share']!r} is of no use: {row['name']!r} is the "
                "parent of others and owns no jobs; remove it"
            )
    return tuple(found)


def owners(tenants: Iterable[Tenant]) -> list[Tenant]:
    """Return those that own jobs: no row names them as its parent."""
    parents = {tenant.parent for tenant in tenants}
    return [tenant for tenant in tenants if tenant.name not in parents]


def queues(tenants: tuple[Tenant, ...], names: tuple[str, ...], gpus: int) -> tuple[Queue, ...]:
    """Return the queue of each of the ``names``, in their order, and then those around them.

    A queue's limit is never above those of the queues around it. A name without a row is a queue
    without limit that deserves nothing.

    Args:
        tenants: the rows.
        names: of all that own jobs.
        gpus: of the cluster.

    Raises:
        ScenarioError: an owner without jobs, jobs of a queue of queues, or shares and limits that
            contradict each other.
    """
    rows = {tenant.name: tenant for tenant in tenants}
    _check_owners(tenants, names)
    inner = [tenant.name for tenant in tenants if tenant not in owners(tenants)]
    order = [*names, *inner]
    deserved = {name: _deserved(name, rows) for name in order}
    found = [
        Queue(
            name,
            limit=_limit(name, rows, gpus),
            parent=order.index(row.parent) if row.parent else NO_PARENT,
            deserved=deserved[name],
            guarantee=row.guarantee,
            weight=row.weight,
            priority=row.priority,
        )
        for name, row in ((name, rows.get(name, Tenant(name))) for name in order)
    ]
    for queue in found:
        if not queue.guarantee <= queue.deserved <= queue.limit:
            raise ScenarioError(
                f"jobs.tenants: {queue.name!r} has guarantee = {queue.guarantee}, deserved = "
                f"{queue.deserved} and a limit of {queue.limit} GPUs (its quota, or that of a "
                "queue around it, or the cluster); none may be above the next"
            )
    top = sum(queue.deserved for queue in found if queue.parent == NO_PARENT)
    if top > gpus:
        raise ScenarioError(
            f"jobs.tenants: together they deserve {top} GPUs, but the cluster has {gpus}; lower "
            "deserved, and let weight divide the rest"
        )
    return tuple(found)


def _check_parents(tenants: list[Tenant]) -> None:
    """Refuse parents that are no rows, and circles."""
    parent = {tenant.name: tenant.parent for tenant in tenants}
    for i, tenant in enumerate(tenants):
        seen, name = [tenant.name], tenant.parent
        while name:
            if name not in parent:
                raise ScenarioError(
                    f"jobs.tenants[{i}].parent = {tenant.parent!r} leads to {name!r}, which is no "
                    f"row; use one of {', '.join(parent)}, or add it"
                )
            if name in seen:
                raise ScenarioError(
                    f"jobs.tenants[{i}].parent = {tenant.parent!r} leads back to {name!r}; a queue "
                    "cannot be around itself"
                )
            seen.append(name)
            name = parent[name]


def _check_owners(tenants: tuple[Tenant, ...], names: tuple[str, ...]) -> None:
    own = owners(tenants)
    for i, tenant in enumerate(tenants):
        if tenant in own and tenant.name not in names:
            raise ScenarioError(
                f"jobs.tenants[{i}].name = {tenant.name!r} owns no job; use one of "
                f"{', '.join(names)}"
            )
        if tenant not in own and tenant.name in names:
            raise ScenarioError(
                f"jobs.tenants[{i}].name = {tenant.name!r} owns jobs and is the parent of others; "
                "only a queue without queues below it owns jobs"
            )


def _deserved(name: str, rows: dict[str, Tenant]) -> int:
    """Return what a queue deserves: its own word, or the sum of those below it."""
    below = sum(_deserved(row.name, rows) for row in rows.values() if row.parent == name)
    own = rows[name].deserved if name in rows else 0
    if 0 < own < below:
        raise ScenarioError(
            f"jobs.tenants: the queues below {name!r} deserve {below} GPUs, more than its "
            f"deserved = {own}; raise it, or leave it out for their sum"
        )
    return own or below


def _limit(name: str, rows: dict[str, Tenant], gpus: int) -> int:
    row = rows.get(name, Tenant())
    around = _limit(row.parent, rows, gpus) if row.parent else gpus
    return min(row.quota or gpus, around)
