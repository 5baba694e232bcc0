"""The tables of a scenario as TOML text, which Python's standard library only reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml(table: Mapping[str, Any]) -> str:
    """Return TOML text that reads as this table.

    Plain values come first, then tables and lists of tables under headings of their own; what lies
    deeper stands inline.

    Raises:
        TypeError: a value that no scenario has, such as a date.
    """
    plain, headed = [], []
    for key, value in table.items():
        if isinstance(value, dict):
            headed.append(_section(f"[{key_text(key)}]", value))
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            headed += [_section(f"[[{key_text(key)}]]", item) for item in value]
        else:
            plain.append(f"{key_text(key)} = {value_text(value)}\n")
    return "\n".join(["".join(plain), *headed] if plain else headed)


def _section(heading: str, table: Mapping[str, Any]) -> str:
    return heading + "\n" + "".join(f"{key_text(k)} = {value_text(v)}\n" for k, v in table.items())


def key_text(key: str) -> str:
    """Return a key as TOML writes it."""
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    """Return a basic string: JSON's, but for the one control character that JSON leaves as is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def value_text(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key_text(k)} = {value_text(v)}" for k, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    raise TypeError(f"{value!r} has no place in a scenario")
