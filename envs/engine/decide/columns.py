"""How compiled code finds and squashes the columns of :mod:`gpuyard.envs.observation`.

A row of an observation holds blocks of columns one behind the other. Compiled code knows each
column's place inside its block, a constant, and reads from :data:`LAYOUT` where the block begins.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...observation import DECISIONS, OPTIONS, TABLES, Layout
from ..core.compile import kernel
from ..core.records import records

INFO: dict[str, tuple[str, ...]] = {
    "route": (
        *("time_s", "arrived", "finished", "invalid_actions", "preemptions"),
        *("ttft_mean_s", "tpot_mean_s", "e2e_mean_s", "slo_attainment", "goodput"),
        *("output_tokens_per_s", "prefix_hit_rate", "truncated_reason"),
    ),
    "place": (
        *("time_s", "arrived", "finished", "invalid_actions", "preemptions", "failures"),
        *("jct_mean_s", "jrt_mean_s", "jwt_mean_s", "slowdown_mean", "contention_mean"),
        *("utilisation", "network_wait_share", "cost", "energy_kwh", "fragmentation"),
        "truncated_reason",
    ),
    "scale": (
        *("serving", "starting", "draining", "parked"),
        *("starts", "drains", "turns", "handed_back"),
        *("terminations", "evictions"),
    ),
    "migrate": ("migrations", "migrations_given_up", "migrated_blocks", "migration_pause_s"),
    "gate": ("rejected", "expired"),
    "lora": (),
    "clients": ("jain_clients",),
    "vision": (),
    "encoders": (),
    "preempt": ("replicas_preempted",),
    "transfer": (),
}
"""Names of the numbers in ``info``, by what they are about."""

OF_SERVICE = ("slo_attainment", "goodput")
"""Those of one of several services, or of one class of clients, which come last."""

OF_SESSIONS = (
    *("sessions_ended", "makespan_s", "time_to_90_s"),
    *("tokens_per_gpu_s", "imbalance"),
)
"""Those of sessions that answer back, behind all others."""

OF_STEPS = ("steps_begun", "stale_sessions")
"""Those of steps of rollouts, behind these."""

LAYOUT = np.dtype(
    [
        *(
            (f"{key}_{block}", "i4")
            for key in (*TABLES, "info")
            for block in (*DECISIONS, *OPTIONS)
        ),
        ("info_services", "i4"),
    ]
)
"""Where each block of columns and of the info begins, and what the info says of each service: one
record for the whole world."""


def layout_record(layout: Layout) -> NDArray[np.void]:
    """Return LAYOUT (1,) of a scenario; blocks that it lacks begin at 0."""
    record = records(1, LAYOUT)
    for key in TABLES:
        for block in layout.blocks[1:]:
            record[f"{key}_{block}"] = layout.begin(key, block)
    at = 1  # behind the reward
    for block in layout.blocks[1:]:
        record[f"info_{block}"] = at
        at += len(INFO[block])
    record["info_services"] = at
    return record


SAME = {"time_s", "invalid_actions", "truncated_reason"}
"""Numbers that several blocks of the info have, all of the same value."""


def info_keys(
    layout: Layout,
    services: Sequence[str] = (),
    closed_loop: bool = False,
    classes: Sequence[str] = (),
    in_steps: bool = False,
) -> tuple[str, ...]:
    """Return the names of the numbers behind the reward, in order.

    A number that several kinds of decisions have, each of its own, is named ``"place.finished"``,
    that of one of several services ``"goodput/service=chat"``, of a class of clients
    ``"goodput/class=chat"``.
    """
    named = [(block, key) for block in layout.blocks[1:] for key in INFO[block]]
    keys = [key for _, key in named]
    alone = tuple(
        f"{kind}.{key}" if keys.count(key) > 1 and key not in SAME else key for kind, key in named
    )
    of_each = [f"{key}/service={name}" for name in services for key in OF_SERVICE]
    of_services = of_each if len(services) > 1 else ()
    of_classes = [f"{key}/class={name}" for name in classes for key in OF_SERVICE]
    of_sessions = (*OF_SESSIONS, *OF_STEPS * in_steps) if closed_loop else ()
    return (*alone, *of_services, *of_classes, *of_sessions)


def places(key: str, block: str) -> Any:
    """Return the place of each column inside its block, as a named tuple of constants."""
    return _numbered(f"{key}_{block}", [column.name for column in TABLES[key][block]])


def info_places(kind: str) -> Any:
    """Return the place of each number inside its block of the info, likewise."""
    return _numbered(f"info_{kind}", INFO[kind])


def _numbered(title: str, names: Sequence[str]) -> Any:
    named_tuple: Any = namedtuple  # its fields are known at run time only
    return named_tuple(title, names)(*range(len(names)))


COMMON = places("cluster", "common")
QUEUED = places("queue", "common")


def scaling(key: str, block: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (offset, slope) such that ``x / (offset + slope * x)`` is each column's value."""
    scales = [column.scale for column in TABLES[key][block]]
    offset = [1.0 if scale is None else scale for scale in scales]
    slope = [0.0 if scale is None else 1.0 for scale in scales]
    return np.array(offset, np.float32), np.array(slope, np.float32)


@kernel
def squash(row, offset, slope):
    """Turn the raw quantities of a block, a row from its begin on, into column values, in place.

    Rows are cut at the begin of their block first, so that columns have constant places: an index
    that the compiler does not know costs a check for negative ones, and vectors.
    """
    for column in range(len(offset)):
        row[column] /= offset[column] + slope[column] * row[column]
