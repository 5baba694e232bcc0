"""The fleets of a what-if: their worlds, prices and sources, and what an hour of them buys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpuyard.envs.scenario import Scenario

from ..rollout import Rollout
from ..sweep.task import Trace, World
from .vary import changed

HOUR_S = 3600.0


@dataclass(frozen=True)
class Fleet:
    """One combination of values.

    Attributes:
        changes: value by path.
        world: with them.
        scenario: as it was read.
    """

    changes: Mapping[str, Any]
    world: World
    scenario: Scenario

    @property
    def price_per_h(self) -> float:
        """Price of all its GPUs, used or not, $/h; 0 if a GPU has none."""
        cluster = self.scenario.cluster
        if cluster is not None:
            prices = [
                (pool.nodes * pool.gpus_per_node, pool.gpu.price_per_h) for pool in cluster.pools
            ]
        else:
            prices = [(1, replica.price_per_h) for replica in self.scenario.replicas]
        return sum(n * price for n, price in prices) if all(p > 0 for _, p in prices) else 0.0


def fed(table: dict[str, Any], trace: Trace) -> dict[str, Any]:
    """Return the tables with a trace of requests for their workload, so that it can be varied."""
    kept = {k: v for k, v in table.get("workload", {}).items() if k == "num_requests"}
    source = {"trace": trace.path, "format": trace.format, "columns": dict(trace.columns)}
    return table | {"workload": kept | source}


def fleet(base: World, changes: Mapping[str, Any]) -> Fleet:
    """Return the fleet of some changes; the work stays what it is, whatever changes on the cluster.

    Raises:
        ValueError: a path leads nowhere, or the scenario refuses a value.
    """
    table = json.loads(base.table)
    name = ", ".join(f"{path}={value}" for path, value in changes.items()) or base.name
    world = World(name, json.dumps(_same_work(base, table, changes)), base.folder, base.trace)
    try:
        return Fleet(changes, world, world.scenario())
    except ValueError as error:
        raise ValueError(f"{base.name} with {name}: {error}") from error


def _same_work(base: World, table: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changed tables with ``jobs.load`` meaning the same jobs per hour as before.

    A load is offered per GPU of the cluster: on a larger one it would bring more jobs, and nobody
    would ever see what more nodes are good for.
    """
    found = changed(table, changes)
    machines = {path: value for path, value in changes.items() if path.startswith("cluster.")}
    if not machines or "load" not in found.get("jobs", {}):
        return found
    before = _num_gpus(replace(base, table=json.dumps(table)))
    after = _num_gpus(replace(base, table=json.dumps(found)))
    found["jobs"]["load"] *= before / after
    return found


def _num_gpus(world: World) -> int:
    cluster = world.scenario().cluster
    assert cluster is not None
    return cluster.num_gpus


def priced(played: Rollout, fleet: Fleet) -> Rollout:
    """Return the rollout with what the whole fleet's price buys.

    ``cost_per_mtok``: $ per million output tokens, its price over the output tokens per hour of the
    steady window. ``cost_per_gpu_h``: $ per GPU hour that jobs ran, its price over GPUs times
    utilisation. A world of both has neither: its price is not of one alone.
    """
    price = fleet.price_per_h
    more = {"price_per_h": 0.0 * played.metrics["reward"] + price}
    decisions = fleet.scenario.decisions
    if price and decisions == {"route"} and "output_tokens_per_s" in played.metrics:
        per_h = played.metrics["output_tokens_per_s"] * HOUR_S
        more["cost_per_mtok"] = 1e6 * price / per_h
    if price and decisions == {"place"} and "utilisation" in played.metrics:
        assert fleet.scenario.cluster is not None
        used = fleet.scenario.cluster.num_gpus * played.metrics["utilisation"]
        more["cost_per_gpu_h"] = price / used
    return replace(played, metrics=played.metrics | more)


def base_world(name: str, table: dict[str, Any], folder: Path, trace: Trace | None) -> World:
    """Return the world that is varied: a scenario, perhaps fed by a trace."""
    plain = World.of(name, table, folder)
    if trace is None:
        return plain
    shown = f"{name}-{Path(trace.path).stem}"
    if plain.scenario().decisions == {"route"}:
        return World.of(shown, fed(table, trace), folder)
    return World.of(shown, table, folder, trace)


def shown_columns(fleets: Sequence[Fleet]) -> list[str]:
    """Return the paths whose values tell the fleets apart; all of them if there is one fleet."""
    paths = list(fleets[0].changes)
    told = [p for p in paths if len({repr(fleet.changes[p]) for fleet in fleets}) > 1]
    return told or paths
