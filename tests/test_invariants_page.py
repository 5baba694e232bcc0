"""The page of invariants: each has what it must have, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs" / "invariants.md").read_text()
HEADINGS = re.findall(r"^### INV-(\d+): (.+)$", PAGE, re.MULTILINE)
ENTRIES = dict(re.findall(r"^### INV-(\d+): .+\n((?:(?!#).*\n)*)", PAGE, re.MULTILINE))
PART = re.compile(r"^- \*\*(.+?):\*\*\s+((?:.+\n)+?)(?=- \*\*|\n|\Z)", re.MULTILINE)
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)


def functions(file: str) -> set[str]:
    """Return the names of a file's functions, read without importing it."""
    if not (HERE / file).exists():
        return set()
    tree = ast.parse((HERE / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    known = {file: functions(file) for file, _ in NAMED}
    missing = {f"{file}::{name}" for file, name in NAMED if name not in known[file]}
    assert len(NAMED) > 200 and not missing, sorted(missing)


def test_numbers_are_consecutive() -> None:
    numbers = sorted(int(number) for number, _ in HEADINGS)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({title for _, title in HEADINGS}) == len(numbers)
    assert {int(number) for number in re.findall(r"INV-(\d+)", PAGE)} == set(numbers)


@pytest.mark.parametrize("number", [number for number, _ in HEADINGS])
def test_an_invariant_says_what_why_and_by_which_tests(number: str) -> None:
    parts = dict(PART.findall(ENTRIES[number]))
    assert list(parts)[:3] == ["Statement", "Why", "Held by"]
    assert list(parts)[3:] in ([], ["History"])
    for name, text in parts.items():
        assert text.strip().endswith("." if name != "Held by" else "`")
    held = re.sub(r"\s", "", parts["Held by"])
    assert all(re.fullmatch(r"`test_\w+\.py::test_\w+`", each) for each in held.split(","))
