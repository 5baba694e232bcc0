"""A recorded episode as one HTML page that needs nothing else: no server, no network, no file."""

from __future__ import annotations

import html
import json
from importlib.resources import files

from .document import document
from .episode import Episode

SCRIPTS = ("data.js", "places.js", "yard.js", "panels.js", "requests.js", "timeline.js", "main.js")
"""In the order in which they build on each other."""


def page(episode: Episode) -> str:
    """Return the page; the same episode gives the same text."""
    parts = {
        "title": html.escape(f"{episode.scenario.name}: {episode.policy}"),
        "style": _asset("replay.css"),
        "episode": _embedded(json.dumps(document(episode), separators=(",", ":"))),
        "script": "\n".join(_asset(name) for name in SCRIPTS),
    }
    before, *rest = _asset("replay.html").split("{{")
    for piece in rest:
        name, _, after = piece.partition("}}")
        before += parts[name] + after
    return before


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _embedded(text: str) -> str:
    """Return JSON so that no text in it can end the script element that it stands in."""
    return text.replace("<", "\\u003c")
