"""Scenarios: a cluster, its workload, objectives and what the agent is rewarded for, as TOML.

A scenario file in which requests are routed has these tables; one in which gangs are placed those
of :mod:`.placement_scenario`. :func:`load` says what is wrong with one that does not fit.

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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..hardware import catalogue
from ..observation import Layout
from ..perf import capability
from ..reward import TERMS
from ..workload.requests.generator import Generator
from ..workload.requests.source import Workload
from .checks import ScenarioError, check_type, checked_table, refuse_unknown, section, weights
from .deployments import Replica, own_entries, read_replicas
from .placement import PlacementScenario, placement_from_dict
from .requests import read_workload

FOLDER = Path(__file__).parents[1] / "scenarios"
MAX_ESTIMATE_TOKENS = 2**24


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

    @property
    def decisions(self) -> frozenset[str]:
        """Kinds of decisions that its parts ask for."""
        return frozenset({"route"})

    @property
    def layout(self) -> Layout:
        """Where each column of its observations stands."""
        return Layout(self.decisions)

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
        return _finish(replace(self, workload=read_workload(table, Path.cwd())))


AnyScenario = Scenario | PlacementScenario


def names() -> list[str]:
    """Return the names of the scenarios that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(scenario: str | Path | AnyScenario) -> AnyScenario:
    """Return a scenario by name, from a TOML file, or as it is.

    Raises:
        ScenarioError: naming the file, field, value and remedy.
    """
    if isinstance(scenario, (Scenario, PlacementScenario)):
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


def from_dict(
    table: dict[str, Any], name: str = "custom", folder: Path | None = None
) -> AnyScenario:
    """Build a scenario from the parsed tables of a scenario file.

    With a ``[cluster]`` table it is one in which gangs are placed.

    Args:
        table: the tables.
        name: what to call it.
        folder: where a relative trace path starts; the working directory by default.

    Raises:
        ScenarioError: naming the field, value and remedy.
        TraceError: naming the trace file, line, field, value and remedy.
    """
    if "cluster" in table:
        return placement_from_dict(table, name, folder)
    known = {"description", "replicas", "workload", "gpus", "models", "reward"}
    sections = {"router": Router, "estimates": Estimates, "slo": SLO}
    sections["observation"] = ObservationSize
    refuse_unknown(table, known | set(sections), "scenario")
    check_type("description", table.get("description", ""), "")
    gpus = own_entries(catalogue.gpu_from, table.get("gpus", {}), "gpus")
    models = own_entries(catalogue.model_from, table.get("models", {}), "models")
    scenario = Scenario(
        name=name,
        description=table.get("description", ""),
        replicas=read_replicas(table.get("replicas", []), gpus, models),
        workload=read_workload(
            checked_table(table.get("workload", {}), "workload"), folder or Path.cwd()
        ),
        reward=weights(table.get("reward", {"waiting": 1.0}), TERMS, "reward"),
        **{key: section(kind, table.get(key, {}), key) for key, kind in sections.items()},
    )
    _check_values(scenario)
    return _finish(scenario)


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
