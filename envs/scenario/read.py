"""From a scenario file to a :class:`.schema.Scenario`, or to an error that says what to mend."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .. import reward, shipped
from ..hardware import catalogue
from ..hardware.catalogue import GPU, Model
from ..hardware.cluster import Cluster
from ..rules import (
    SLO,
    Faults,
    KVStore,
    Limits,
    Lora,
    Migration,
    Router,
    Scaler,
    SchedulerRules,
)
from ..workload.requests.mixture import Mixture
from ..workload.requests.source import Workload
from . import sizes
from .checks import ScenarioError, check_type, checked_table, refuse_unknown, section
from .clients import read_clients
from .cluster import read_cluster
from .combinations import check_combinations
from .deployments import own_entries, read_replicas
from .encoders import check_encoders, language_only, read_encoders
from .fit import fitted
from .jobs import read_jobs
from .kv_tiers import check_tiers
from .lora import with_places
from .migration import check_migration, with_moves
from .reach import check_reach
from .requests import read_workload
from .schema import Estimates, NetworkRules, ObservationSize, Scenario
from .service_queues import check_queues
from .service_tables import read_services
from .services import replicas_of
from .survival import check_survival


class Table(NamedTuple):
    """A table that a scenario file may have.

    Attributes:
        part: "common" to all scenarios, or the decision of the part that it belongs to.
        kind: the dataclass of a table of plain values; None: it has a reader of its own.
    """

    part: str
    kind: type | None = None


TABLES = {
    "description": Table("common"),
    "gpus": Table("common"),
    "models": Table("common"),
    "replicas": Table("route"),
    "workload": Table("route"),
    "encoders": Table("route"),
    "deployments": Table("scale"),
    "scaler": Table("scale", Scaler),
    "router": Table("route", Router),
    "slo": Table("route", SLO),
    "kv_store": Table("route", KVStore),
    "lora": Table("route", Lora),
    "migration": Table("route", Migration),
    "clients": Table("route"),
    "cluster": Table("place"),
    "jobs": Table("place"),
    "network": Table("place", NetworkRules),
    "scheduler": Table("place", SchedulerRules),
    "faults": Table("place", Faults),
    "estimates": Table("common", Estimates),
    "reward": Table("common"),
    "limits": Table("common", Limits),
    "observation": Table("common", ObservationSize),
}
"""Every table of a scenario file and what else stands at its top level."""

WITHOUT_SERVICES = ("kv_store", "lora", "clients")
"""Those that stand beside no ``[[deployments]]``."""


def load(scenario: str | Path | Scenario) -> Scenario:
    """Return a scenario by name, from a TOML file, or as it is.

    Raises:
        ScenarioError: naming the file, field, value and remedy.
    """
    if isinstance(scenario, Scenario):
        return scenario
    table, path = read_table(scenario)
    with _named(path):
        return from_dict(table, name=path.stem, folder=path.parent)


def read_table(scenario: str | Path) -> tuple[dict[str, Any], Path]:
    """Return the tables of a scenario by name or of a TOML file, and where that file is.

    Raises:
        ScenarioError: naming the file and the remedy.
    """
    if not isinstance(scenario, (str, Path)):
        raise ScenarioError(f"scenario = {scenario!r} must be a name, a path or a Scenario")
    path = Path(scenario)
    if path.suffix != ".toml":
        try:
            path = shipped.path_of(str(scenario))
        except ValueError as error:
            raise ScenarioError(str(error)) from None
    with _named(path):
        return _parsed(path.read_text("utf-8")), path


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have what goes wrong with a scenario file say which one it is."""
    try:
        yield
    except OSError as error:
        problem = f"cannot be opened ({error.strerror}); check the path"
        raise ScenarioError(f"scenario file {path} {problem}") from error
    except UnicodeDecodeError as error:
        raise ScenarioError(
            f"{path}: is not UTF-8 text ({error.reason}); save it as such"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: is not valid TOML: {error}; correct that line") from error
    except ValueError as error:
        raise ScenarioError(f"{path}: {error}") from error


def _parsed(text: str) -> dict[str, Any]:
    """Return the tables of TOML text.

    Raises:
        ScenarioError: it nests without end, or has a number that Python does not read.
        TOMLDecodeError: it is not valid.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        deep = max(text.splitlines(), key=lambda line: line.count("[") + line.count("{"))
        raise ScenarioError(
            f"{deep.strip()[:40]}...: tables and lists may go {sizes.MOST_DEPTH} deep"
        ) from error
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # of a whole number with thousands of digits
        line = max(text.splitlines(), key=lambda line: sum(map(str.isdigit, line)))
        raise ScenarioError(
            f"{line.strip()[:40]}... is too large: a whole number may be at most {sizes.MOST_WHOLE}"
        ) from error


def from_dict(table: dict[str, Any], name: str = "custom", folder: Path | None = None) -> Scenario:
    """Build a scenario from the parsed tables of a scenario file.

    Args:
        table: the tables.
        name: what to call it.
        folder: where relative paths in it start; the working directory by default.

    Raises:
        ScenarioError: naming the field, value and remedy.
        TraceError: naming the trace or job list, line, field, value and remedy.
    """
    sizes.check_values(table)
    decisions = _decisions(table)
    mine = {key: known for key, known in TABLES.items() if known.part in ("common", *decisions)}
    _refuse_outside(table, decisions)
    refuse_unknown(table, mine, "scenario")
    check_type("description", table.get("description", ""), "")
    gpus = own_entries(catalogue.gpu_from, table.get("gpus", {}), "gpus")
    models = own_entries(catalogue.model_from, table.get("models", {}), "models")
    parts: dict[str, Any] = {"description": table.get("description", "")}
    if "route" in decisions:
        parts["encoders"] = read_encoders(table.get("encoders"), gpus)
        if parts["encoders"].count > 0:
            models = language_only(models)
    folder = folder or Path.cwd()
    if "place" in decisions:
        parts |= _placement(table, folder, gpus, models)
    if "scale" in decisions:
        parts |= _services(table, folder, gpus, models, parts["cluster"])
    elif "route" in decisions:
        parts |= _serving(table, folder, gpus, models)
    parts["reward"] = _weights(table, decisions)
    _refuse_terms_of_sessions(parts)
    for key, (_, kind) in mine.items():
        if kind is not None:
            parts[key] = section(kind, table.get(key, {}), key, decisions)
    if "place" in decisions:
        check_survival(parts["faults"], parts["scheduler"], parts["jobs"], parts["cluster"])
    if "scale" in decisions:
        check_queues(parts["services"], parts["jobs"], parts["scheduler"])
        check_reach(parts["services"], parts["scaler"], parts["cluster"])
    if "route" in decisions:
        asked = None if "scale" in decisions else parts["workload"].source
        parts["clients"] = read_clients(table.get("clients"), asked)
        names = ("replicas", "workload", "router", "kv_store", "lora", "clients", "migration")
        check_combinations(*(parts[name] for name in (*names, "encoders")))
        check_encoders(parts["encoders"], parts["replicas"], _asked(parts))
    if "scale" in decisions:
        parts["services"] = with_moves(parts["services"], parts["migration"])
    if "route" in decisions and "scale" not in decisions:  # last of all: it takes time
        parts["replicas"] = with_places(parts["replicas"], parts["lora"])
        check_tiers(parts["replicas"], parts["kv_store"], parts["workload"])
        check_migration(parts["replicas"], parts["migration"])
        try:
            parts["replicas"] = fitted(parts["replicas"], parts["workload"])
        except ArithmeticError as error:
            raise ScenarioError(
                f"replicas: their speed cannot be computed ({error}); give gpus, models and "
                "workload figures of real machines"
            ) from error
    return Scenario(name=name, **parts)


def _decisions(table: dict[str, Any]) -> tuple[str, ...]:
    """Return the decisions that a scenario's tables ask for."""
    if "deployments" in table:
        return ("route", "place", "scale")
    return ("place",) if "cluster" in table else ("route",)


def _refuse_outside(table: dict[str, Any], decisions: Collection[str]) -> None:
    """Refuse what would stand beside services, and services without a place to stand."""
    if "scale" not in decisions:
        return
    if table.get("cluster") is None:
        raise ScenarioError("deployments stand on a cluster: add a [cluster] table and its [jobs]")
    for key in WITHOUT_SERVICES:
        if key in table:
            raise ScenarioError(
                f"{key}: only a scenario with [[replicas]] has one; leave it out beside "
                "[[deployments]]"
            )
    for key in ("replicas", "workload"):
        if key in table:
            raise ScenarioError(
                f"{key}: a scenario with [[deployments]] has none: replicas are those of its "
                "deployments, and each has a workload of its own, [deployments.workload]"
            )


def _services(
    table: dict[str, Any],
    folder: Path,
    gpus: dict[str, GPU],
    models: dict[str, Model],
    cluster: Cluster,
) -> dict[str, Any]:
    """Return the services on the cluster, their replicas and the requests that they serve."""
    slo = section(SLO, table.get("slo", {}), "slo", ("route",))
    services = read_services(table["deployments"], gpus, models, folder, cluster, slo)
    workload = Mixture(
        tuple(service.workload for service in services),
        tuple(service.asked_at_s for service in services),
    )
    return {"services": services, "replicas": replicas_of(services), "workload": workload}


def _asked(parts: dict[str, Any]) -> tuple[Workload, ...]:
    """Return what each replica may be asked."""
    services = parts.get("services", ())
    of_services = [s.workload for s in services for role in s.roles for _ in range(role.most)]
    return tuple(of_services) or (parts["workload"],) * len(parts["replicas"])


def _serving(
    table: dict[str, Any], folder: Path, gpus: dict[str, GPU], models: dict[str, Model]
) -> dict[str, Any]:
    """Return replicas and the requests that they serve."""
    return {
        "replicas": read_replicas(table.get("replicas", []), gpus, models, folder),
        "workload": read_workload(checked_table(table.get("workload", {}), "workload"), folder),
    }


def _placement(
    table: dict[str, Any], folder: Path, gpus: dict[str, GPU], models: dict[str, Model]
) -> dict[str, Any]:
    """Return a cluster and the jobs that run on it."""
    cluster = read_cluster(checked_table(table["cluster"], "cluster"), gpus, folder)
    jobs = checked_table(table.get("jobs", {}), "jobs")
    return {"cluster": cluster, "jobs": read_jobs(jobs, folder, cluster, models)}


def _weights(
    table: dict[str, Any], decisions: Collection[str]
) -> Mapping[str, Mapping[str, float]]:
    """Return the weight of every term by name, for each part.

    Where there are several parts each has a table of its own, ``[reward.route]``: their terms have
    the same names and other units.
    """
    parts = [part for part in decisions if reward.terms(part)]
    if "reward" not in table:
        return {part: reward.weights(part) for part in parts}
    given = checked_table(table["reward"], "reward")
    if len(parts) == 1:
        return {parts[0]: reward.weights(parts[0], _terms(given, parts[0], "reward"))}
    refuse_unknown(given, parts, "reward")
    return {
        part: reward.weights(part, _terms(given.get(part, {}), part, f"reward.{part}"))
        for part in parts
    }


def _refuse_terms_of_sessions(parts: dict[str, Any]) -> None:
    """Refuse rewards for sessions where none answer back."""
    if "route" not in parts["reward"] or parts["workload"].num_sessions > 0:
        return
    given = parts["reward"]["route"]
    for term in reward.OF_SESSIONS:
        if given[term] != 0.0:
            raise ScenarioError(
                f"reward.{term} = {given[term]!r} is about sessions that answer back: set "
                "workload.closed_loop = true, or leave it out"
            )


def _terms(given: Any, part: str, where: str) -> dict[str, float]:
    """Return the weights of a part's terms, checked."""
    table = checked_table(given, where)
    refuse_unknown(table, reward.terms(part), where)
    for term, weight in table.items():
        check_type(f"{where}.{term}", weight, 1.0)
        if not math.isfinite(weight):
            raise ScenarioError(f"{where}.{term} = {weight!r} must be a finite number")
    return table
