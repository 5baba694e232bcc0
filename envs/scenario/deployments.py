"""The replicas of a scenario."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..hardware import catalogue, huggingface
from ..hardware.catalogue import GPU, Model
from ..hardware.cluster import Pool
from ..perf import Deployment, kv_blocks, tabulate
from ..perf.serving.calibration import Calibration
from ..perf.serving.kv_groups import block_bytes
from .checks import (
    ScenarioError,
    check_type,
    check_values,
    check_whole,
    checked_table,
    refuse_unknown,
    section,
)
from .speculation import read_speculation

MOST_REPLICAS = 4096  # all of them are candidates of every decision
MOST_SEQS = 2**15 - 1  # the engine counts the holders of a cached prefix in 16 bits


@dataclass(frozen=True)
class Replica:
    """One serving replica.

    Attributes:
        deployment: model, devices, parallel layout and engine limits.
        kv_blocks: KV-cache capacity in blocks of ``deployment.block_size`` tokens.
        capacity: expected output tokens/s at the workload's mean lengths.
        rank: which of its deployment's own dp ranks it is; capacity, KV blocks, devices and price
            are that rank's.
        host_kv_gb: gigabytes of host memory that keep prefixes behind its GPUs; 0: none.
        kv_write: when a block is copied there: "through" (sealed) or "back" (evicted).
        where: the table of the scenario that it is of, as errors name it.
    """

    deployment: Deployment
    kv_blocks: int
    capacity: float = 0.0
    rank: int = 0
    host_kv_gb: float = field(default=0.0, metadata={"range": (0, 1e6)})
    kv_write: str = field(default="through", metadata={"choices": ("through", "back")})
    where: str = field(default="replicas[0]", compare=False)

    def on(self, pool: Pool) -> Replica:
        """Return this replica on a pool's nodes: their GPUs, and a GPU's part of their NICs.

        A replica's own GPUs share the NICs; what others on the node send meets it on the node's
        links.
        """
        sharing = min(self.deployment.gpus, pool.gpus_per_node)
        nic = pool.nic_bytes_per_s * min(1.0, pool.nics_per_node / sharing)
        gpu = replace(self.deployment.gpu, nic_bytes_per_s=nic)
        node_gpus = min(pool.gpus_per_node, self.deployment.most_node_gpus)
        return replace(self, deployment=replace(self.deployment, gpu=gpu, node_gpus=node_gpus))

    @property
    def kv_share(self) -> float:
        """Share of its devices' memory that all KV blocks take."""
        pooled = self.deployment.dp / self.deployment.own_ranks
        kv_bytes = self.kv_blocks / pooled * block_bytes(self.deployment)
        share = kv_bytes / self.deployment.gpu.memory_bytes
        return min(share, self.deployment.gpu_memory_utilization)

    @property
    def weight_share(self) -> float:
        """Share that everything else takes: weights, activations, graphs."""
        return self.deployment.gpu_memory_utilization - self.kv_share

    @property
    def price_per_h(self) -> float:
        """Price of its devices, $/h."""
        return self.gpus * self.deployment.gpu.price_per_h

    @property
    def gpus(self) -> int:
        """Its devices."""
        return self.deployment.gpus // self.deployment.own_ranks


TIERS = ("host_kv_gb", "kv_write")
"""Fields of a table about memory behind the GPUs, not about what they run."""

WEIGHTS = ("gpu", "model", "tp", "ep", "dp", "pp", "redundant_experts", "dtype", "engine")
"""What the weights on each GPU of a replica depend on, and who has loaded them."""


def same_weights(one: Deployment, other: Deployment) -> bool:
    """Tell whether a replica of one deployment has loaded what one of the other needs."""
    return all(getattr(one, name) == getattr(other, name) for name in WEIGHTS)


def own_entries(build: Callable[[str, Any], Any], tables: Any, where: str) -> dict[str, Any]:
    """Build the scenario's own GPUs or models."""
    try:
        return {
            name: build(name, checked_table(row, f"{where}.{name}"))
            for name, row in checked_table(tables, where).items()
        }
    except ValueError as error:
        raise ScenarioError(f"{where}: {error}") from error


def named_model(name: str, models: dict[str, Model], folder: Path) -> Model:
    """Return a model of the scenario, of the catalogue or, by a path, of a ``config.json``.

    Args:
        name: its name, or a path that ends with .json.
        models: the scenario's own.
        folder: where a relative path starts.
    """
    if name in models:
        return models[name]
    if name.endswith(".json"):
        return huggingface.read(folder / name)
    return catalogue.model(name)


def read_replicas(
    rows: Any, gpus: dict[str, GPU], models: dict[str, Model], folder: Path
) -> tuple[Replica, ...]:
    """Build the replicas of the ``[[replicas]]`` tables, capacities still to be filled in.

    Args:
        rows: the tables.
        gpus: the scenario's own GPUs.
        models: the scenario's own models.
        folder: where the relative path of a model's configuration starts.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    if not isinstance(rows, list):
        raise ScenarioError(f"replicas = {rows!r} must be a list: one [[replicas]] table per kind")
    if not rows:
        raise ScenarioError("replicas = [] leaves nobody to serve; add a [[replicas]] table")
    replicas: list[Replica] = []
    for number, row in enumerate(rows):
        where = f"replicas[{number}]"
        replicas += _alike(checked_table(row, where), where, gpus, models, folder)
    return tuple(replicas)


def read_deployment(
    row: dict[str, Any], where: str, gpus: dict[str, GPU], models: dict[str, Model], folder: Path
) -> Deployment:
    """Build what each replica of a ``[[replicas]]`` table runs; whether it fits is not asked.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    limits = {item.name for item in fields(Deployment)}
    refuse_unknown(row, limits | {"count", "kv_blocks"}, where)
    for key, example in (("gpu", "H100-SXM"), ("model", "Llama-3-8B")):
        if key not in row:
            raise ScenarioError(f"{where}.{key} is missing; give a name of the catalogue")
        check_type(f"{where}.{key}", row[key], example)
    check_values(Deployment, row, where)
    for key in ("count", "kv_blocks"):
        check_whole(f"{where}.{key}", row.get(key, 1), 1)
    settings = {key: row[key] for key in row if key in limits}
    try:
        settings["gpu"] = gpus.get(row["gpu"]) or catalogue.gpu(row["gpu"])
        settings["model"] = named_model(row["model"], models, folder)
        if "speculation" in row:
            settings["speculation"] = read_speculation(
                row["speculation"],
                f"{where}.speculation",
                lambda name: named_model(name, models, folder),
            )
        if "calibration" in row:
            settings["calibration"] = section(
                Calibration, row["calibration"], f"{where}.calibration"
            )
        return Deployment(**settings)
    except ScenarioError:
        raise
    except ValueError as error:
        raise ScenarioError(f"{where}: {error}") from error


def _alike(
    row: dict[str, Any], where: str, gpus: dict[str, GPU], models: dict[str, Model], folder: Path
) -> list[Replica]:
    """Build the ``count`` replicas of one table."""
    check_values(Replica, row, where)
    tiers = {key: row[key] for key in TIERS if key in row}
    rest = {key: value for key, value in row.items() if key not in TIERS}
    replica = replace(read_replica(rest, where, gpus, models, folder), **tiers)
    if row.get("count", 1) > MOST_REPLICAS:
        raise ScenarioError(f"{where}.count = {row['count']} must be at most {MOST_REPLICAS}")
    ranks = [replace(replica, rank=rank) for rank in range(replica.deployment.own_ranks)]
    return ranks * row.get("count", 1)


def read_replica(
    row: dict[str, Any], where: str, gpus: dict[str, GPU], models: dict[str, Model], folder: Path
) -> Replica:
    """Build one replica of a table, its capacity still to be filled in.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    deployment = read_deployment(row, where, gpus, models, folder)
    try:
        if deployment.calibration is not None:
            tabulate(deployment)
        blocks = kv_blocks(deployment)  # also where the scenario has its own: the weights must fit
    except ValueError as error:
        raise ScenarioError(f"{where}: {error}") from error
    if deployment.max_num_seqs > MOST_SEQS:
        raise ScenarioError(
            f"{where}.max_num_seqs = {deployment.max_num_seqs} must be at most {MOST_SEQS}"
        )
    if deployment.max_num_batched_tokens <= deployment.max_num_seqs:
        raise ScenarioError(
            f"{where}.max_num_batched_tokens = {deployment.max_num_batched_tokens} must be "
            f"above max_num_seqs = {deployment.max_num_seqs}"
        )
    blocks = row.get("kv_blocks", blocks) // deployment.own_ranks
    return Replica(deployment, blocks, where=where)
