"""The pages of the environments tell columns and metrics as they are.

``python tests/test_column_docs.py`` writes the tables of columns into the pages again, and the page
of routing, which is the docstring of the environment.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from gpuyard.envs.cluster_env import ClusterEnv
from gpuyard.envs.engine.decide.columns import INFO
from gpuyard.envs.observation import TABLES, Layout, column_table

ROOT = Path(__file__).parents[1]
PAGES = {
    "route": ROOT / "envs" / "cluster_env.py",
    "place": ROOT / "docs" / "placement.md",
    "scale": ROOT / "docs" / "cluster.md",
}
ROUTING = ROOT / "docs" / "routing.md"
ROWS = re.compile(r"(?: *\|[^\n]*\n)+")


def rewritten(page: str, block: str) -> str:
    """Return the page with the columns of one kind of decisions as they are."""
    for key in TABLES:
        width = len(Layout((block,)).columns(key))
        shape = rf"(\n *\| `{key}` \| \((?:\w+, )?)\d+(,?\))"
        page, shapes = re.subn(shape, rf"\g<1>{width}\2", page)
        before, heading, after = re.split(rf"(\n *`{key}`[^\n]*\n\n)", page, maxsplit=1)
        indent = " " * (len(after) - len(after.lstrip(" ")))
        table = "".join(f"{indent}{line}\n" for line in column_table(key, block).splitlines())
        rows = ROWS.match(after)
        assert shapes == 1 and rows, f"no table of {key}"
        page = before + heading + table + after[rows.end() :]
    return page


@pytest.mark.parametrize("block", PAGES)
def test_every_column_is_on_the_page(block):
    page = PAGES[block].read_text()
    assert page == rewritten(page, block), "write it again: python tests/test_column_docs.py"


@pytest.mark.parametrize("key", TABLES)
@pytest.mark.parametrize("block", PAGES)
def test_a_missing_row_is_noticed(block, key):
    page = PAGES[block].read_text()
    last = column_table(key, block).splitlines()[-1]
    assert page.count(last) == 1
    assert rewritten(page.replace(last, "| 99 | `other` |"), block) == page


@pytest.mark.parametrize("block", PAGES)
def test_every_info_key_is_on_the_page(block):
    page = PAGES[block].read_text()
    for key in INFO[block]:
        assert f"`{key}`" in page


def routing_page() -> str:
    """Return the docstring of the environment as a page: below a title, code names as they are."""
    text = inspect.cleandoc(ClusterEnv.__doc__ or "")
    text = re.sub(r":(?:class|mod):`~?\.?([\w.]+)`", r"`\1`", text)
    text = re.sub(r"`docs/(\w+)\.md`", r"[\1](\1.md)", text)
    return f"# Routing\n\n{text}\n"


def test_the_page_of_routing_is_the_docstring():
    written = ROUTING.read_text("utf-8")
    assert written == routing_page(), "write it again: python tests/test_column_docs.py"


def test_a_table_by_hand():
    lines = column_table("candidates", "route").splitlines()
    assert lines[3] == (
        "| 1 | `waiting` | request | x / (x + 8) | requests queued at the replica (reported) |"
    )


if __name__ == "__main__":
    for decision, path in PAGES.items():
        path.write_text(rewritten(path.read_text(), decision))
    ROUTING.write_text(routing_page(), "utf-8")
