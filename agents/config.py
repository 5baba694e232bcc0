"""The settings of a training run: one dataclass for Python and for the command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuyard.ids import DEFAULT, IDS, default_scenario, id_for

from .disk import write_text

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

OWN_DEFAULTS: dict[frozenset[str], dict[str, Any]] = {
    frozenset({"place"}): {"steps": 700_000, "learning_rate": 1e-3},
    frozenset({"route", "place", "scale"}): {
        "gamma": 0.999,  # a job or a replica matters for hundreds of requests
        "gae_lambda": 0.998,
        "teacher": "compose:routing/prefill-and-work+gang/sjf+scaling/idle",
        "teacher_steps": 300_000,
        "critic_steps": 100_000,
        "learning_rate": 3e-4,
        "n_steps": 512,
        "batch_size": 4096,
        "of_a_kind": 256,  # routing decisions are 95 in 100
        "steps": 1_400_000,
        "validate_every": 400_000,
    },
}
"""Settings that suit some decisions better than the fields' defaults, by the decisions of a
scenario; ``docs/training.md`` says why."""

AT_LEAST_ONE = (
    "steps", "num_envs", "n_steps", "batch_size", "epochs", "width", "validate_seeds", "threads",
)  # fmt: skip
NOT_NEGATIVE = (
    "seed", "of_a_kind", "teacher_steps", "critic_steps", "validate_every", "checkpoint_every",
    "minutes",
)  # fmt: skip


def setting(default: Any, text: str) -> Any:
    """Return a dataclass field with a help text, shown by ``gpuyard train --help``."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run; each field is a flag of ``gpuyard train``."""

    env: str = setting("", "environment id; empty: the one for the scenario's decisions")
    scenario: str = setting("", "scenario name or TOML file; empty: the default of the id")
    name: str = setting("", "name of the run; default: the scenario's, with a number if taken")
    out: str = setting("runs", "folder of all runs")
    seed: int = setting(0, "seed of weights, exploration and training episodes")
    steps: int = setting(2_400_000, "decisions to train on, over all environments")
    minutes: float = setting(0.0, "minutes of learning at most, then it keeps what it has; 0: any")
    num_envs: int = setting(64, "environments in the batch")
    n_steps: int = setting(128, "decisions per environment and update")
    batch_size: int = setting(1024, "decisions per gradient step")
    of_a_kind: int = setting(0, "of them at most so many of one kind of decision; 0: any number")
    epochs: int = setting(3, "passes over each update's decisions")
    learning_rate: float = setting(7e-4, "Adam's step size, falling linearly to 0")
    gamma: float = setting(0.99, "discount per request or finished gang")
    gae_lambda: float = setting(0.95, "lambda of generalised advantage estimation")
    clip_range: float = setting(0.2, "PPO's clip range")
    ent_coef: float = setting(0.0, "weight of the entropy bonus")
    vf_coef: float = setting(0.5, "weight of the value loss")
    width: int = setting(64, "neurons per layer of the network")
    teacher: str = setting("", "baseline to imitate first; empty: none")
    teacher_steps: int = setting(100_000, "decisions of that imitation")
    critic_steps: int = setting(0, "decisions at first on which only the values learn")
    validate_every: int = setting(
        0, "decisions between validations, of which the best weights are kept; 0: keep the last"
    )
    validate_seeds: int = setting(32, "episodes of a validation")
    checkpoint_every: int = setting(
        200_000, "decisions between checkpoints, which are a minute apart at most; 0: none"
    )
    threads: int = setting(1, "torch threads; more than 1 pays only on an idle machine")
    device: str = setting("cpu", "torch device; cuda is little faster, for the network is small")

    def __post_init__(self) -> None:
        """Fill in environment and scenario; refuse sizes that cannot work.

        Raises:
            ValueError: naming the field, its value and what it must be.
        """
        if not self.scenario:
            object.__setattr__(self, "env", self.env or DEFAULT)
            object.__setattr__(self, "scenario", default_scenario(self.env))
        elif not self.env:
            object.__setattr__(self, "env", id_for(_load(self.scenario)))
        for key in AT_LEAST_ONE:
            if getattr(self, key) < 1:
                raise ValueError(f"{key} = {getattr(self, key)}: must be at least 1")
        for key in NOT_NEGATIVE:
            if getattr(self, key) < 0:
                raise ValueError(f"{key} = {getattr(self, key)}: must not be negative")
        if not 0.0 < self.gamma <= 1.0:
            raise ValueError(f"gamma = {self.gamma}: must lie in (0, 1]")
        if not self.learning_rate > 0.0:
            raise ValueError(f"learning_rate = {self.learning_rate}: must be positive")

    @classmethod
    def of(cls, **given: Any) -> TrainConfig:
        """Return the given settings, the others as suits the decisions to be learned."""
        config = cls(**given)
        known = IDS[config.env] if config.env in IDS else _load(config.scenario)
        return replace(config, **OWN_DEFAULTS.get(frozenset(known.decisions), {}) | given)

    def save(self, path: Path) -> None:
        """Write the settings as JSON."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read settings that :meth:`save` wrote.

        Raises:
            ValueError: if the file has a field that does not exist.
        """
        data = json.loads(path.read_text(encoding="utf-8"))
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"{path}: unknown setting {', '.join(unknown)}")
        return cls(**data)


def _load(scenario: str) -> Scenario:
    from gpuyard.envs.scenario import load  # here, for it takes longer than all of this module

    return load(scenario)
