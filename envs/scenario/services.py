"""Services: the ``[[deployments]]`` tables of a scenario, whose replicas stand on its cluster.

==============================  ====================================================================
field (default)                 what
==============================  ====================================================================
``name``                        of the deployment, its own
``gpu``, ``model``, ``tp``, ...  as of ``[[replicas]]``; the pool with that GPU holds its replicas
``min`` (1)                     replicas that must run together: the base gang
``max`` (``initial``)           replicas at most
``initial`` (``min``)           replicas asked for when an episode begins
``required`` (zone)             widest topology level allowed to a gang of replicas
``preferred`` (node)            level wished for
``priority`` (1)                of its gangs among all, 0 lowest, 1 highest
``storage_gbps`` (5)            GB/s at which a node reads weights
``compile_cache`` (true)        whether nodes hold the compiled model
``startup_s``                   seconds from devices to the first request, instead of the model's
``[deployments.workload]``      the requests for it, as ``[workload]``
==============================  ====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..hardware.catalogue import GPU, Model
from ..hardware.cluster import LEVELS, Cluster
from ..perf import Deployment, capability
from ..perf.serving.startup import startup
from ..workload.requests.source import Workload
from .checks import ScenarioError, check_values, checked_table, refuse_unknown
from .deployments import Replica, read_replica
from .fit import fitted
from .limits import level_gpus
from .requests import read_workload

KINDS = ("aggregated",)
"""What a role does: prefill and decode."""

MOST_REPLICAS = 1024


@dataclass(frozen=True)
class Role:
    """Replicas of one kind.

    Attributes:
        kind: of :data:`KINDS`.
        replica: each of them.
        least: replicas that must run; they are in the base gang.
        most: replicas at most.
        initial: replicas asked for from the start.
        startup_s: seconds from a replica's devices to its first request.
    """

    kind: str
    replica: Replica
    least: int
    most: int
    initial: int
    startup_s: float

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.replica.deployment.gpus

    def prefill_tokens_per_s(self, prompt_tokens: int) -> float:
        """Return the prompt tokens a second of one replica, on prompts of this length alone."""
        return prompt_tokens / capability(self.replica.deployment).prefill_s(prompt_tokens)


@dataclass(frozen=True)
class Service:
    """One deployment on the cluster.

    Attributes:
        name: of the deployment.
        roles: what its replicas do.
        workload: the requests for it.
        pool: where its replicas stand.
        required: widest level allowed to a gang, index into ``hardware.cluster.LEVELS``.
        preferred: level wished for.
        priority: of its gangs.
    """

    name: str
    roles: tuple[Role, ...]
    workload: Workload
    pool: int
    required: int
    preferred: int
    priority: float

    @property
    def base_gpus(self) -> int:
        """GPUs of the base gang, 0 if nothing must run."""
        return sum(role.least * role.gpus for role in self.roles)


@dataclass(frozen=True)
class Slot:
    """Where one replica stands among the gangs of services.

    Attributes:
        service, role: numbered over the whole scenario.
        gang: numbered over all services; a service's base gang comes first.
        rank: of its first GPU in that gang.
        is_base: whether that is a base gang.
        starts: whether it is asked for from the start.
    """

    service: int
    role: int
    gang: int
    rank: int
    is_base: bool
    starts: bool


def slots(services: tuple[Service, ...]) -> tuple[Slot, ...]:
    """Return the place of every replica, in the order of services, roles and replicas.

    In a base gang larger replicas come first, so that none straddles two nodes where sizes divide
    each other.
    """
    found: list[Slot] = []
    role_number = gang = 0
    for number, service in enumerate(services):
        base, rank = gang, {}
        gang += service.base_gpus > 0
        at = 0
        for k, role in sorted(enumerate(service.roles), key=lambda kr: -kr[1].gpus):
            rank[k] = at
            at += role.least * role.gpus
        for k, role in enumerate(service.roles):
            for i in range(role.most):
                is_base = i < role.least
                place = (base, rank[k] + i * role.gpus) if is_base else (gang, 0)
                found.append(Slot(number, role_number, *place, is_base, i < role.initial))
                gang += not is_base
            role_number += 1
    return tuple(found)


@dataclass(frozen=True)
class _Fields:
    """The plain fields of ``[[deployments]]`` besides those of a replica."""

    name: str = ""
    min: int = field(default=1, metadata={"whole": 0})
    max: int = field(default=0, metadata={"whole": 1})
    initial: int = field(default=0, metadata={"whole": 0})
    required: str = field(default="zone", metadata={"choices": LEVELS})
    preferred: str = field(default="node", metadata={"choices": LEVELS})
    priority: float = field(default=1.0, metadata={"within": (0, 1)})
    storage_gbps: float = field(default=5.0, metadata={"above": 0})
    compile_cache: bool = True
    startup_s: float = field(default=0.0, metadata={"range": (0, 86_400)})


def read_services(
    rows: Any, gpus: dict[str, GPU], models: dict[str, Model], folder: Path, cluster: Cluster
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
        service = _read(checked_table(row, where), where, gpus, models, folder, cluster)
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
) -> Service:
    own = {item.name for item in fields(_Fields)}
    of_replica = {item.name for item in fields(Deployment)} | {"kv_blocks"}
    refuse_unknown(row, own | of_replica | {"workload"}, where)
    plain = {key: row[key] for key in row if key in own}
    check_values(_Fields, plain, where)
    given = _Fields(**plain)
    least = given.min
    initial = given.initial if "initial" in row else least
    most = given.max if "max" in row else max(initial, 1)
    if not least <= initial <= most:
        raise ScenarioError(
            f"{where}: min = {least}, initial = {initial}, max = {most} must not fall: give "
            "min <= initial <= max"
        )
    replica = read_replica({k: row[k] for k in row if k in of_replica}, where, gpus, models, folder)
    if "workload" not in row:
        raise ScenarioError(f"{where}.workload is missing; say what is asked of it, as [workload]")
    try:
        workload = read_workload(checked_table(row["workload"], f"{where}.workload"), folder)
        (replica,) = fitted((replica,), workload)
    except (ScenarioError, ArithmeticError) as error:
        raise ScenarioError(f"{where}: {error}") from error
    startup_s = given.startup_s
    if "startup_s" not in row:
        rate = given.storage_gbps
        startup_s = startup(replica.deployment, rate, cached=given.compile_cache).total_s
    service = Service(
        name=given.name,
        roles=(Role("aggregated", replica, least, most, initial, startup_s),),
        workload=workload,
        pool=_pool(replica.deployment.gpu, where, cluster),
        required=LEVELS.index(given.required),
        preferred=min(LEVELS.index(given.preferred), LEVELS.index(given.required)),
        priority=given.priority,
    )
    _check_gangs(service, where, cluster)
    return service


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


def replicas_of(services: tuple[Service, ...]) -> tuple[Replica, ...]:
    """Return every replica that there may be, in the order of :func:`slots`."""
    return tuple(
        role.replica for service in services for role in service.roles for _ in range(role.most)
    )
