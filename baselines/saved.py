"""A policy in a file: its name and its options, as ``gpuyard tune`` saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FORMAT = "gpuyard-policy-1"
"""What the field ``format`` of every such file says."""


def read(path: str | Path) -> dict[str, Any]:
    """Return the contents of a saved policy.

    Returns:
        ``policy``: its name, ``options``: keyword arguments, and whatever else is in the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no saved policy; the message says what is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such policy file")
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise ValueError(f'{path}: not a saved policy: "format" must be "{FORMAT}"')
    for field, kind, what in (("policy", str, "a name"), ("options", dict, "an object")):
        if not isinstance(saved.get(field), kind):
            raise ValueError(f'{path}: "{field}" = {saved.get(field)!r} must be {what}')
    if saved["policy"].endswith(".json"):
        raise ValueError(f'{path}: "policy" = {saved["policy"]!r} must not be a file again')
    return saved
