"""The state of running requests that move between replicas; see :mod:`..services.moving`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...rules import Migration, numbers
from ..core.compile import kernel
from ..core.records import fill, record_of, records

REST, COPYING, LEAVING, LEFT, STOPPED = range(5)
"""What a replica gives: nothing; blocks of a request that decodes on; a request that leaves the
batch when the step under way ends; one that has just left; the last blocks of that."""

MIGRATION_RULES = np.dtype([*numbers(Migration), ("block_s", "f8")])
"""One record where requests may move: rules of the scenario, and the seconds of one KV block."""

MOVE = np.dtype(  # one for each replica, which gives or gets one request at a time
    [
        ("phase", "i4"),  # what it gives
        ("request", "i4"),
        ("to", "i4"),  # the replica that gets it
        ("source", "i4"),  # the replica that gives one to this one, -1: none does
        ("stages", "i4"),  # begun
        ("copied", "i4"),  # blocks that are there, or on their way in the stage under way
        ("there", "i4"),  # blocks reserved there
        ("preemptions", "i4"),  # of the request when it set off
        ("due_s", "f8"),  # when the stage ends, or the step after which it leaves; inf: links say
        ("sender", "i4"),  # one-shot sender of the network that copies, -1: none
        ("stopped_s", "f8"),  # when it left the batch
    ],
    align=True,
)

MOVER = np.dtype(  # one record per environment
    [
        ("tick_s", "f8"),  # when the next round of decisions begins
        ("deciding", "i4"),
        ("source", "i4"),  # the replica chosen to give a request, -1: none yet
        ("moving", "i4"),
        ("arrived", "i8"),  # requests that have moved
        ("given_up", "i8"),
        ("blocks", "i8"),  # moved by those that arrived
        ("pause_s", "f8"),  # of these, from leaving a batch to being there
    ]
)


def allocate_moves(num_envs: int, num_replicas: int, may_move: bool) -> dict[str, NDArray[Any]]:
    """Return the arrays of moves by name, none where no request may move."""
    if not may_move:
        return {}
    return {
        "moves": records((num_envs, num_replicas), MOVE),
        "mover": records(num_envs, MOVER),
    }


def empty_moves(arrays: dict[str, NDArray[Any]], e: int, interval_s: float) -> None:
    """Let nothing move in environment ``e``, whose first round begins after an interval."""
    fill(arrays["moves"][e], _NEW_MOVE)
    arrays["mover"][e] = _NEW_MOVER
    arrays["mover"]["tick_s"][e] = interval_s


@kernel
def may_move(w):
    """Tell whether running requests of this world may move."""
    return len(w.migration_rules) > 0


_NEW_MOVE = record_of(MOVE, request=-1, to=-1, source=-1, sender=-1, due_s=math.inf)
_NEW_MOVER = record_of(MOVER, source=-1)
