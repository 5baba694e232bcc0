"""Zeroed arrays that take memory where they are written only.

A world has room for all that an episode may hold, and most of it stays empty. NumPy asks the system
for pages of 2 MiB in arrays of 4 MiB or more, so that one entry that is written fills 2 MiB with
zeros: the joint worlds of ``benchmarks/cluster_steps.py`` took twice the memory so, and the first
episodes spent more time on zeros than on all decisions. Pages of 4 KiB are no slower to read here.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANY_BYTES = 1 << 20  # below, an array lies among others in pages that are written anyway


def zeros(shape: int | tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
    """Return what ``np.zeros`` does; in small pages, where it is large and the system is Linux."""
    dtype = np.dtype(dtype)
    size = math.prod(np.atleast_1d(shape).tolist()) * dtype.itemsize
    if size < MANY_BYTES or not hasattr(mmap, "MADV_NOHUGEPAGE"):
        return np.zeros(shape, dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # a fork has its own
    with contextlib.suppress(OSError):  # of a system built without large pages
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype).reshape(shape)
