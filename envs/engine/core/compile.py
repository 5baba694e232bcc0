"""The decorator of every compiled function, and its on-disk cache.

Numba's own cache does not notice a change in another file that a function calls into, so the cache
lives in a folder named after the content of all engine sources: any change starts a fresh one.
Where no cache can be written the functions compile in memory.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import njit

config: Any = numba.config  # its settings are made at run time

_ENVS = Path(__file__).resolve().parents[2]
_SOURCES = [_ENVS / "observation.py", _ENVS / "perf" / "serving" / "cost_table.py"]
_SOURCES += sorted(
    [*(_ENVS / "engine").rglob("*.py"), *(_ENVS / "workload" / "requests").glob("*.py")]
)


def _engine_digest() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {config.BOUNDSCHECK}".encode())
    for source in _SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _cache_folder() -> Path | None:
    """Return a writable folder for this version of the engine, or None."""
    roots = [os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")]
    candidates = [Path(root) for root in roots if root]
    candidates.append(Path.home() / ".cache")
    for root in candidates:
        folder = root / "gpuyard" / _engine_digest()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None


# error_model: a division by zero gives inf or nan instead of an exception; the checks cost
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
DISABLE_JIT = bool(config.DISABLE_JIT)
CACHE_FOLDER = None if DISABLE_JIT else _cache_folder()


def kernel(function: Callable[..., Any] | None = None, *, inline: bool = True) -> Any:
    """Compile ``function`` on first use, without the GIL, cached on disk where possible.

    Small functions on the hot path are inlined into their callers, which takes their arguments
    out of memory; ``inline=False`` keeps large or rarely called ones apart, to compile them once.
    """
    if function is None:
        return functools.partial(kernel, inline=inline)
    options = {**OPTIONS, "forceinline": inline}
    if CACHE_FOLDER is None:
        return njit(**options)(function)
    before, config.CACHE_DIR = config.CACHE_DIR, str(CACHE_FOLDER)
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no way to cache: a zipped or frozen install
        return njit(**options)(function)
    finally:
        config.CACHE_DIR = before


def is_warm(function: Any) -> bool:
    """Tell whether a compiled ``function`` of this version of the engine is in the cache.

    That the folder holds something is no sign: workload generators are cached there before it.
    """
    if DISABLE_JIT:
        return True  # there is nothing to compile
    name = function.py_func.__name__
    return CACHE_FOLDER is not None and any(CACHE_FOLDER.rglob(f"*.{name}-*.nbi"))
