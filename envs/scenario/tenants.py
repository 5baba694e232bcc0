"""Tenants and their quotas, as ``[[jobs.tenants]]`` of a scenario says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .checks import ScenarioError, check_values, checked_table, refuse_unknown


@dataclass(frozen=True)
class Tenant:
    """One tenant.

    Attributes:
        name: as in the job list, or free for a generator.
        quota: GPUs it may hold at a time; 0: no limit.
        share: of the jobs of a generator, or of a list that names no tenants.
    """

    name: str = ""
    quota: int = 0
    share: float = 1.0


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
        refuse_unknown(checked_table(row, where), {"name", "quota", "share"}, where)
        check_values(Tenant, row, where)
        tenant = Tenant(**row)
        if not tenant.name or tenant.name in {other.name for other in found}:
            raise ScenarioError(f"{where}.name = {tenant.name!r} must be a name of its own")
        if tenant.quota < 0:
            raise ScenarioError(f"{where}.quota = {tenant.quota} must be >= 0; 0: no limit")
        if not tenant.share > 0:
            raise ScenarioError(f"{where}.share = {tenant.share!r} must be above 0")
        found.append(tenant)
    return tuple(found)


def quotas(tenants: tuple[Tenant, ...], names: tuple[str, ...], gpus: int) -> tuple[int, ...]:
    """Return the quota of each of the ``names``; ``gpus``, all there are, where there is none.

    Raises:
        ScenarioError: a tenant has no jobs.
    """
    known = {tenant.name: tenant.quota or gpus for tenant in tenants}
    for i, name in enumerate(known):
        if name not in names:
            raise ScenarioError(
                f"jobs.tenants[{i}].name = {name!r} owns no job; use one of {', '.join(names)}"
            )
    return tuple(min(known.get(name, gpus), gpus) for name in names)
