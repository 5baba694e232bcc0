"""Scenarios: a cluster, its workload, objectives and what the agent is rewarded for, as TOML.

A scenario file has these tables; :func:`load` says what is wrong with one that does not fit.

| Table            | Field (default)                                                              |
|------------------|------------------------------------------------------------------------------|
| top level        | `description`                                                                |
| `[[replicas]]`   | `gpu`, `model`; `count` (1), `tp`, `ep`, `dp` (1), `dtype`, `kv_dtype` (bf16), `max_num_seqs` (256), `max_num_batched_tokens` (8192), `block_size` (16), `gpu_memory_utilization` (0.9), `stack` (vllm), `kv_blocks` (as vLLM computes them) |
| `[workload]`     | `preset` or `trace` (path, relative to the file) with `format` (auto); `num_requests` (512; 0 = the whole trace), `rate_scale` (1); any field of the preset's generator, such as `rate_per_s`, `max_tokens` |
| `[router]`       | `signal_interval_s` (0: live), `hold_s` (0: no hold action), `hold_limit_s` (1) |
| `[estimates]`    | `output`: noisy, mean or oracle (noisy), `sigma` (0.5)                       |
| `[slo]`          | `ttft_s` (0.5), `tpot_s` (0.05)                                              |
| `[reward]`       | weights of :data:`gpuyard.envs.reward.TERMS` (waiting 1)                     |
| `[observation]`  | `queue_rows` (4)                                                             |
| `[gpus.NAME]`    | a GPU of your own: columns of `hardware/gpus.csv`                            |
| `[models.NAME]`  | a model of your own: columns of `hardware/models.csv`                        |
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .hardware import catalogue
from .hardware.catalogue import GPU, Model
from .perf import Deployment, capability, kv_blocks
from .reward import TERMS
from .workload import presets, readers
from .workload.generator import Generator
from .workload.prefix import shared_only
from .workload.stream import RequestStream
from .workload.transform import scale_rate, window

FOLDER = Path(__file__).parent / "scenarios"
MAX_ESTIMATE_TOKENS = 2**24
OWN_IDS = 1_000_000  # prefix ids up to which a replay keeps those that requests do not share


class ScenarioError(ValueError):
    """A scenario that cannot be simulated; the message names the field, its value and a remedy."""


@dataclass(frozen=True)
class Replica:
    """One serving replica.

    Attributes:
        deployment: model, devices, parallel layout and engine limits.
        kv_blocks: KV-cache capacity in blocks of ``deployment.block_size`` tokens.
        capacity: expected output tokens/s at the workload's mean lengths.
    """

    deployment: Deployment
    kv_blocks: int
    capacity: float = 0.0

    @property
    def price_per_h(self) -> float:
        """Price of its devices, $/h."""
        return self.deployment.gpus * self.deployment.gpu.price_per_h


@dataclass(frozen=True)
class Workload:
    """Where requests come from: a generator, or windows of a trace.

    Attributes:
        source: generator or trace.
        num_requests: requests per episode.
    """

    source: Generator | RequestStream
    num_requests: int

    def sample(self, rng: np.random.Generator) -> RequestStream:
        """Return the requests of one episode; of a trace, a window from a random start."""
        if isinstance(self.source, Generator):
            return self.source.sample(rng, self.num_requests)
        if self.num_requests == len(self.source):
            return self.source
        start = int(rng.integers(len(self.source) - self.num_requests + 1))
        return shared_only(window(self.source, start, self.num_requests))

    @property
    def room(self) -> tuple[int, int]:
        """Bounds on the prefix ids of an episode: all of its requests', and distinct ones."""
        if isinstance(self.source, Generator):
            distinct = self.source.max_prefix_ids(self.num_requests)
            block = max(self.source.prefix_block_tokens, 1)
            per_request = self.source.max_tokens // block if distinct else 0
            return self.num_requests * per_request, distinct
        offsets = self.source.prefix_offsets
        most = int((offsets[self.num_requests :] - offsets[: -self.num_requests]).max())
        if self.num_requests == len(self.source):
            return most, int(self.source.prefix_ids.max(initial=-1)) + 1
        return most, most

    @property
    def prefix_block_tokens(self) -> int:
        """Tokens per prefix id, 0 if there are none."""
        return self.source.prefix_block_tokens

    def mean_lengths(self) -> tuple[float, float]:
        """Return the mean prompt and output tokens."""
        return self._mean_lengths

    @cached_property
    def _mean_lengths(self) -> tuple[float, float]:
        stream = self.source
        if isinstance(stream, Generator):
            stream = stream.sample(np.random.default_rng(0), 4096)
        return float(stream.prompt_tokens.mean()), float(stream.output_tokens.mean())


@dataclass(frozen=True)
class Router:
    """What the router knows and may do. Seconds."""

    signal_interval_s: float = 0.0
    hold_s: float = 0.0
    hold_limit_s: float = 1.0


@dataclass(frozen=True)
class Estimates:
    """What is believed of output lengths before they are known.

    ``output``: "noisy" (the true length times a log-normal factor of log-deviation ``sigma``),
    "mean" (the workload's mean for all) or "oracle" (the true length).
    """

    output: str = "noisy"
    sigma: float = 0.5


@dataclass(frozen=True)
class SLO:
    """Objectives per request, seconds."""

    ttft_s: float = 0.5
    tpot_s: float = 0.05


@dataclass(frozen=True)
class ObservationSize:
    """Sizes of the observation that are free to choose."""

    queue_rows: int = 4


@dataclass(frozen=True)
class Scenario:
    """Everything that defines a world. See the module's table."""

    name: str
    description: str
    replicas: tuple[Replica, ...]
    workload: Workload
    router: Router = field(default_factory=Router)
    estimates: Estimates = field(default_factory=Estimates)
    slo: SLO = field(default_factory=SLO)
    reward: tuple[float, ...] = (1.0,) + (0.0,) * (len(TERMS) - 1)
    observation: ObservationSize = field(default_factory=ObservationSize)

    def estimate(
        self, rng: np.random.Generator, output_tokens: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Return what is believed of the output lengths, int32 (N,), at least 1."""
        kind = self.estimates.output
        if kind == "oracle":
            return output_tokens
        if kind == "mean":
            return np.full_like(output_tokens, max(1, round(self.workload.mean_lengths()[1])))
        factor = np.exp(self.estimates.sigma * rng.standard_normal(len(output_tokens)))
        estimate = np.rint(output_tokens * factor)
        return np.clip(estimate, 1, MAX_ESTIMATE_TOKENS).astype(np.int32)

    def with_trace(self, path: str | Path, format: str = "auto") -> Scenario:
        """Return this scenario fed by a trace file, in windows of the same length."""
        table: dict[str, Any] = {"trace": str(path), "format": format}
        table["num_requests"] = self.workload.num_requests
        return _finish(replace(self, workload=_workload(table, Path.cwd())))


def names() -> list[str]:
    """Return the names of the scenarios that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(scenario: str | Path | Scenario) -> Scenario:
    """Return a scenario by name, from a TOML file, or as it is.

    Raises:
        ScenarioError: naming the file, field, value and remedy.
    """
    if isinstance(scenario, Scenario):
        return scenario
    if not isinstance(scenario, (str, Path)):
        raise ScenarioError(f"scenario = {scenario!r} must be a name, a path or a Scenario")
    path = Path(scenario)
    if path.suffix != ".toml":
        path = FOLDER / f"{scenario}.toml"
        if not path.exists():
            raise ScenarioError(
                f"scenario {str(scenario)!r} is unknown; choose one of {', '.join(names())}, or "
                "give the path of a .toml file"
            )
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        return from_dict(table, name=path.stem, folder=path.parent)
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


def from_dict(table: dict[str, Any], name: str = "custom", folder: Path | None = None) -> Scenario:
    """Build a scenario from the parsed tables of a scenario file.

    Args:
        table: the tables.
        name: what to call it.
        folder: where a relative trace path starts; the working directory by default.

    Raises:
        ScenarioError: naming the field, value and remedy.
        TraceError: naming the trace file, line, field, value and remedy.
    """
    known = {"description", "replicas", "workload", "gpus", "models", "reward"}
    sections = {"router": Router, "estimates": Estimates, "slo": SLO}
    sections["observation"] = ObservationSize
    _refuse_unknown(table, known | set(sections), "scenario")
    _check_type("description", table.get("description", ""), "")
    gpus = _own(catalogue.gpu_from, table.get("gpus", {}), "gpus")
    models = _own(catalogue.model_from, table.get("models", {}), "models")
    scenario = Scenario(
        name=name,
        description=table.get("description", ""),
        replicas=_replicas(table.get("replicas", []), gpus, models),
        workload=_workload(_table(table.get("workload", {}), "workload"), folder or Path.cwd()),
        reward=_reward(_table(table.get("reward", {"waiting": 1.0}), "reward")),
        **{key: _section(kind, table.get(key, {}), key) for key, kind in sections.items()},
    )
    _check_values(scenario)
    return _finish(scenario)


def _table(value: Any, where: str) -> dict[str, Any]:
    """Return ``value`` after making sure that it is a table."""
    if not isinstance(value, dict):
        raise ScenarioError(
            f"{where} = {value!r} must be a table: write its fields under [{where}]"
        )
    return value


def _refuse_unknown(table: dict[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise ScenarioError(f"{where}.{key} is unknown; use one of {', '.join(sorted(known))}")


def _check_type(where: str, value: Any, example: Any) -> None:
    """Refuse a value that is not of the kind of ``example``; a whole number will do for a float."""
    kinds = {float: "a number", int: "a whole number", str: "text"}
    allowed = (int, float) if isinstance(example, float) else type(example)
    if not isinstance(value, allowed) or isinstance(value, bool):
        kind = kinds[type(example)]
        raise ScenarioError(f"{where} = {value!r} must be {kind}, for example {example!r}")


def _check_types(kind: type, table: dict[str, Any], where: str) -> None:
    """Refuse values that are not of the kind of the dataclass field's default."""
    for item in fields(kind):
        if item.name in table and isinstance(item.default, (float, int, str)):
            _check_type(f"{where}.{item.name}", table[item.name], item.default)


def _section(kind: type, table: Any, where: str) -> Any:
    """Build a dataclass of plain values from a table, with its types checked."""
    _refuse_unknown(_table(table, where), {item.name for item in fields(kind)}, where)
    _check_types(kind, table, where)
    return kind(**table)


def _own(build: Callable[[str, Any], Any], tables: Any, where: str) -> dict[str, Any]:
    """Build the scenario's own GPUs or models."""
    try:
        return {
            name: build(name, _table(row, f"{where}.{name}"))
            for name, row in _table(tables, where).items()
        }
    except ValueError as error:
        raise ScenarioError(f"{where}: {error}") from error


def _replicas(rows: Any, gpus: dict[str, GPU], models: dict[str, Model]) -> tuple[Replica, ...]:
    if not isinstance(rows, list):
        raise ScenarioError(f"replicas = {rows!r} must be a list: one [[replicas]] table per kind")
    if not rows:
        raise ScenarioError("replicas = [] leaves nobody to serve; add a [[replicas]] table")
    replicas: list[Replica] = []
    for number, row in enumerate(rows):
        where = f"replicas[{number}]"
        replicas += _alike(_table(row, where), where, gpus, models)
    return tuple(replicas)


def _alike(
    row: dict[str, Any], where: str, gpus: dict[str, GPU], models: dict[str, Model]
) -> list[Replica]:
    """Build the ``count`` replicas of one table."""
    limits = {item.name for item in fields(Deployment)}
    _refuse_unknown(row, limits | {"count", "kv_blocks"}, where)
    for key, example in (("gpu", "H100-SXM"), ("model", "Llama-3-8B")):
        if key not in row:
            raise ScenarioError(f"{where}.{key} is missing; give a name of the catalogue")
        _check_type(f"{where}.{key}", row[key], example)
    _check_types(Deployment, row, where)
    for key in ("count", "kv_blocks"):
        value = row.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ScenarioError(f"{where}.{key} = {value!r} must be a whole number >= 1")
    settings = {key: row[key] for key in row if key in limits}
    try:
        settings["gpu"] = gpus.get(row["gpu"]) or catalogue.gpu(row["gpu"])
        settings["model"] = models.get(row["model"]) or catalogue.model(row["model"])
        deployment = Deployment(**settings)
        blocks = kv_blocks(deployment)  # also where the scenario has its own: the weights must fit
    except ValueError as error:
        raise ScenarioError(f"{where}: {error}") from error
    if deployment.max_num_batched_tokens <= deployment.max_num_seqs:
        raise ScenarioError(
            f"{where}.max_num_batched_tokens = {deployment.max_num_batched_tokens} must be "
            f"above max_num_seqs = {deployment.max_num_seqs}"
        )
    return [Replica(deployment, row.get("kv_blocks", blocks))] * row.get("count", 1)


def _workload(table: dict[str, Any], folder: Path) -> Workload:
    table = dict(table)
    count = table.pop("num_requests", 512)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ScenarioError(f"workload.num_requests = {count!r} must be a whole number >= 0")
    scale = table.pop("rate_scale", 1.0)
    _check_type("workload.rate_scale", scale, 1.0)
    if not (math.isfinite(scale) and scale > 0):
        raise ScenarioError(f"workload.rate_scale = {scale!r} must be a finite number above 0")
    if "trace" in table:
        return _replay(table, folder, count, scale)
    preset = table.pop("preset", "chat")
    _check_type("workload.preset", preset, "chat")
    if count == 0:
        raise ScenarioError("workload.num_requests = 0 means a whole trace; set it, e.g. 512")
    try:
        generator = presets.preset(preset, **table)
        generator = replace(generator, rate_per_s=generator.rate_per_s * scale)
    except ValueError as error:
        raise ScenarioError(f"workload: {error}") from error
    return Workload(generator, count)


def _replay(table: dict[str, Any], folder: Path, count: int, scale: float) -> Workload:
    _refuse_unknown(table, {"trace", "format", "num_requests", "rate_scale"}, "workload")
    for key, example in (("trace", "requests.csv"), ("format", "auto")):
        _check_type(f"workload.{key}", table.get(key, example), example)
    stream = readers.read(folder / table["trace"], table.get("format", "auto"))
    count = min(count, len(stream)) or len(stream)
    # a preempted request may find its own blocks again: a replay of a whole trace keeps their ids
    if count < len(stream) or len(stream.prefix_ids) > OWN_IDS:
        stream = shared_only(stream)
    return Workload(scale_rate(stream, scale) if scale != 1.0 else stream, count)


def _reward(table: dict[str, Any]) -> tuple[float, ...]:
    _refuse_unknown(table, set(TERMS), "reward")
    for term, weight in table.items():
        _check_type(f"reward.{term}", weight, 1.0)
        if not math.isfinite(weight):
            raise ScenarioError(f"reward.{term} = {weight!r} must be a finite number")
    return tuple(float(table.get(term, 0.0)) for term in TERMS)


def _check_values(scenario: Scenario) -> None:
    positive = {
        "slo.ttft_s": scenario.slo.ttft_s,
        "slo.tpot_s": scenario.slo.tpot_s,
        "observation.queue_rows": scenario.observation.queue_rows,
    }
    not_negative = {
        "router.signal_interval_s": scenario.router.signal_interval_s,
        "router.hold_s": scenario.router.hold_s,
        "router.hold_limit_s": scenario.router.hold_limit_s,
        "estimates.sigma": scenario.estimates.sigma,
    }
    for where, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise ScenarioError(f"{where} = {value} must be a finite number above 0")
    for where, value in not_negative.items():
        if not (math.isfinite(value) and value >= 0):
            raise ScenarioError(f"{where} = {value} must be a finite number >= 0")
    if scenario.estimates.output not in ("noisy", "mean", "oracle"):
        raise ScenarioError(
            f"estimates.output = {scenario.estimates.output!r} must be noisy, mean or oracle"
        )
    if scenario.estimates.sigma > 5:
        raise ScenarioError(
            f"estimates.sigma = {scenario.estimates.sigma} must be at most 5: one in six estimates "
            "would be more than 150 times too long"
        )
    if scenario.router.hold_s > scenario.router.hold_limit_s:
        raise ScenarioError(
            f"router.hold_s = {scenario.router.hold_s} must not be above router.hold_limit_s = "
            f"{scenario.router.hold_limit_s}: no request could ever be held; 0 turns holding off"
        )


def _finish(scenario: Scenario) -> Scenario:
    """Check that replicas and workload go together and fill in each replica's capacity."""
    _check_fit(scenario)
    lengths = scenario.workload.mean_lengths()
    capacities = {
        deployment: capability(deployment).throughput(*lengths)
        for deployment in {replica.deployment for replica in scenario.replicas}
    }
    replicas = (
        replace(replica, capacity=capacities[replica.deployment]) for replica in scenario.replicas
    )
    return replace(scenario, replicas=tuple(replicas))


def _check_fit(scenario: Scenario) -> None:
    """Refuse prefix units that blocks do not divide, and requests that fit nowhere."""
    unit = scenario.workload.prefix_block_tokens
    for number, replica in enumerate(scenario.replicas):
        block = replica.deployment.block_size
        if unit and unit % block:
            raise ScenarioError(
                f"replicas[{number}].block_size = {block} must divide the workload's "
                f"prefix blocks of {unit} tokens"
            )
    source = scenario.workload.source
    if isinstance(source, Generator):
        longest, remedy = source.max_tokens, "lower workload.max_tokens"
    else:
        tokens = source.prompt_tokens.astype(np.int64) + source.output_tokens
        longest, remedy = (
            int(tokens.max()),
            f"leave out request {int(tokens.argmax())} of the trace",
        )
    room = max(replica.kv_blocks * replica.deployment.block_size for replica in scenario.replicas)
    if longest > room:
        raise ScenarioError(
            f"a request of {longest} prompt and output tokens never fits: the largest KV cache "
            f"holds {room}; {remedy}, or give replicas more memory (tp, a larger GPU, fewer bits)"
        )
