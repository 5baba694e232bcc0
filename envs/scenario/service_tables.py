"""Services: the ``[[deployments]]`` tables of a scenario, whose replicas stand on its cluster.

==============================  ====================================================================
field (default)                 what
==============================  ====================================================================
``name``                        of the deployment, its own
``gpu``, ``model``, ``tp``, ...  as of ``[[replicas]]``; the pool with that GPU holds its replicas
``min`` (1)                     replicas that must run together: the base gang
``max`` (``initial``)           replicas at most
``initial`` (``min``)           replicas asked for from the start
``asked_at_s`` (0)              seconds into the episode at which it is asked for: its gangs queue
                                then, and its workload begins
``required`` (zone)             widest topology level allowed to a gang of replicas
``preferred`` (node)            level wished for
``priority`` (1)                of its gangs among all, 0 lowest, 1 highest
``preemptibility``              which of its gangs may be preempted for others, with
                                ``scheduler.preemption``: none (``"non-preemptible"``, the default),
                                those beyond the base gang (``"semi-preemptible"``), or all
                                (``"preemptible"``)
``queue``                       tenant (``[[jobs.tenants]]``) in whose queue its gangs are, where
                                they count towards its quota; left out: a queue of deployments
``storage_gbps`` (5)            GB/s at which a node reads weights
``compile_cache`` (true)        whether nodes hold the compiled model
``startup_s``                   seconds from devices to the first request, instead of the model's
``role_change_s`` (0)           seconds from a replica's last request in one role to another role
``termination_delay_s`` (0)     seconds below ``min`` ready replicas after which all of them end and
                                start anew; 0: a base gang that loses a node falls at once
``staleness_grace_s`` (60)      with such a delay, seconds after which a base gang a part of which
                                has no devices loses the others', too; 0: it never does
``local_prefill_tokens`` (0)    prompts of which no more is uncached stay on a decode replica
``transfer_required`` (zone)    widest topology level that holds both ends of a KV transfer
``transfer_preferred`` (zone)   level that should; routers see whether it does
``transfer_blocks`` (all)       what moves: all, or the blocks that the decode replica is lacking
``transfer_overlap`` (none)     none: KV moves after its prompt; layers: layer by layer beside it
``handover`` (stock)            software around a KV transfer: stock, or seeded
``connector`` (nixl)            what moves the KV cache: nixl, or mooncake
``[[deployments.roles]]``       ``kind`` prefill and decode, one table each, with ``min``, ``max``,
                                ``initial``, ``startup_s`` and fields of a replica that differ;
                                ``starts_after``: the role whose ``min`` replicas must serve before
                                one of this role loads; none: aggregated replicas, which do both
``[deployments.workload]``      the requests for it, as ``[workload]``
``[deployments.slo]``           ``ttft_s`` and ``tpot_s``; where one is left out that of ``[slo]``
==============================  ====================================================================

A base gang holds the ``min`` replicas of every role, all or none of which start.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..hardware.catalogue import GPU, Model
from ..hardware.cluster import LEVELS, Cluster, Pool
from ..perf import Deployment
from ..perf.serving.kv_transfer import CONNECTORS, HANDOVERS, handover_s
from ..perf.serving.scheduling import changed
from ..perf.serving.startup import startup
from ..rules import SLO
from ..workload.requests.source import Workload
from .checks import ScenarioError, check_values, checked_table, refuse_unknown, section
from .closed_loop import refuse_in_service
from .deployments import read_replica
from .fit import fitted
from .handovers import handover_between, ports_bytes_per_s
from .limits import level_gpus
from .requests import read_workload
from .services import KINDS, NON_PREEMPTIBLE, PREEMPTIBILITIES, Role, Service

MOST_REPLICAS = 1024
MOST_DELAY_S = 30 * 86_400.0
MOST_STARTUP_S = 86_400.0


@dataclass(frozen=True)
class _Fields:
    """The plain fields of ``[[deployments]]`` besides those of a replica."""

    name: str = ""
    min: int = field(default=1, metadata={"whole": 0})
    max: int = field(default=0, metadata={"whole": 1})
    initial: int = field(default=0, metadata={"whole": 0})
    asked_at_s: float = field(default=0.0, metadata={"range": (0, MOST_DELAY_S)})
    required: str = field(default="zone", metadata={"choices": LEVELS})
    preferred: str = field(default="node", metadata={"choices": LEVELS})
    priority: float = field(default=1.0, metadata={"within": (0, 1)})
    preemptibility: str = field(default=NON_PREEMPTIBLE, metadata={"choices": PREEMPTIBILITIES})
    queue: str = ""
    storage_gbps: float = field(default=5.0, metadata={"above": 0})
    compile_cache: bool = True
    startup_s: float = field(default=0.0, metadata={"range": (0, MOST_STARTUP_S)})
    role_change_s: float = field(default=0.0, metadata={"range": (0, 86_400)})
    termination_delay_s: float = field(default=0.0, metadata={"range": (0, MOST_DELAY_S)})
    staleness_grace_s: float = field(default=60.0, metadata={"range": (0, MOST_DELAY_S)})
    starts_after: str = ""
    local_prefill_tokens: int = field(default=0, metadata={"whole": 0})
    transfer_required: str = field(default="zone", metadata={"choices": LEVELS})
    transfer_preferred: str = field(default="zone", metadata={"choices": LEVELS})
    transfer_blocks: str = field(default="all", metadata={"choices": ("all", "lacking")})
    transfer_overlap: str = field(default="none", metadata={"choices": ("none", "layers")})
    handover: str = field(default="stock", metadata={"choices": HANDOVERS})
    connector: str = field(default="nixl", metadata={"choices": CONNECTORS})


OF_ROLE = {"min", "max", "initial", "startup_s", "starts_after"}
"""Plain fields that each role may have of its own."""


def read_services(
    rows: Any,
    gpus: dict[str, GPU],
    models: dict[str, Model],
    folder: Path,
    cluster: Cluster,
    slo: SLO,
) -> tuple[Service, ...]:
    """Build the services of the ``[[deployments]]`` tables.

    Raises:
        ScenarioError: naming the field, value and remedy.
        TraceError: naming the trace file, line, field, value and remedy.
    """
    if not isinstance(rows, list) or not rows:
        raise ScenarioError(f"deployments = {rows!r} must be tables: write [[deployments]]")
    found: list[Service] = []
    for number, row in enumerate(rows):
        where = f"deployments[{number}]"
        service = _read(checked_table(row, where), where, gpus, models, folder, cluster, slo)
        if not service.name or service.name in {other.name for other in found}:
            raise ScenarioError(f"{where}.name = {service.name!r} must be a name of its own")
        found.append(service)
    _check_size(found)
    return tuple(found)


def _read(
    row: dict[str, Any],
    where: str,
    gpus: dict[str, GPU],
    models: dict[str, Model],
    folder: Path,
    cluster: Cluster,
    slo: SLO,
) -> Service:
    own = {item.name for item in fields(_Fields)}
    refuse_unknown(row, own | OF_REPLICA | {"workload", "roles", "slo"}, where)
    given = _plain(row, own, where)
    if "workload" not in row:
        raise ScenarioError(f"{where}.workload is missing; say what is asked of it, as [workload]")
    try:
        workload = read_workload(checked_table(row["workload"], f"{where}.workload"), folder)
        if getattr(workload.source, "deadline_s", None) is not None:
            raise ScenarioError(
                f"{where}.workload.trace has a column deadline_s, which only requests of "
                "[[replicas]] may have: leave the column out, or set router.deadline_s"
            )
        refuse_in_service(workload)
        roles = _read_roles(row, where, gpus, models, folder, workload)
        pool = _pool(roles[0].replica.deployment.gpu, where, cluster)
        roles = tuple(_standing_in(cluster.pools[pool], role, workload) for role in roles)
        roles = _with_handover(roles, given)
    except (ScenarioError, ArithmeticError, ValueError) as error:
        said = str(error)
        raise ScenarioError(said if said.startswith(where) else f"{where}: {said}") from error
    service = Service(
        name=given.name,
        roles=roles,
        workload=workload,
        pool=pool,
        required=LEVELS.index(given.required),
        preferred=min(LEVELS.index(given.preferred), LEVELS.index(given.required)),
        priority=given.priority,
        role_change_s=given.role_change_s,
        termination_delay_s=given.termination_delay_s,
        staleness_grace_s=given.staleness_grace_s,
        asked_at_s=given.asked_at_s,
        slo=_own_slo(row, where, slo),
        preemptibility=given.preemptibility,
        queue=given.queue,
    )
    _check_gangs(service, where, cluster)
    return service


ALLOWED_APART = ("prefix_caching", "long_prefill_token_threshold")
"""Ways to schedule that replicas of prefill and decode may have; others need aggregated ones."""

OF_REPLICA = {item.name for item in fields(Deployment)} - {"node_gpus"} | {"kv_blocks"}


def _own_slo(row: dict[str, Any], where: str, slo: SLO) -> SLO | None:
    """Return a deployment's own objectives, the scenario's where it leaves one out."""
    if "slo" not in row:
        return None
    own = checked_table(row["slo"], f"{where}.slo")
    return section(SLO, {**vars(slo), **own}, f"{where}.slo", ("route",))


def _plain(row: dict[str, Any], known: set[str], where: str) -> _Fields:
    """Return the plain fields of a table, checked."""
    plain = {key: row[key] for key in row if key in known}
    check_values(_Fields, plain, where)
    return _Fields(**plain)


def _read_roles(
    row: dict[str, Any],
    where: str,
    gpus: dict[str, GPU],
    models: dict[str, Model],
    folder: Path,
    workload: Workload,
) -> tuple[Role, ...]:
    """Build the roles of a deployment: one of aggregated replicas, or those it says."""
    common = {key: value for key, value in row.items() if key not in ("roles", "workload", "slo")}
    if "roles" not in row:
        role = _read_role(common, "aggregated", where, gpus, models, folder, workload)
        _check_order((role,), where)
        return (role,)
    tables = row["roles"]
    if not isinstance(tables, list):
        raise ScenarioError(f"{where}.roles = {tables!r} must be tables: [[deployments.roles]]")
    found: list[Role] = []
    for number, table in enumerate(tables):
        here = f"{where}.roles[{number}]"
        refuse_unknown(checked_table(table, here), OF_ROLE | OF_REPLICA | {"kind"}, here)
        kind = table.get("kind")
        if kind not in KINDS[1:] or kind in {role.kind for role in found}:
            raise ScenarioError(f"{here}.kind = {kind!r} must be prefill and decode, once each")
        merged = common | {key: value for key, value in table.items() if key != "kind"}
        found.append(_read_role(merged, kind, here, gpus, models, folder, workload))
    if {role.kind for role in found} != set(KINDS[1:]):
        raise ScenarioError(f"{where}.roles must be prefill and decode, one table each")
    if len({role.replica.deployment.gpu.name for role in found}) > 1:
        raise ScenarioError(f"{where}.roles must be on one gpu: they share a pool of the cluster")
    _check_order(tuple(found), where)
    return tuple(found)


def _check_order(roles: tuple[Role, ...], where: str) -> None:
    """Refuse a start order that names no other role, or in which nobody comes first."""
    kinds = {role.kind for role in roles}
    for role in roles:
        others = sorted(kinds - {role.kind})
        if role.starts_after and role.starts_after not in others:
            allowed = " or ".join(map(repr, others)) or "left out: there is no other role"
            raise ScenarioError(
                f"{where}: starts_after = {role.starts_after!r} of {role.kind} must be {allowed}"
            )
    if all(role.starts_after for role in roles):
        raise ScenarioError(f"{where}: starts_after: each role waits for another; let one be first")


def _read_role(
    row: dict[str, Any],
    kind: str,
    where: str,
    gpus: dict[str, GPU],
    models: dict[str, Model],
    folder: Path,
    workload: Workload,
) -> Role:
    """Build one role from the fields of its deployment and its own."""
    given = _plain(row, {item.name for item in fields(_Fields)}, where)
    initial = given.initial if "initial" in row else given.min
    most = given.max if "max" in row else max(initial, 1)
    if not given.min <= initial <= most:
        raise ScenarioError(
            f"{where}: min = {given.min}, initial = {initial}, max = {most} must not fall: give "
            "min <= initial <= max"
        )
    settings = {key: row[key] for key in row if key in OF_REPLICA}
    replica = read_replica(settings, where, gpus, models, folder)
    if replica.deployment.dp_ranks:
        raise ScenarioError(
            f"{where}.dp_ranks = {replica.deployment.dp_ranks!r}: only [[replicas]] have ranks of "
            "their own; leave it out"
        )
    (replica,) = fitted((replica,), workload)
    startup_s = given.startup_s
    if "startup_s" not in row:
        rate = given.storage_gbps
        startup_s = startup(replica.deployment, rate, cached=given.compile_cache).total_s
        if startup_s > MOST_STARTUP_S:
            raise ScenarioError(
                f"{where}.storage_gbps = {rate:g} lets a replica start after {startup_s:.3g} s; "
                f"raise it, or give startup_s, at most {MOST_STARTUP_S:g}"
            )
    return Role(kind, replica, given.min, most, initial, startup_s, starts_after=given.starts_after)


def _with_handover(roles: tuple[Role, ...], given: _Fields) -> tuple[Role, ...]:
    """Return the roles with what it takes to hand a request over from one to the other."""
    by_kind = {role.kind: role for role in roles}
    if "decode" not in by_kind:
        return roles
    farthest, nearest = map(LEVELS.index, (given.transfer_required, given.transfer_preferred))
    if farthest < nearest < len(LEVELS) - 1:
        raise ScenarioError(
            f"transfer_preferred = {given.transfer_preferred!r} must not be wider than "
            f"transfer_required = {given.transfer_required!r}"
        )
    prefill, decode = (by_kind[kind].replica.deployment for kind in ("prefill", "decode"))
    for kind, deployment in (("prefill", prefill), ("decode", decode)):
        for name in changed(deployment, allowed=ALLOWED_APART):
            value = getattr(deployment, name)
            raise ScenarioError(f"{name} = {value!r} of {kind} needs aggregated replicas")
    handover = handover_between(
        prefill,
        decode,
        given.connector,
        software_s=handover_s(given.handover),
        local_tokens=given.local_prefill_tokens,
        lacking=given.transfer_blocks == "lacking",
    )
    return tuple(
        replace(
            role,
            handover=handover if role.kind == "decode" else None,
            ports_bytes_per_s=ports_bytes_per_s(role.replica.deployment, given.connector),
            farthest=farthest,
            nearest=nearest,
            layers=decode.model.layers if given.transfer_overlap == "layers" else 0,
        )
        for role in roles
    )


def _standing_in(pool: Pool, role: Role, workload: Workload) -> Role:
    """Return a role whose replicas have the nodes and NICs of a pool."""
    (replica,) = fitted((role.replica.on(pool),), workload)
    return replace(role, replica=replica)


def _pool(gpu: GPU, where: str, cluster: Cluster) -> int:
    """Return the pool of the cluster that has a GPU."""
    for number, pool in enumerate(cluster.pools):
        if pool.gpu.name == gpu.name:
            return number
    known = ", ".join(pool.gpu.name for pool in cluster.pools)
    raise ScenarioError(f"{where}.gpu = {gpu.name!r} is in no pool of the cluster; it has {known}")


def _check_gangs(service: Service, where: str, cluster: Cluster) -> None:
    """Refuse gangs of replicas that no plan could ever place."""
    per_node = cluster.pools[service.pool].gpus_per_node
    room = int(level_gpus(cluster)[service.pool, service.required])
    largest = max(role.gpus for role in service.roles)
    for what, gpus in (("base gang", service.base_gpus), ("replica", largest)):
        if gpus > room:
            raise ScenarioError(
                f"{where}: a {what} of {gpus} GPUs never fits: a {LEVELS[service.required]} of its "
                f"pool has at most {room}; lower min or tp, or widen required"
            )
    for role in service.roles:
        gpus = role.replica.deployment.gpus
        small, large = sorted((gpus, per_node))
        if service.base_gpus > per_node and large % small:
            raise ScenarioError(
                f"{where}: replicas of {gpus} GPUs would straddle nodes of {per_node}; choose tp "
                f"and dp so that one divides the other"
            )


def _check_size(services: list[Service]) -> None:
    """Refuse more replicas than a decision can have candidates."""
    count = sum(role.most for service in services for role in service.roles)
    if count > MOST_REPLICAS:
        raise ScenarioError(
            f"deployments: {count} replicas at most are {count - MOST_REPLICAS} too many: lower max"
        )
