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


def preset(name: str, **changes: Any) -> Generator:
    """Return a named generator.

    Args:
        name: a key of :data:`PRESETS`.
        changes: fields of :class:`Generator` that are to differ, usually ``rate_per_s`` and
            ``max_tokens``.

    Raises:
        ValueError: there is no generator of that name, or no such field.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown workload generator {name!r}; choose one of {', '.join(PRESETS)}")
    known = {field.name for field in fields(Generator)}
    unknown = sorted(changes.keys() - known)
    if unknown:
        raise ValueError(
            f"workload generator {name!r} has no parameter {unknown[0]!r}; "
            f"choose from {', '.join(sorted(known))}"
        )
    return replace(PRESETS[name](), **changes)


def _fitted(kind: str, name: str) -> dict[str, Any]:
    """Return one fit's numbers as constructor arguments."""
    values = {key: value for key, value in fits()[kind][name].items() if key != "source"}
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def _knots(name: str) -> tuple[float, ...]:
    return tuple(fits()["lengths"][name]["knots"])


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
