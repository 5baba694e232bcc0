"""Compiling everything ahead of its first use, in several processes."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Iterator

import numpy as np

from .engine import clock
from .engine.core import store, units
from .engine.core.compile import DISABLE_JIT
from .engine.state import STATE
from .workload.requests.presets import preset

LONG = ("advance_replica", "enter", "survey", "settle", "choose", "see_route", "clock", "requests")
"""What takes longest, so that it begins first."""


def tasks() -> list[str]:
    """Return what there is to compile, the longest first."""
    return [*LONG, *(name for name in units.NAMES if name not in LONG)]


def warm_up(processes: int = 2) -> Iterator[tuple[str, float]]:
    """Compile what is not on disk yet; yield each task's name and its CPU seconds as it ends.

    Raises:
        OSError: nothing can be kept, as no folder of :func:`.store.folder` can be written.
    """
    if DISABLE_JIT:
        return
    if store.folder() is None:
        raise OSError("no folder for compiled functions can be written; set NUMBA_CACHE_DIR to one")
    # whoever compiles and ends has no use for the memory that looking for garbage would free
    with multiprocessing.get_context("spawn").Pool(processes, initializer=gc.disable) as pool:
        yield from pool.imap_unordered(run, tasks())


def run(task: str) -> tuple[str, float]:
    """Compile one task, or load it; return its name and the CPU seconds that took."""
    began = time.process_time()
    if task == "clock":
        run_nothing()
    elif task == "requests":
        preset("chat").sample(np.random.default_rng(0), 2)
    else:
        units.addresses([task], STATE)
    return task, time.process_time() - began


def run_nothing() -> None:
    """Let the clock run a batch of no worlds, which compiles it."""
    nobody = np.zeros(0, np.int64)
    outputs = np.zeros(0, np.float32), np.zeros((0, 0), np.int8), np.zeros((0, 0))
    slots = np.array([STATE.fields[name].slot for name in ("action_mask", "numbers")])
    clock.run_batch(nobody, nobody, STATE.table({}), slots, nobody, *outputs)
