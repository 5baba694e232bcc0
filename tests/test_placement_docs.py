"""The page of the placement environment tells the columns as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard.envs.engine.gangs.arrays import INFO_KEYS
from gpuyard.envs.observation import PLACEMENT_TABLES

PAGE = (Path(__file__).parents[1] / "docs" / "placement.md").read_text()


@pytest.mark.parametrize("key", PLACEMENT_TABLES)
def test_every_column_is_on_the_page(key):
    section = PAGE[PAGE.index(f"\n`{key}`") :]
    for at, column in enumerate(PLACEMENT_TABLES[key]):
        stored = "x" if column.scale is None else f"x / (x + {column.scale:g})"
        row = f"| {at} | `{column.name}` | {column.unit} | {stored} | {column.meaning} |"
        assert row in section


def test_every_info_key_is_on_the_page():
    for key in INFO_KEYS:
        assert f"`{key}`" in PAGE
