"""Who starts whom among recorded sessions, from what each turn waits for.

A session whose first turn waits for a turn of another one is started by it; the turn that follows
that one waits for the last answers of all sessions that were started. Whatever waits for something
else than that is refused.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trace_file import Table, warn
from .steps import FORK

_ASK = "let sessions be started by one turn, and the turn that follows it wait for their last ones"


def in_order(table: Table, begin_s: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.void]]:
    """Return the rows session by session, those of who is started behind who starts them.

    Args:
        table: with columns ``session_id``, ``request_id`` and ``wait_for``, None where one is not.
        begin_s: (N,), when each row's session begins if nobody starts it.

    Returns:
        The rows (N,), and FORK (K,) by places in them: what stands side by side among the rows
        that begin sessions are those that one turn starts.

    Raises:
        TraceError: naming file, line, field, value and remedy.
    """
    turns: dict[Any, list[int]] = defaultdict(list)
    for row, label in enumerate(table.column("session_id")):
        if not isinstance(label, (str, int)):
            table.fail(row, "session_id", label, "is no label", "write text or a number")
        turns[label].append(row)
    started = _started(table, turns)
    _check_joins(table, turns, started)
    by_start = {child for children in started.values() for child in children}
    roots = [label for label in turns if label not in by_start]
    roots.sort(key=lambda label: begin_s[turns[label][0]])
    rows: list[int] = []
    forks: list[tuple[int, Any, int]] = []
    for root in roots:
        line = [root]
        for label in line:  # grows while it is walked: first who is started first
            for row in turns[label]:
                if row in started:
                    forks.append((row, started[row][0], len(started[row])))
                    line += started[row]
            rows += turns[label]
    if len(rows) < len(table):
        lost = min(set(range(len(table))) - set(rows))
        names = table.column("wait_for")[lost]
        table.fail(lost, "wait_for", names, "goes round in a circle", "break it")
    place = np.empty(len(table), np.int64)
    place[rows] = np.arange(len(rows))
    found = np.zeros(len(forks), FORK)
    for fork, (parent, child, count) in zip(found, forks, strict=True):
        fork["parent"], fork["first"], fork["count"] = place[parent], place[turns[child][0]], count
    return np.array(rows), found


def _awaited(table: Table, row: int, known: dict[Any, int]) -> list[int]:
    """Return the rows that a row says it waits for."""
    names = table.column("wait_for")[row]
    names = [] if names is None else names
    if not isinstance(names, list):
        table.fail(row, "wait_for", names, "is no list", "write a list of request_id")
    for name in names:
        if not isinstance(name, (str, int)) or name not in known:
            table.fail(row, "wait_for", name, "is no request_id of the file", "correct it")
    return [known[name] for name in names]


def _known(table: Table) -> dict[Any, int]:
    """Return the row of each request that has a name."""
    known: dict[Any, int] = {}
    for row, name in enumerate(table.column("request_id")):
        if name is None:
            continue
        if not isinstance(name, (str, int)) or name in known:
            table.fail(row, "request_id", name, "is no name of its own", "give each its own")
        known[name] = row
    return known


def _started(table: Table, turns: dict[Any, list[int]]) -> dict[int, list[Any]]:
    """Return the sessions that each row starts."""
    known, started = _known(table), defaultdict(list)
    ends = {rows[-1] for rows in turns.values()}
    for label, rows in turns.items():
        awaited = sorted(set(_awaited(table, rows[0], known)))
        if not awaited:
            continue
        names = table.column("wait_for")[rows[0]]
        if len(awaited) > 1:
            table.fail(rows[0], "wait_for", names, "begins a session behind several turns", _ASK)
        if awaited[0] in ends:
            problem = "begins a session behind the last turn of another"
            table.fail(rows[0], "wait_for", names, problem, "give both one session_id")
        started[awaited[0]].append(label)
    return dict(started)


def _check_joins(table: Table, turns: dict[Any, list[int]], started: dict[int, list[Any]]) -> None:
    """Refuse turns that wait for others than those started by the turn before; warn of none."""
    known, alone = _known(table), 0
    for rows in turns.values():
        for before, row in pairwise(rows):
            own = set(rows[: rows.index(row)])
            awaited = set(_awaited(table, row, known)) - own
            ends = {turns[label][-1] for label in started.get(before, [])}
            if awaited - ends:
                names = table.column("wait_for")[row]
                table.fail(row, "wait_for", names, "waits for what it did not start", _ASK)
            alone += len(ends - awaited)
    if alone:
        warn(
            table.path,
            f"nobody waits for {alone} sessions that others start: the next turn of who starts "
            "them does here",
        )
