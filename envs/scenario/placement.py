"""Scenarios in which gangs are placed on a cluster.

A scenario file with a `[cluster]` table is one of these:

| Table            | Field (default)                                                              |
|------------------|------------------------------------------------------------------------------|
| top level        | `description`                                                                |
| `[cluster]`      | see :mod:`.hardware.read_cluster`                                            |
| `[jobs]`         | see :mod:`.workload.jobs.source`                                             |
| `[network]`      | :class:`NetworkRules`: `fidelity` (fluid), `routing` (ecmp), `queue_pairs` |
| `[scheduler]`    | :class:`SchedulerRules`: `window` (8), `preemption` (false), ...             |
| `[faults]`       | :class:`Faults`: none by default                                             |
| `[estimates]`    | `duration`: noisy, mean or oracle (noisy), `sigma` (0.5)                     |
| `[reward]`       | weights of :data:`gpuyard.envs.reward.PLACEMENT_TERMS` (in_system 1)         |
| `[observation]`  | `aggregate` (false): devices and links per leaf instead of each one          |
| `[gpus.NAME]`    | a GPU of your own: columns of `hardware/gpus.csv`                            |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.network.names import FIDELITIES, ROUTINGS
from ..hardware import catalogue
from ..hardware.cluster import Cluster
from ..observation import Layout
from ..reward import PLACEMENT_TERMS
from ..workload.jobs.source import JobWorkload
from ..workload.jobs.stream import JobStream
from .checks import ScenarioError, check_type, checked_table, refuse_unknown, section, weights
from .cluster import read_cluster
from .deployments import own_entries
from .jobs import read_jobs


@dataclass(frozen=True)
class NetworkRules:
    """How jobs share links, and how their flows find a path.

    Attributes:
        fidelity: "fluid" (long-run shares), "flow" (phase by phase, exact), "occupancy" (the rule
            of the vClos simulator) or "none" (no contention: a bound).
        routing: "ecmp" (hashing), "balanced" (least used uplink first) or "source" (by GPU).
        queue_pairs: parts of a flow that are hashed on their own.
    """

    fidelity: str = "fluid"
    routing: str = "ecmp"
    queue_pairs: int = 4


@dataclass(frozen=True)
class SchedulerRules:
    """What the scheduler may choose from, and what preemption costs.

    Attributes:
        window: oldest pending gangs that can be chosen.
        preemption: whether running gangs can be stopped, to go on later.
        running_rows: with preemption, how many of the latest starts can be chosen for it.
        preempt_s: seconds of work that each preemption costs a gang.
        checkpoint_s: a gang whose node fails loses its work since the last multiple of this.
    """

    window: int = 8
    preemption: bool = False
    running_rows: int = 8
    preempt_s: float = 60.0
    checkpoint_s: float = 1800.0


@dataclass(frozen=True)
class Faults:
    """Failures of nodes, and slow nodes.

    Attributes:
        node_mtbf_h: mean hours between failures of one node; 0: never.
        repair_h: mean hours until it is back.
        straggler_share: share of nodes that are slow.
        straggler_speed: their speed, others have 1.
    """

    node_mtbf_h: float = 0.0
    repair_h: float = 4.0
    straggler_share: float = 0.0
    straggler_speed: float = 0.8


@dataclass(frozen=True)
class DurationEstimates:
    """What is believed of run times: "noisy" (log-normal factor), "mean" or "oracle"."""

    duration: str = "noisy"
    sigma: float = 0.5


@dataclass(frozen=True)
class Detail:
    """How much detail is observed."""

    aggregate: bool = False


@dataclass(frozen=True)
class PlacementScenario:
    """Everything that defines a placement world. See the module's table."""

    name: str
    description: str
    cluster: Cluster
    jobs: JobWorkload
    network: NetworkRules = field(default_factory=NetworkRules)
    scheduler: SchedulerRules = field(default_factory=SchedulerRules)
    faults: Faults = field(default_factory=Faults)
    estimates: DurationEstimates = field(default_factory=DurationEstimates)
    reward: tuple[float, ...] = (0.0, 1.0) + (0.0,) * (len(PLACEMENT_TERMS) - 2)
    observation: Detail = field(default_factory=Detail)

    @property
    def decisions(self) -> frozenset[str]:
        """Kinds of decisions that its parts ask for."""
        return frozenset({"place"})

    @property
    def layout(self) -> Layout:
        """Where each column of its observations stands."""
        return Layout(self.decisions)

    def estimate(self, rng: np.random.Generator, jobs: JobStream) -> NDArray[np.float64]:
        """Return what is believed of the run times, seconds (J,)."""
        kind = self.estimates.duration
        if kind == "oracle":
            return jobs.duration_s
        if kind == "mean":
            return np.full(len(jobs), jobs.duration_s.mean())
        return jobs.duration_s * np.exp(self.estimates.sigma * rng.standard_normal(len(jobs)))

    def with_trace(self, path: str | Path, format: str = "auto") -> PlacementScenario:
        """Return this scenario fed by a job list, in windows of the same length."""
        table = {"trace": str(path), "format": format, "num_jobs": self.jobs.num_jobs}
        return replace(self, jobs=read_jobs(table, Path.cwd(), self.cluster))


def placement_from_dict(
    table: dict[str, Any], name: str = "custom", folder: Path | None = None
) -> PlacementScenario:
    """Build a placement scenario from the parsed tables of a scenario file.

    Raises:
        ScenarioError: naming the field, value and remedy.
        TraceError: naming the job list, line, field, value and remedy.
    """
    sections: dict[str, type] = {"network": NetworkRules, "scheduler": SchedulerRules}
    sections |= {"faults": Faults, "estimates": DurationEstimates, "observation": Detail}
    known = {"description", "cluster", "jobs", "reward", "gpus"}
    refuse_unknown(table, known | set(sections), "scenario")
    check_type("description", table.get("description", ""), "")
    gpus = own_entries(catalogue.gpu_from, table.get("gpus", {}), "gpus")
    cluster = read_cluster(checked_table(table["cluster"], "cluster"), gpus)
    scenario = PlacementScenario(
        name=name,
        description=table.get("description", ""),
        cluster=cluster,
        jobs=read_jobs(checked_table(table.get("jobs", {}), "jobs"), folder or Path.cwd(), cluster),
        reward=weights(table.get("reward", {"in_system": 1.0}), PLACEMENT_TERMS, "reward"),
        **{key: section(kind, table.get(key, {}), key) for key, kind in sections.items()},
    )
    _check_values(scenario)
    return scenario


def _check_values(scenario: PlacementScenario) -> None:
    network, scheduler = scenario.network, scenario.scheduler
    faults, estimates = scenario.faults, scenario.estimates
    choices = {
        "network.fidelity": (network.fidelity, FIDELITIES),
        "network.routing": (network.routing, ROUTINGS),
        "estimates.duration": (estimates.duration, ("noisy", "mean", "oracle")),
    }
    for where, (value, allowed) in choices.items():
        if value not in allowed:
            raise ScenarioError(f"{where} = {value!r} must be one of {', '.join(allowed)}")
    ranges: dict[str, tuple[float, float, float]] = {
        "network.queue_pairs": (network.queue_pairs, 1, 64),
        "scheduler.window": (scheduler.window, 1, 1024),
        "scheduler.running_rows": (scheduler.running_rows, 0, 1024),
        "scheduler.preempt_s": (scheduler.preempt_s, 0, math.inf),
        "scheduler.checkpoint_s": (scheduler.checkpoint_s, 0, math.inf),
        "faults.node_mtbf_h": (faults.node_mtbf_h, 0, math.inf),
        "faults.repair_h": (faults.repair_h, 1e-3, math.inf),
        "faults.straggler_share": (faults.straggler_share, 0, 1),
        "faults.straggler_speed": (faults.straggler_speed, 1e-2, 1),
        "estimates.sigma": (estimates.sigma, 0, 5),
    }
    for where, (number, low, high) in ranges.items():
        if not (math.isfinite(number) and low <= number <= high):
            bound = f"from {low:g} to {high:g}" if high < math.inf else f"{low:g} or more"
            raise ScenarioError(f"{where} = {number!r} must be a finite number, {bound}")
