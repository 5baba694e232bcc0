"""The pages of the environments tell columns and metrics as they are."""

from __future__ import annotations

import inspect
from itertools import dropwhile, takewhile
from pathlib import Path

import pytest

from gpuyard.envs.cluster_env import ClusterEnv
from gpuyard.envs.engine.decide.columns import INFO
from gpuyard.envs.observation import TABLES, Layout, column_table

PAGES = {
    "route": inspect.cleandoc(ClusterEnv.__doc__ or ""),
    "place": (Path(__file__).parents[1] / "docs" / "placement.md").read_text(),
}


@pytest.mark.parametrize("key", TABLES)
@pytest.mark.parametrize("block", PAGES)
def test_every_column_is_on_the_page(block, key):
    page, width = PAGES[block], len(Layout((block,)).columns(key))
    _, _, section = page.partition(f"\n`{key}`")
    lines = dropwhile(lambda line: not line.startswith("|"), section.splitlines())
    shown = list(takewhile(lambda line: line.startswith("|"), lines))
    assert shown == column_table(key, block).splitlines()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{key}` |"))
    assert f"{width})" in row or f"{width},)" in row


@pytest.mark.parametrize("block", PAGES)
def test_every_info_key_is_on_the_page(block):
    for key in INFO[block]:
        assert f"`{key}`" in PAGES[block]


def test_a_table_by_hand():
    lines = column_table("candidates", "route").splitlines()
    assert lines[3] == (
        "| 1 | `waiting` | request | x / (x + 8) | requests queued at the replica (reported) |"
    )
