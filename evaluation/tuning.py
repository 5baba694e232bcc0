"""Search over the options of a policy: the bar that learning has to pass.

Every sample of a generation plays the same training episodes, every generation others; none of them
is a held-out one. The file that is saved after each generation is both the policy, its options at
the mean of the search, and all that the search needs to go on.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuyard.baselines import make
from gpuyard.baselines.cost import TERMS
from gpuyard.baselines.linear import features
from gpuyard.baselines.options import hints_of, split
from gpuyard.baselines.registry import COMPOSE, FILE, class_of
from gpuyard.baselines.saved import FORMAT, read

from .report import FIRST_SEED
from .rollout import rollout
from .search import CrossEntropy, Effort
from .sweep.executors import executor

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

LINEAR, COST = "linear", "cost"
"""Names under which weights are tuned: of a linear score of all columns, or of few terms."""


@dataclass(frozen=True)
class Space:
    """What is searched: named numbers, and the options that they stand for.

    Attributes:
        policy: a name, perhaps with options that stay as they are.
        names: of the numbers.
        whole: of those, the ones that are whole numbers.
        start: where to begin.
        spread: how far to look at first.
    """

    policy: str
    names: tuple[str, ...]
    whole: frozenset[str]
    start: tuple[float, ...]
    spread: tuple[float, ...]

    def options(self, values: np.ndarray) -> dict[str, Any]:
        """Return the keyword arguments of the policy for ``values``, shape (D,)."""
        pairs = dict(zip(self.names, values.tolist(), strict=True))
        if self.policy in (LINEAR, COST):
            return {"weights": pairs}
        return {name: round(v) if name in self.whole else max(v, 0.0) for name, v in pairs.items()}


def space_of(policy: str, scenario: Scenario) -> Space:
    """Return what is searched: the numbers among a policy's options that its name does not set.

    The search begins at their defaults and looks as far as those are from 0, at least 1 (for the
    linear score: at 0 and as far as 1 for every feature of the scenario's candidates; for the cost
    as far as 0.5 from :data:`.cost.TERMS`).

    Raises:
        ValueError: the policy has no such options, or the scenario asks for several decisions.
    """
    if policy.startswith(COMPOSE) or policy.endswith(FILE):
        raise ValueError(f"tune takes one policy by its name, not {policy!r}")
    if policy == LINEAR:
        if len(scenario.decisions) != 1:
            asked = ", ".join(sorted(scenario.decisions))
            raise ValueError(f"linear is for one kind of decision; {scenario.name!r} asks: {asked}")
        names = tuple(features(scenario.layout))
        return Space(policy, names, frozenset(), (0.0,) * len(names), (1.0,) * len(names))
    if policy == COST:
        return Space(policy, tuple(TERMS), frozenset(), tuple(TERMS.values()), (0.5,) * len(TERMS))
    factory, given = class_of(policy), split(policy)[1]
    hints = hints_of(factory)
    parameters = inspect.signature(factory).parameters
    numbers = {
        name: float(parameter.default)
        for name, parameter in parameters.items()
        if hints.get(name) in (int, float) and name not in given
    }
    if not numbers:
        raise ValueError(f"{policy!r} has no numeric options to tune; try {LINEAR}")
    whole = frozenset(name for name in numbers if hints[name] is int)
    spread = tuple(max(abs(default), 1.0) for default in numbers.values())
    return Space(policy, tuple(numbers), whole, tuple(numbers.values()), spread)


def tune(
    policy: str,
    scenario: Scenario,
    effort: Effort,
    path: Path,
    resume: bool = False,
    processes: int = 1,
) -> Iterator[tuple[int, float, float]]:
    """Search, saving to ``path`` after every generation.

    Args:
        policy: a name, or ``linear``.
        scenario: the world.
        effort: how much.
        path: of the JSON file; see :mod:`gpuyard.baselines.saved`.
        resume: go on from that file.
        processes: that play; what is found does not depend on their number.

    Yields:
        The generation's number, and the mean reward per episode of the search's mean and of its
        best sample.

    Raises:
        ValueError: the policy cannot be tuned, the file is of another search, or episodes would
            reach the held-out seeds.
        FileExistsError: there is such a file, and it is not to be resumed.
    """
    last = effort.seed + effort.generations * effort.episodes
    if last > FIRST_SEED:
        raise ValueError(
            f"seed + generations * episodes = {last} must be at most {FIRST_SEED}: "
            "seeds from there up are held out for evaluation"
        )
    space = space_of(policy, scenario)
    make(policy, **space.options(np.array(space.start))).check(scenario)
    if resume:
        search = _loaded(path, space, scenario, effort)
    elif path.exists():
        raise FileExistsError(f"{path} exists; --resume goes on from it, --out names another")
    else:
        search = CrossEntropy.around(np.array(space.start), np.array(space.spread), effort.seed)
    with ExitStack() as stack:
        play: Callable[..., Iterable[float]] = map
        if processes > 1:
            play = stack.enter_context(executor("local", processes)).map
        while search.generation < effort.generations:
            samples = search.ask(effort.samples)
            first = effort.seed + search.generation * effort.episodes
            seeds = first + np.arange(effort.episodes)
            reward = partial(_reward, space, scenario, seeds)
            scores = np.array(list(play(reward, samples)))
            search.tell(samples, scores)
            _save(path, space, search, scenario, effort)
            yield search.generation, float(scores[0]), float(scores.max())


def _reward(space: Space, scenario: Scenario, seeds: np.ndarray, values: np.ndarray) -> float:
    """Return the mean reward of a sample; minus infinity where the policy refuses its options."""
    try:
        policy = make(space.policy, **space.options(values))
    except ValueError:
        return -np.inf
    return float(rollout(space.policy, policy, scenario, seeds).metrics["reward"].mean())


def _save(
    path: Path, space: Space, search: CrossEntropy, scenario: Scenario, effort: Effort
) -> None:
    """Write the file; it is whole at any moment."""
    saved = {
        "format": FORMAT,
        "policy": space.policy,
        "options": space.options(search.mean),
        "search": {
            "scenario": scenario.name,
            "generation": search.generation,
            "samples": effort.samples,
            "episodes": effort.episodes,
            "seed": search.seed,
            "mean": dict(zip(space.names, search.mean.tolist(), strict=True)),
            "spread": dict(zip(space.names, search.spread.tolist(), strict=True)),
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(saved, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _loaded(path: Path, space: Space, scenario: Scenario, effort: Effort) -> CrossEntropy:
    """Return the search of a file, if it is the one that is asked for."""
    saved = read(path)
    state = saved.get("search")
    if not isinstance(state, dict):
        raise ValueError(f'{path}: no "search" to go on from')
    mine = {"scenario": scenario.name, "samples": effort.samples, "episodes": effort.episodes}
    wanted = {"policy": space.policy, **mine, "seed": effort.seed}
    there = {"policy": saved["policy"], **state}
    for field, value in wanted.items():
        if there.get(field) != value:
            raise ValueError(f"{path}: its {field} is {there.get(field)!r}, not {value!r}")
    spread = np.array(space.spread)
    search = CrossEntropy.around(np.array(space.start), spread, effort.seed)
    try:
        search.mean = np.array([float(state["mean"][name]) for name in space.names])
        search.spread = np.array([float(state["spread"][name]) for name in space.names])
        search.generation = int(state["generation"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: this search lacks {error}; start a new one") from None
    return search
