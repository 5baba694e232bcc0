"""Policies of other packages: registered by their metadata, listed and compared like our own.

An installed package says in its ``pyproject.toml`` under which name which class stands; a dot
stands for the slash of our names, which entry points may not all have::

    [project.entry-points."gpuyard.baselines"]
    "routing.mine" = "my_package.rules:MyRouter"     # routing/mine
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

GROUP = "gpuyard.baselines"


@cache
def found() -> dict[str, str]:
    """Return where the class of each registered name is, ``"module:Class"``; loads none."""
    entries = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    return {entry.name.replace(".", "/", 1): entry.value for entry in entries}
