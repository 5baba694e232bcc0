"""What a part of a world offers: its arrays, its share of what is observed, and its results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Table = dict[str, NDArray]


@dataclass(frozen=True)
class Sizes:
    """How much of the observation a part needs.

    Attributes:
        candidates: rows to choose from.
        queue: rows of the queue.
        devices: entries of ``device_memory`` and ``device_load``.
        links: entries of ``link_load``.
    """

    candidates: int
    queue: int
    devices: int
    links: int


@dataclass(frozen=True)
class Part:
    """The arrays of one part of a batch of worlds.

    Attributes:
        kind: the decision that it asks for.
        more_kinds: further ones.
        units: compiled functions that it needs.
        sizes: its share of the observation.
        state: what changes, each array with a leading environment axis.
        shared: what all environments have in common.
        services: names of services, some numbers of each of which stand in the info.
        options: further blocks of columns that it fills.
        closed_loop: whether sessions answer back, some numbers of which stand there, too.
        classes: names of classes of clients, likewise.
        in_steps: whether they do so in several steps of rollouts.
    """

    kind: str
    units: tuple[str, ...]
    sizes: Sizes
    state: dict[str, NDArray[Any]]
    shared: dict[str, NDArray[Any]] = field(default_factory=dict)
    services: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    closed_loop: bool = False
    more_kinds: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    in_steps: bool = False


class Content(Protocol):
    """A part that a scenario describes."""

    part: Part

    def load(self, e: int, rng: np.random.Generator) -> None:
        """Draw the next episode of environment ``e``."""

    def warm_up(self) -> None:
        """Run everything compiled that :meth:`load` needs, to have it compiled."""

    def is_warm(self) -> bool:
        """Tell whether that is compiled already."""

    def results(self, e: int) -> dict[str, Table]:
        """Return the tables of environment ``e``'s episode by name; times NaN if not reached."""

    def scene(self, e: int, first_request: int) -> dict[str, Any]:
        """Return this part's fields of a :class:`..scene.Scene` of environment ``e``."""

    def render(self, e: int, now_s: float, mode: str) -> Any:
        """Return environment ``e`` as text ("ansi") or as a uint8 image ("rgb_array")."""
