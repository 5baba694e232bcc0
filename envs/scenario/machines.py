"""The machines of a scenario, and the scenario with what a search chose for them.

A ``[[replicas]]`` table is a machine with all the GPUs of its replicas; more than eight are several
machines of eight.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..hardware import catalogue
from ..perf import Deployment
from ..perf.serving.deploy import DEGREES, Chosen, Demand, Machine
from ..rules import SLO
from ..workload.requests.source import Workload
from .checks import ScenarioError, checked_table, section
from .deployments import MOST_REPLICAS, own_entries, read_deployment
from .fit import longest_request
from .read import read_table
from .requests import read_workload
from .sizes import check_values

Row = dict[str, Any]
"""A ``[[replicas]]`` table."""

MOST_GPUS = DEGREES[-1]
_ENTRY = re.compile(r"(?:([1-9]\d*)\*)?([1-9]\d*)x(\S+)")


def listed(machines: str, settings: Row) -> list[Row]:
    """Return one row per machine of a list such as ``8xH100-SXM,4*2xL4``: four machines of two L4.

    Args:
        machines: the list.
        settings: what else each row says: the model, perhaps formats.

    Raises:
        ScenarioError: an entry that is none.
    """
    rows: list[Row] = []
    for entry in machines.split(","):
        found = _ENTRY.fullmatch(entry.strip())
        if not found:
            raise ScenarioError(
                f"machines: {entry.strip()!r} is no entry; write GPUS x GPU, as in 8xH100-SXM, "
                "with COUNT* in front for several machines of a kind, as in 4*2xL4"
            )
        row = {"gpu": found[3], **settings, "count": int(found[2])}
        alike = int(found[1] or 1)
        _check_count("machines", alike)
        rows += [dict(row) for _ in range(alike)]
    return rows


@dataclass(frozen=True)
class Fleet:
    """Machines and what they have to serve.

    Attributes:
        table: of the scenario, with the machines' replicas.
        folder: where its relative paths start.
        machines: each with the row that it is from.
        workload: what they serve.
        slo: within which objectives.
    """

    table: Row
    folder: Path
    machines: tuple[tuple[Row, Machine], ...]
    workload: Workload
    slo: SLO

    def demand(self, within_slo: bool = False) -> Demand:
        """Return what the workload asks of every instance, with the objectives or without."""
        asked = Demand(*self.workload.mean_lengths(), longest_request(self.workload))
        if not within_slo:
            return asked
        return replace(asked, ttft_s=self.slo.ttft_s, tpot_s=self.slo.tpot_s)

    def redeployed(self, chosen: Chosen) -> Row:
        """Return the scenario's tables with these configurations as replicas, in order of machines.

        Paths become absolute, so that the tables can be saved anywhere.

        Raises:
            ScenarioError: all machines stay idle.
        """
        replicas: list[Row] = []
        for (row, _), configuration in zip(self.machines, chosen, strict=True):
            if configuration is None:
                continue
            kept: Row = {"count": configuration.instances, "tp": configuration.deployment.tp}
            if configuration.deployment.ep > 1:
                kept["ep"] = configuration.deployment.ep
            kept |= {k: v for k, v in row.items() if k not in ("count", "tp", "ep")}
            if row["model"].endswith(".json"):
                kept["model"] = str((self.folder / row["model"]).resolve())
            if replicas and replicas[-1] | {"count": 0} == kept | {"count": 0}:
                replicas[-1]["count"] += configuration.instances
            else:
                replicas.append(kept)
        if not replicas:
            raise ScenarioError("no machine can serve this; see why for each degree")
        table = {**self.table, "replicas": replicas}
        if "trace" in table.get("workload", {}):
            trace = (self.folder / table["workload"]["trace"]).resolve()
            table["workload"] = {**table["workload"], "trace": str(trace)}
        return table


def read(scenario: str | Path, machines: str = "", **settings: str) -> Fleet:
    """Return the machines of a scenario, by its name or file.

    Args:
        scenario: whose workload and objectives are used.
        machines: a list that replaces the scenario's, see :func:`listed`.
        settings: fields of all machines that replace the scenario's, such as the model.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    table, path = read_table(scenario)
    return fleet(table, path.parent, machines, **settings)


def fleet(table: Row, folder: Path, machines: str = "", **settings: str) -> Fleet:
    """Return the machines of a scenario's tables; see :func:`read`.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    check_values(table)
    rows = table.get("replicas")
    if not isinstance(rows, list) or not rows:
        raise ScenarioError("replicas: nobody serves requests here; choose another scenario")
    if machines:
        first = checked_table(rows[0], "replicas[0]")
        rows = listed(machines, {k: first[k] for k in ("model", "dtype") if k in first})
    rows = [checked_table(row, f"replicas[{i}]") | settings for i, row in enumerate(rows)]
    gpus = own_entries(catalogue.gpu_from, table.get("gpus", {}), "gpus")
    models = own_entries(catalogue.model_from, table.get("models", {}), "models")
    found: list[tuple[Row, Machine]] = []
    for number, row in enumerate(rows):
        where = f"replicas[{number}]"
        if "kv_blocks" in row:
            raise ScenarioError(f"{where}.kv_blocks is of one configuration only; leave it out")
        deployment = read_deployment(row, where, gpus, models, folder)
        _check_count(f"{where}.count", row.get("count", 1))
        try:
            found += [(row, Machine(deployment, n)) for n in _sizes(row, deployment)]
        except ValueError as error:
            raise ScenarioError(f"{where}: {error}") from error
    workload = read_workload(checked_table(table.get("workload", {}), "workload"), folder)
    slo = section(SLO, table.get("slo", {}), "slo")
    return Fleet({**table, "replicas": rows}, folder, tuple(found), workload, slo)


def _check_count(where: str, count: int) -> None:
    if count > MOST_REPLICAS:
        raise ScenarioError(f"{where} = {count} must be at most {MOST_REPLICAS}")


def _sizes(row: Row, deployment: Deployment) -> list[int]:
    """Return the GPUs of each machine of a row: eight, and what is left."""
    whole, rest = divmod(row.get("count", 1) * deployment.gpus, MOST_GPUS)
    return [MOST_GPUS] * whole + [rest] * (rest > 0)
