"""Whether running requests can move between the replicas of a scenario, and over which ports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..perf.serving.deployment import Deployment
from ..perf.serving.kv_groups import kv_groups
from ..rules import Migration
from .checks import ScenarioError
from .deployments import Replica
from .handovers import handover_between, ports_bytes_per_s
from .services import Service

CONNECTOR = "nixl"
"""What moves a cache between replicas of one service."""


def check_migration(replicas: tuple[Replica, ...], migration: Migration) -> None:
    """Refuse to move requests where there is nowhere to go, or a cache that does not fit there.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    if migration.interval_s == 0:
        return
    _check_same([replica.deployment for replica in replicas], "replicas", _name(migration))


def with_moves(services: tuple[Service, ...], migration: Migration) -> tuple[Service, ...]:
    """Return services whose replicas send KV caches to each other, if requests may move.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    if migration.interval_s == 0:
        return services
    found = []
    for service in services:
        where = f"{_name(migration)}: deployment {service.name!r}"
        if len(service.roles) > 1:
            raise ScenarioError(
                f"{where} has prefill and decode apart, beside which moves are not modelled: leave "
                "out its roles, or migration.interval_s"
            )
        (role,) = service.roles
        deployment = role.replica.deployment
        _check_same([deployment] * role.most, "replicas", where)
        sends = replace(
            role,
            handover=handover_between(deployment, deployment, CONNECTOR),
            ports_bytes_per_s=ports_bytes_per_s(deployment, CONNECTOR),
        )
        found.append(replace(service, roles=(sends,)))
    return tuple(found)


def _name(migration: Migration) -> str:
    return f"migration.interval_s = {migration.interval_s:g}"


def _check_same(deployments: Iterable[Deployment], table: str, name: str) -> None:
    first, *others = deployments
    if not others:
        raise ScenarioError(f"{name}: one replica has none to move requests to; give two or more")
    for number, deployment in enumerate((first, *others)):
        groups = kv_groups(deployment)
        if groups.window_groups + groups.state_blocks > 0:
            raise ScenarioError(
                f"{name}: the cache of {deployment.model.name} ({table}[{number}]) is not whole "
                "blocks that stay as they are, which alone are modelled; use a model of full "
                "attention, or interval_s = 0"
            )
        for field in ("model", "kv_dtype", "block_size"):
            if getattr(deployment, field) != getattr(first, field):
                raise ScenarioError(
                    f"{name}: {table}[{number}].{field} differs from that of {table}[0], which "
                    "could not read its cache; give all of them the same"
                )
