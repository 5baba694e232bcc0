"""Which policies play on which scenarios: what ``--policies`` and ``--scenarios`` stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from gpuyard.baselines import Policy, decides, make, names, options, registry
from gpuyard.envs.scenario import Scenario, load


def scenarios(given: str) -> list[Scenario]:
    """Return the scenarios of a list with commas, under names of their own.

    Raises:
        ValueError: one is given twice, or cannot be read.
    """
    parts = given.split(",")
    return told_apart([load(name) for name in parts], parts)


def told_apart(loaded: Sequence[Scenario], given: Sequence[str]) -> list[Scenario]:
    """Return scenarios under names of their own: those of one name get their folder's in front.

    Raises:
        ValueError: one is given twice.
    """
    called = [scenario.name for scenario in loaded]
    for depth in range(1, max(len(Path(name).resolve().parts) for name in given)):
        if len(set(called)) == len(called):
            return [replace(s, name=name) for s, name in zip(loaded, called, strict=True)]
        twins = {name for name in called if called.count(name) > 1}
        called = [
            "-".join([*Path(path).resolve().parts[-depth - 1 : -1], scenario.name])
            if name in twins
            else name
            for name, path, scenario in zip(called, given, loaded, strict=True)
        ]
    raise ValueError(f"--scenarios: {', '.join(given)} names one scenario twice; name it once")


def baselines_for(loaded: Sequence[Scenario]) -> list[str]:
    """Return the names of all baselines for just the decisions of one of the scenarios."""
    asked = {scenario.decisions for scenario in loaded}
    return [name for name in names() if decides(name) in asked]


def shown(chosen: Sequence[str], loaded: Sequence[Scenario]) -> dict[str, str]:
    """Return names by what to show: without their family if the scenarios have but one."""
    families = {name.partition("/")[0] for name in baselines_for(loaded)}
    family = f"{families.pop()}/" if len(families) == 1 else ""
    return {name.removeprefix(family): name for name in chosen}


def policies(chosen: Sequence[str], loaded: Sequence[Scenario]) -> dict[str, Policy]:
    """Return policies by the names to show."""
    return {short: policy(name) for short, name in shown(chosen, loaded).items()}


def policy(name: str) -> Policy:
    """Return a policy by name, of a file of options (.json) or of a trained model.

    Raises:
        ValueError: unknown name, unknown option, or a model file with pickles in it of which it is
            not said that it may be read (``model.zip?allow_pickle=true``).
    """
    if not is_model(name):
        return make(name)
    from gpuyard.agents.policy import LearnedPolicy

    path, texts = options.split(name)
    load: Callable[..., LearnedPolicy] = partial(LearnedPolicy.load, path)
    return load(**options.parse(path, load, texts))


def sources(name: str) -> list[Path]:
    """Return the files that a policy comes from beside the package's, as :func:`policy` takes it.

    Raises:
        ValueError: unknown name.
    """
    return [Path(options.split(name)[0])] if is_model(name) else registry.sources(name)


def is_model(name: str) -> bool:
    """Tell whether a name is that of a trained model's file, perhaps with options."""
    return name.partition("?")[0].endswith((".safetensors", ".zip"))
