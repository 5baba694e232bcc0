"""The wheel's build hook: the folders beside ``gpuyard/`` are its subpackages.

A wheel gets them as real folders. An editable install gets none: the links in ``gpuyard/`` lead to
them already, and a second copy of the sources would only go stale.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = ("envs", "agents", "baselines", "evaluation")


class Folders(BuildHookInterface):
    """Puts the folders where their imports expect them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folders to a wheel that is no editable one."""
        if version == "standard":
            build_data["force_include"] |= {name: f"gpuyard/{name}" for name in FOLDERS}
