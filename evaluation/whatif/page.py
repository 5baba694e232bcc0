"""A what-if as one HTML page that needs nothing else: no server, no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

import numpy as np

from ..metrics import metric
from ..statistics import mean_interval
from ..tables import Table
from .answer import Objective, Row
from .chart import COLOURS, Point, chart
from .fleets import shown_columns
from .table import metrics_of, table


def page(
    title: str, command: str, found: Sequence[Row], wanted: Sequence[Objective],
    answer: Sequence[str], accuracy: Sequence[str], sources: Table,
) -> str:  # fmt: skip
    """Return the page; the same rows give the same text.

    Args:
        title: what was varied.
        command: that made it.
        found: the fleets under their policies.
        wanted: the objectives.
        answer: sentences on the fleet to take.
        accuracy: sentences on the constants behind it.
        sources: a table of these.
    """
    style = (files(__package__) / "assets" / "report.css").read_text(encoding="utf-8")
    verdicts = ("met", "open", "missed")
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>\n{style}</style></head><body>",
            f"<h1>{escape(title)}</h1>\n<code>{escape(command)}</code>",
            f'<section class="answer" id="answer"><h2>Answer</h2>{_paragraphs(answer)}</section>',
            _panels(found, wanted),
            '<section><h2>Fleets: mean over seeds ± 95 % interval</h2><div class="scroll">',
            _table(table(found), "fleets", marked=verdicts),
            "</div></section>",
            f'<section id="accuracy"><h2>Accuracy</h2>{_paragraphs(accuracy)}<div class="scroll">',
            _table(sources, "sources", kind="words"),
            "</div></section></body></html>\n",
        ]
    )


def _panels(found: Sequence[Row], wanted: Sequence[Objective]) -> str:
    """Return a panel per metric, and the legend of all."""
    first, *others = shown_columns([row.fleet for row in found])
    bounds = {objective.key: objective.bound for objective in wanted}
    names: dict[str, None] = {}
    panels = []
    for key in metrics_of(found):
        shown = metric(key)
        series: dict[str, list[Point]] = {}
        for row in found:
            values = row.played.metrics.get(key, np.array([np.nan])) * shown.scale
            rest = [f"{path}={row.fleet.changes[path]}" for path in others]
            name = ", ".join([row.played.policy, *rest])
            names.setdefault(name)
            if np.isnan(values).all():
                continue
            interval = mean_interval(values)
            half = interval.half_width if np.isfinite(interval.half_width) else 0.0
            point = Point(row.fleet.changes[first], interval.mean, half)
            series.setdefault(name, []).append(point)
        if series:
            bound = bounds[key] * shown.scale if key in bounds else None
            picture = chart({n: series.get(n, []) for n in names}, shown.label, first, bound)
            panels.append(f"<div><h3>{escape(shown.label)}</h3>{picture}</div>")
    keys = "".join(
        f'<span class="c{number % COLOURS}"><i></i>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    inner = "".join(panels)
    return f'<section><div class="panels">{inner}</div><div class="legend">{keys}</div></section>'


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _table(rows: Table, name: str, kind: str = "", marked: Sequence[str] = ()) -> str:
    """Return a table; cells of one of the ``marked`` words have it as their class."""
    head, *body = rows
    lines = [f'<table id="{name}" class="{kind}">']
    lines.append("<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>")
    for row in body:
        cells = (
            f'<td class="{cell}">{cell}</td>' if cell in marked else f"<td>{escape(cell)}</td>"
            for cell in row
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table>"])
