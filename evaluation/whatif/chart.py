"""A line chart as inline SVG: one panel of a metric against the first varied field.

Colours are classes and custom properties of the page's style, so that light and dark need no
second picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40
COLOURS = 8
"""Of lines in the page's style; further ones begin again, dashed."""

TICKS = 4


@dataclass(frozen=True)
class Point:
    """A mean with its interval; the halves are 0 where there is none."""

    x: Any
    mean: float
    half: float


def chart(series: dict[str, list[Point]], title: str, below: str, bound: float | None) -> str:
    """Return the SVG of a panel.

    Args:
        series: points by the name of their line, in the order of the horizontal axis.
        title: what is drawn, with its unit.
        below: what the horizontal axis is.
        bound: a level to mark; None: none.
    """
    places = _places([point.x for line in series.values() for point in line])
    low, high = _range(series, bound)
    step = _nice((high - low) / TICKS)
    low, high = step * math.floor(low / step), step * math.ceil(high / step)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for i in range(round((high - low) / step) + 1):
        level = low + i * step
        parts.append(_level("grid", y(level)))
        parts.append(_text(LEFT - 6, y(level) + 4, f"{level:.6g}", "end"))
    every = math.ceil(len(places) / 8)
    for x, place in list(places.items())[::every]:
        parts.append(_text(place, HEIGHT - BOTTOM + 16, x, "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, below, "middle"))
    if bound is not None:
        parts.append(_level("bound", y(bound)))
    for number, (name, line) in enumerate(series.items()):
        parts.append(_line(name, line, number, places, y))
    return "".join([*parts, "</svg>"])


def _line(name: str, line: Sequence[Point], number: int, places: dict[str, float], y: Any) -> str:
    """Return a line with its points and intervals; each point says what it is when pointed at."""
    dashed = " dashed" if number >= COLOURS else ""
    parts = [f'<g class="line c{number % COLOURS}{dashed}">']
    path = " ".join(f"{places[str(p.x)]:.1f},{y(p.mean):.1f}" for p in line)
    parts.append(f'<polyline points="{path}"/>')
    for point in line:
        x = places[str(point.x)]
        if point.half:
            ends = f'y1="{y(point.mean - point.half):.1f}" y2="{y(point.mean + point.half):.1f}"'
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" {ends}/>')
        said = f"{name}, {point.x}: {point.mean:.5g} ± {point.half:.2g}"
        tip = f"<title>{escape(said)}</title>"
        parts.append(f'<circle cx="{x:.1f}" cy="{y(point.mean):.1f}" r="3">{tip}</circle>')
    return "".join([*parts, "</g>"])


def _places(values: Sequence[Any]) -> dict[str, float]:
    """Return where each value stands across: numbers to scale, all else side by side."""
    distinct = list(dict.fromkeys(values))
    numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in distinct)
    along = [float(v) for v in distinct] if numeric else [float(i) for i in range(len(distinct))]
    least, span = min(along), (max(along) - min(along)) or 1.0
    inner = WIDTH - LEFT - RIGHT - 32
    found = {
        str(v): LEFT + 16 + inner * (a - least) / span for v, a in zip(distinct, along, strict=True)
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _range(series: dict[str, list[Point]], bound: float | None) -> tuple[float, float]:
    """Return the least and most that is drawn, never the same."""
    ends = [p.mean + sign * p.half for line in series.values() for p in line for sign in (-1, 1)]
    ends += [] if bound is None else [bound]
    low, high = min(ends), max(ends)
    return (
        (low, high) if high > low else (low - abs(low) * 0.1 - 1e-9, high + abs(high) * 0.1 + 1e-9)
    )


def _nice(step: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))


def _level(kind: str, y: float) -> str:
    return f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
