"""Clients of a scenario: classes of them, and who sent which request.

A class is an SLO class: its clients share objectives, priority, deadline, weight and a limit of
their rate. A trace may tell who sent each request; otherwise that is drawn, one client for a whole
session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rules import SLO, ClientClass
from ..workload.requests.stream import RequestStream
from .checks import ScenarioError, section

EVERYBODY = "*"
"""Name of the class of clients of a trace that no other class names."""
NAME = re.compile(r"[A-Za-z0-9_.-]+|\*")
MOST_CLIENTS = 65_536


@dataclass(frozen=True)
class Clients:
    """Who sends the requests of a scenario.

    Attributes:
        classes: of clients; none: nobody asks who sent a request.
        names: of the clients of a trace, by number; none: they are drawn.
    """

    classes: tuple[ClientClass, ...] = ()
    names: tuple[str, ...] = ()

    @cached_property
    def class_of(self) -> NDArray[np.int32]:
        """The class of each client, int32 (C,)."""
        if self.names:
            rows = {group.name: row for row, group in enumerate(self.classes)}
            return np.array([rows.get(name, rows.get(EVERYBODY)) for name in self.names], np.int32)
        return np.repeat(np.arange(len(self.classes)), [c.count for c in self.classes]).astype("i4")

    def of(self, source: object) -> Clients:
        """Return these classes for the clients of a trace, or for drawn ones if it names none.

        Raises:
            ScenarioError: the trace names one that no class is for.
        """
        names = getattr(source, "client_names", ()) if self.classes else ()
        known = [group.name for group in self.classes]
        for name in names:
            if name not in known and EVERYBODY not in known:
                raise ScenarioError(
                    f"clients: the trace has a client {name!r}, which is in none of the classes "
                    f"{', '.join(known)}; add one of that name, or one named '*' for all others"
                )
        return replace(self, names=tuple(names))

    def objectives(self, slo: SLO) -> tuple[SLO, ...]:
        """Return the objectives of each class, those of ``slo`` where it states none."""
        return tuple(SLO(c.ttft_s or slo.ttft_s, c.tpot_s or slo.tpot_s) for c in self.classes)

    def sending(self, stream: RequestStream, rng: np.random.Generator) -> RequestStream:
        """Return the stream with a client for each request, and what its class says of it.

        Nothing is drawn where a trace tells who sent what, or where there are no classes. A
        deadline that a request states itself goes before that of its class.
        """
        if not self.classes:
            return stream
        client = stream.client if self.names else self._drawn(stream.session, rng)
        group = self.class_of[client]
        priority = np.array([np.nan if c.priority is None else c.priority for c in self.classes])
        of_class = priority[group].astype(np.float32)
        deadline_s = np.array([c.deadline_s or np.nan for c in self.classes])[group]
        if stream.deadline_s is not None:
            deadline_s = np.where(np.isnan(stream.deadline_s), deadline_s, stream.deadline_s)
        return replace(
            stream,
            client=client,
            priority=np.where(np.isnan(of_class), stream.priority, of_class),
            deadline_s=deadline_s,
        )

    def _drawn(self, session: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
        """Draw the client of each request, of a session once; those of a class are alike."""
        shares = np.array([c.share / c.count for c in self.classes])[self.class_of]
        drawn = rng.choice(len(shares), 2 * len(session), p=shares / shares.sum())
        alone, of_session = drawn[: len(session)], drawn[len(session) :]
        return np.where(session < 0, alone, of_session[session]).astype(np.int32)


def read_clients(tables: Any, source: object) -> Clients:
    """Return the clients that ``[[clients]]`` describes.

    Args:
        tables: the list, or None.
        source: where requests come from; a trace may name their clients.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    if tables is None:
        return Clients()
    if not isinstance(tables, list) or not tables:
        raise ScenarioError(
            f"clients = {tables!r} must be a list: write [[clients]] for each class"
        )
    found = [section(ClientClass, table, f"clients[{at}]") for at, table in enumerate(tables)]
    for at, group in enumerate(found):
        if not NAME.fullmatch(group.name):
            raise ScenarioError(
                f"clients[{at}].name = {group.name!r} must be letters, digits, '_', '.' or '-', or "
                "'*' for all other clients of a trace"
            )
        if group.name in [other.name for other in found[:at]]:
            raise ScenarioError(f"clients[{at}].name = {group.name!r} is taken; give another")
    if sum(group.count for group in found) > MOST_CLIENTS:
        raise ScenarioError(f"clients: their counts must add up to at most {MOST_CLIENTS}")
    if not any(group.share > 0 for group in found):
        raise ScenarioError("clients: all shares are 0; give one of them a share above 0")
    return Clients(tuple(found)).of(source)
