"""Whether the replicas of a service can ever do their work: be there, and reach each other."""

from __future__ import annotations

from ..hardware.cluster import LEVELS, Cluster
from ..rules import Scaler
from .checks import ScenarioError
from .limits import level_gpus
from .services import Service


def check_reach(services: tuple[Service, ...], scaler: Scaler, cluster: Cluster) -> None:
    """Refuse roles that never get a replica, and KV caches that have nowhere to go.

    Raises:
        ScenarioError: naming the deployment, the fields, their values and the remedy.
    """
    for number, service in enumerate(services):
        _check_replicas(service, f"deployments[{number}]", scaler)
        _check_transfers(service, f"deployments[{number}]", cluster)


def _check_replicas(service: Service, where: str, scaler: Scaler) -> None:
    for role in service.roles:
        if role.initial == 0 and scaler.interval_s == 0:
            raise ScenarioError(
                f"{where}: initial = 0 of {role.kind} with scaler.interval_s = 0 leaves it without "
                "replicas for ever: give initial >= 1, or an interval at which replicas are added"
            )


def _check_transfers(service: Service, where: str, cluster: Cluster) -> None:
    """Refuse a domain that never holds a prefill replica and a decode replica at once."""
    sizes = {role.kind: role.gpus for role in service.roles}
    if "decode" not in sizes:
        return
    farthest = service.roles[0].farthest
    room = int(level_gpus(cluster)[service.pool, farthest])
    if sum(sizes.values()) > room:
        raise ScenarioError(
            f"{where}: transfer_required = {LEVELS[farthest]!r} leaves KV transfers no path: a "
            f"prefill replica of {sizes['prefill']} GPUs and a decode replica of {sizes['decode']} "
            f"do not fit in a {LEVELS[farthest]} of its pool, of {room} GPUs; lower tp, or widen it"
        )
