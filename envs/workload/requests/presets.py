"""Named generators, put together from the fitted parameters in ``fits.toml``.

| name | what | prefixes |
|---|---|---|
| `chat` | conversations of applications with system prompts, clients of uneven size | shared |
| `day` | `chat` over a weekday of the Azure traces, from a random hour on | shared |
| `azure-conv` | single requests of a chat service, rate drifts | none |
| `azure-code` | single requests of a code assistant, in bursts with pauses | none |
| `burst` | the lengths of `azure-conv` arriving like `azure-code` | none |
| `mooncake-conv` | long-context conversations, human think times, one system prompt | shared |
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from importlib.resources import files
from typing import Any

from .generator import Generator
from .parameters import Bursts, Clients, Conversation, Modulation

_CHAT_CLIENTS = 16
_CHAT_SYSTEM_TOKENS = 512  # assumed median; Mooncake's conversations share one block of 512
_CHAT_SYSTEM_SIGMA = 0.6  # assumed


@cache
def fits() -> dict[str, Any]:
    """Return the fitted parameters, by kind and name, each with its ``source``."""
    return tomllib.loads((files(__package__) / "fits.toml").read_text("utf-8"))


def hour_profile(name: str) -> tuple[float, ...]:
    """Return a fitted daily profile: relative rate per hour.

    Raises:
        ValueError: there is no profile of that name.
    """
    profiles = fits()["profiles"]
    if name not in profiles:
        raise ValueError(f"unknown hour profile {name!r}; choose one of {', '.join(profiles)}")
    return tuple(profiles[name]["hours"])


def preset(name: str, /, **changes: Any) -> Generator:
    """Return a named generator.

    Args:
        name: a key of :data:`PRESETS`.
        changes: fields of :class:`Generator` that are to differ, usually ``rate_per_s`` and
            ``max_tokens``. As in a scenario file, a part may be a table of its fields, lengths the
            name of a fitted sketch, and an hour profile the name of a fitted one.

    Raises:
        ValueError: there is no generator of that name, or no such field.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown workload generator {name!r}; choose one of {', '.join(PRESETS)}")
    return _changed(PRESETS[name](), changes, f"workload generator {name!r}")


_PARTS = {
    "clients": Clients,
    "bursts": Bursts,
    "modulation": Modulation,
    "conversation": Conversation,
}
_SKETCHES = ("prompt", "output", "follow_up")


def _changed(old: Any, changes: Mapping[str, Any], where: str) -> Any:
    """Return a dataclass with some fields changed from plain values."""
    known = [field.name for field in fields(old)]
    unknown = sorted(changes.keys() - set(known))
    if unknown:
        raise ValueError(f"{where} has no field {unknown[0]!r}; choose from {', '.join(known)}")
    return replace(old, **{k: _value(getattr(old, k), k, v, where) for k, v in changes.items()})


def _value(old: Any, field: str, value: Any, where: str) -> Any:
    """Return the value of a field from what a scenario file can say."""
    if field in _PARTS and isinstance(value, Mapping):
        if old is not None:
            return _changed(old, value, f"{where}, {field}")
        try:
            return _PARTS[field](**_plain(value))
        except TypeError as error:
            raise ValueError(f"{where}, {field}: {error}") from error
    if field in _PARTS and value is not None and not isinstance(value, _PARTS[field]):
        names = ", ".join(item.name for item in fields(_PARTS[field]))
        raise ValueError(f"{where}: {field} = {value!r} must be a table of {names}")
    return _plain({field: value})[field]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Look up names of fits and turn lists into tuples."""
    found = {}
    for field, value in values.items():
        if isinstance(value, str) and field == "hour_profile":
            value = hour_profile(value)
        elif isinstance(value, str) and field in _SKETCHES:
            value = _knots(value)
        found[field] = tuple(value) if isinstance(value, list) else value
    return found


def _fitted(kind: str, name: str) -> dict[str, Any]:
    """Return one fit's numbers as constructor arguments."""
    values = {key: value for key, value in fits()[kind][name].items() if key != "source"}
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def _knots(name: str) -> tuple[float, ...]:
    sketches = fits()["lengths"]
    if name not in sketches:
        raise ValueError(f"unknown length sketch {name!r}; choose one of {', '.join(sketches)}")
    return tuple(sketches[name]["knots"])


def _azure_conv() -> Generator:
    return Generator(
        prompt=_knots("azure-conv-prompt"),
        output=_knots("azure-conv-output"),
        rate_per_s=5.9,
        max_tokens=16_384,
        modulation=Modulation(**_fitted("modulation", "azure-conv")),
    )


def _azure_code() -> Generator:
    return Generator(
        prompt=_knots("azure-code-prompt"),
        output=_knots("azure-code-output"),
        rate_per_s=2.98,
        max_tokens=16_384,
        bursts=Bursts(**_fitted("bursts", "azure-code")),
    )


def _burst() -> Generator:
    return replace(_azure_conv(), bursts=_azure_code().bursts, modulation=Modulation())


def _mooncake_conv() -> Generator:
    return Generator(
        prompt=_knots("mooncake-first"),
        output=_knots("mooncake-output"),
        rate_per_s=3.29,
        max_tokens=126_000,
        clients=Clients(system_tokens=512),
        modulation=Modulation(**_fitted("modulation", "mooncake")),
        conversation=Conversation(
            follow_up=_knots("mooncake-follow-up"), **_fitted("conversation", "mooncake")
        ),
        prefix_block_tokens=512,
    )


def _chat() -> Generator:
    return Generator(
        prompt=_knots("sharegpt-user"),
        output=_knots("sharegpt-output"),
        rate_per_s=8.0,
        max_tokens=8192,
        clients=Clients(
            count=_CHAT_CLIENTS,
            system_tokens=_CHAT_SYSTEM_TOKENS,
            system_sigma=_CHAT_SYSTEM_SIGMA,
            **_fitted("clients", "servegen"),
        ),
        conversation=Conversation(
            follow_up=_knots("sharegpt-user"), **_fitted("conversation", "chat")
        ),
        prefix_block_tokens=128,
    )


def _day() -> Generator:
    return replace(_chat(), modulation=Modulation(hour_profile=hour_profile("azure-conv-weekday")))


PRESETS = {
    "chat": _chat,
    "day": _day,
    "azure-conv": _azure_conv,
    "azure-code": _azure_code,
    "burst": _burst,
    "mooncake-conv": _mooncake_conv,
}
