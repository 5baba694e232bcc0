"""Options of a scenario that nobody has modelled together, although each stands alone."""

from __future__ import annotations

from collections.abc import Iterator

from ..perf.serving.deployment import Deployment
from ..perf.serving.scheduling import changed
from ..rules import KVStore, Lora, Migration, Router
from ..workload.requests.mixture import Mixture
from ..workload.requests.source import Workload
from .checks import ScenarioError
from .clients import Clients
from .deployments import Replica
from .encoders import Encoders


def check_combinations(
    replicas: tuple[Replica, ...],
    workload: Workload | Mixture,
    router: Router,
    store: KVStore,
    lora: Lora,
    clients: Clients,
    migration: Migration,
    encoders: Encoders,
) -> None:
    """Refuse tiers, adapters, ends unserved and moves beside what does not know of them.

    And an order of the queue by clients where there are none.

    Raises:
        ScenarioError: naming both fields, their values and the remedy.
    """
    deadlines = [*_of_deadlines(router, workload, clients)]
    rules = [*_of_the_world(store, lora), *deadlines]
    refuses = ["router.may_reject = true"] * router.may_reject
    refuses += [
        f"clients.over_rate = 'reject' of {group.name!r}"
        for group in clients.classes
        if group.over_rate == "reject"
    ]
    if migration.interval_s > 0:
        others = rules + ["[[clients]]"] * bool(clients.classes)
        others += ["workload.images"] * any(p.images is not None for p in _parts(workload))
        rules = [_moves_alone(migration, replicas, others)]
        _check_sessions(workload, "workload.closed_loop", rules)
    _check_steps(replicas, workload)
    if isinstance(workload, Mixture):
        _check_sessions(workload, "workload.closed_loop", deadlines + refuses)
    elif workload.num_steps > 1:
        steps = f"workload.steps.count = {workload.num_steps}"
        _check_sessions(workload, steps, deadlines + refuses)
    _check_encoders(encoders, replicas, store, lora)
    for replica in replicas:
        if replica.deployment.scheduling_policy == "vtc" and not clients.classes:
            raise ScenarioError(
                f"{replica.where}.scheduling_policy = 'vtc' serves clients evenly, and there "
                "are none: add [[clients]], or give another"
            )
        own = _host(replica)
        has_tiers = bool(own) or store.capacity_gb > 0
        for name in own + rules:
            for other in _other_ways(replica.deployment, has_tiers):
                raise ScenarioError(
                    f"{name} is modelled for the engine's own way to serve only: leave out "
                    f"{other} of {replica.deployment.model.name}, or {_field(name)}"
                )


def _check_sessions(workload: Workload | Mixture, beside: str, names: list[str]) -> None:
    """Refuse options beside sessions that answer back, or beside steps of them."""
    for name in names:
        if workload.num_sessions > 0:
            raise ScenarioError(
                f"{name} is not modelled for sessions that answer back: leave out {beside}, "
                f"or {_field(name)}"
            )


def _check_steps(replicas: tuple[Replica, ...], workload: Workload | Mixture) -> None:
    """Refuse new weights where nobody has modelled how a replica's step is broken off."""
    if workload.num_steps == 1:
        return
    for replica in replicas:
        d = replica.deployment
        other = f"batching = {d.batching!r}" if d.batching != "continuous" else ""
        other = f"dp_ranks = {d.dp_ranks!r}" if d.dp_ranks else other
        if other:
            raise ScenarioError(
                f"{replica.where}.{other} is not modelled beside workload.steps.count = "
                f"{workload.num_steps}: leave out one of them"
            )


def _check_encoders(
    encoders: Encoders, replicas: tuple[Replica, ...], store: KVStore, lora: Lora
) -> None:
    """Refuse encode replicas where requests of a queue may go before those that came earlier."""
    if encoders.count == 0:
        return
    hosts = [host for replica in replicas for host in _host(replica)]
    for other in [*_of_the_world(store, lora), *hosts]:
        raise ScenarioError(
            f"encoders.count = {encoders.count} is not modelled beside {other}: leave out the one "
            "or the other"
        )


def _of_the_world(store: KVStore, lora: Lora) -> Iterator[str]:
    """Give the options of all replicas that change how a queue is served."""
    if store.capacity_gb > 0:
        yield f"kv_store.capacity_gb = {store.capacity_gb:g}"
    if lora.adapters > 0:
        yield f"lora.adapters = {lora.adapters}"


def _moves_alone(migration: Migration, replicas: tuple[Replica, ...], rules: list[str]) -> str:
    """Return the option by which requests move, if no other changes how a queue is served."""
    name = f"migration.interval_s = {migration.interval_s:g}"
    hosts = [host for replica in replicas for host in _host(replica)]
    if rules + hosts:
        other = (rules + hosts)[0]
        raise ScenarioError(
            f"{name} is not modelled beside {other}: leave out the one or the other"
        )
    return name


def _host(replica: Replica) -> list[str]:
    """Return the option by which a replica has a host tier, if it has one."""
    return [f"{replica.where}.host_kv_gb = {replica.host_kv_gb:g}"] * (replica.host_kv_gb > 0)


def _parts(workload: Workload | Mixture) -> tuple[Workload, ...]:
    """Return the workloads of all services, or the one there is."""
    return workload.parts if isinstance(workload, Mixture) else (workload,)


def _of_deadlines(router: Router, workload: Workload | Mixture, clients: Clients) -> Iterator[str]:
    """Give where deadlines come from."""
    if router.deadline_s > 0:
        yield f"router.deadline_s = {router.deadline_s:g}"
    for group in clients.classes:
        if group.deadline_s > 0:
            yield f"clients.deadline_s = {group.deadline_s:g} of {group.name!r}"
    for part in _parts(workload):
        if getattr(part.source, "deadline_s", None) is not None:
            yield "workload.trace with a column deadline_s"


def _other_ways(d: Deployment, has_tiers: bool) -> Iterator[str]:
    """Give the fields by which a replica does not serve in the engine's own way."""
    for name in changed(d, allowed=() if has_tiers else ("prefix_caching",)):
        yield f"{name} = {getattr(d, name)!r}"
    if d.speculation is not None:
        yield "speculation"
    if d.dp_ranks:
        yield f"dp_ranks = {d.dp_ranks!r}"


def _field(name: str) -> str:
    return name.split(" = ")[0]
