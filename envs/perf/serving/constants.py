"""Looks up kernel constants: own row of a GPU, else the row of the GPU it is like."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...hardware.catalogue import GPU, gpu
from ...hardware.dtypes import DTYPES

Constants = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Source:
    """Where one set of constants is from.

    Attributes:
        kernel: table of ``constants.toml``.
        gpu: whom it was looked up for.
        key: format or number of GPUs; "" if the table has none.
        of: whose constants they are.
        confidence: measured, calibrated (on whole serving runs), scaled (from related
            measurements) or analogy (neither).
        source: the data.
    """

    kernel: str
    gpu: str
    key: str
    of: str
    confidence: str
    source: str


_used: ContextVar[set[Source] | None] = ContextVar("used", default=None)


@contextmanager
def recorded() -> Iterator[set[Source]]:
    """Collect the sources of all constants that are looked up inside."""
    used: set[Source] = set()
    token = _used.set(used)
    try:
        yield used
    finally:
        _used.reset(token)


def constants(
    kernel: str, device: GPU, key: str | None = None, variant: str | None = None
) -> Constants:
    """Return the constants of ``kernel`` on ``device``; ``of`` names the GPU they are from.

    Args:
        kernel: a top-level table of ``constants.toml``.
        device: the GPU; without a row of its own it takes that of ``device.like`` (and so on, at
            last ``any``) with the changes under ``[analogy]``, and ``confidence`` says "analogy".
        key: row within the GPU's table, a dtype or a number of GPUs. ``fp16`` reads ``bf16``, and
            so does a format that has no row anywhere, ``int8`` before that ``fp8``. The result's
            ``key`` says which.
        variant: prefer rows ``KEY_VARIANT``, for constants that differ by serving stack, which
            ``[analogy]`` leaves as they are.

    Raises:
        KeyError: if no related GPU has such a row.
    """
    table = _tables()[kernel]
    wanted = "bf16" if key == "fp16" else key
    special = f"{wanted}_{variant}" if variant else ""
    choices = [wanted, *_LIKE.get(str(key), ()), "bf16"] if key in DTYPES else [wanted]
    for choice in dict.fromkeys(choices):
        changes: dict[str, Any] = {}
        for name in _family(device):
            rows = table.get(name, {})
            found = special if choice == wanted and special in rows else choice
            row = rows if found is None else rows.get(found, {})
            if row:
                borrowed = name != device.name or choice != wanted
                confidence = "analogy" if borrowed else row["confidence"]
                used = _used.get()
                if used is not None:
                    used.add(
                        Source(kernel, device.name, key or "", name, confidence, row["source"])
                    )
                changed = row if found == special else {**row, **changes}
                return {**changed, "confidence": confidence, "of": name, "key": found}
            changes = {**_tables()["analogy"].get(name, {}).get(kernel, {}), **changes}
    raise KeyError(f"no {kernel} constants for GPU {device.name!r} ({key}) in constants.toml")


def calibration(row: Constants, key: str) -> tuple[float, float]:
    """Return factors for the fixed and the size-dependent part of a kernel inside an engine.

    Args:
        row: the kernel's constants; the factors belong to the GPU they are ``of``.
        key: the weight format of a GEMM's row, ``allreduce``, or ``decode`` and the KV format, with
            ``_64`` for heads of at most 64 elements.
    """
    factors = _tables()["calibration"].get(row["of"], {})
    found = factors.get(key, {"fixed": 1.0, "rest": 1.0})
    return found["fixed"], found["rest"]


def whole_table(name: str) -> Constants:
    """Return a top-level table of ``constants.toml``."""
    return _tables()[name]


_LIKE = {"int8": ("fp8",)}
"""Formats whose rows come near, where one has none."""


def _family(device: GPU) -> Iterator[str]:
    """Yield the GPU's name, the names it is like, then ``any``."""
    yield device.name
    name, like = device.name, device.like
    while like != name:
        yield like
        name, like = like, gpu(like).like
    yield "any"


@cache
def _tables() -> dict[str, Any]:
    with (Path(__file__).parent / "constants.toml").open("rb") as file:
        return tomllib.load(file)
