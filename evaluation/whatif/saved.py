"""The files of a what-if: a page, the tables, and the numbers of every episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import tables
from ..report import sources
from .answer import Objective, Row
from .page import page
from .table import table


def save(
    folder: Path, title: str, command: str, found: Sequence[Row], wanted: Sequence[Objective],
    answer: Sequence[str], accuracy: Sequence[str],
) -> None:  # fmt: skip
    """Write ``report.html``, ``results.md`` and ``results.csv``.

    Args:
        folder: created if missing.
        title: what was varied.
        command: that made it.
        found: the fleets under their policies.
        wanted: the objectives.
        answer: sentences on the fleet to take.
        accuracy: sentences on the constants behind it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = sources(*{row.fleet.world.name: row.fleet.scenario for row in found}.values())
    written = [f"# {title}", f"`{command}`", *answer, tables.markdown(table(found))]
    written += ["## What it is computed from", *accuracy, tables.markdown(facts)]
    (folder / "results.md").write_text("\n\n".join(written) + "\n", encoding="utf-8")
    tables.write_csv([row.played for row in found], folder / "results.csv")
    text = page(title, command, found, wanted, answer, accuracy, facts)
    (folder / "report.html").write_text(text, encoding="utf-8")
