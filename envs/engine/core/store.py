"""Compiled functions on disk, each under a key of its own.

Numba's own cache does not notice a change in another function that is called, keys by the path and
time of a file, and trusts what it finds. Here the key is the content: a digest of the function's
bytecode and of all that it uses, down to constants and the records behind the arrays that it reads.
So an edit recompiles what it concerns and nothing else, a second environment of the same version
finds what the first one made, and a file whose checksum is wrong is thrown away.

Where nothing can be written functions are compiled in memory, for this process only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import compiler
from numba.core.serialize import dumps

PACKAGE = __name__.partition(".")[0]
_CHECKSUM = 32  # bytes of SHA-256 in front of each file


@functools.cache
def folder() -> Path | None:
    """Return the folder of compiled functions, or None where none can be written."""
    roots = [os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")]
    candidates = [Path(root) for root in roots if root]
    candidates.append(Path.home() / ".cache")
    for root in candidates:
        path = root / PACKAGE / "compiled"
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                return path
        except OSError:
            continue
    return None


class Store:
    """What a numba dispatcher or C function asks for a compiled version before it compiles.

    Args:
        function: the Python function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @functools.cached_property
    def digest(self) -> str:
        """Return the digest of everything the compiled code depends on, but its signature."""
        return digest_of(self._function)

    def path(self, signature: Any, context: Any) -> Path | None:
        """Return where the compiled version for a signature and this processor lies."""
        root = folder()
        if root is None:
            return None
        target = hashlib.sha256(repr((str(signature), context.codegen().magic_tuple())).encode())
        name = self._function.__qualname__.rpartition(".")[2]
        return root / f"{name}-{self.digest}-{target.hexdigest()[:16]}"

    def has_some(self) -> bool:
        """Tell whether a sound compiled version is there, for whatever signature."""
        root, name = folder(), self._function.__qualname__.rpartition(".")[2]
        found = root.glob(f"{name}-{self.digest}-*") if root else ()
        return any(_read(path) is not None for path in found)

    def has(self, signature: Any, context: Any) -> bool:
        """Tell whether a sound compiled version is there."""
        path = self.path(signature, context)
        return path is not None and _read(path) is not None

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return the compiled version for a signature, or None."""
        path = self.path(signature, context)
        data = None if path is None else _read(path)
        if data is None:
            return None
        context.refresh()
        try:
            result = compiler.CompileResult._rebuild(context, *pickle.loads(data))
            result.library._shared_module = None  # to link names alone would go unnoticed
            return result
        except Exception as error:  # whatever a file of another making holds
            _throw_away(path, f"cannot be loaded ({type(error).__name__})")
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled version, if a folder can be written."""
        path = self.path(signature, result.target_context)
        if path is None or result.library.has_dynamic_globals:
            return
        (name, form, (machine_code, bitcode)), *others = result._reduce()
        data = dumps(((name, form, (machine_code, _names_only(bitcode))), *others))
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(hashlib.sha256(data).digest() + data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(file.name, path)  # whole or not at all, whoever else writes it
        except OSError:
            return


def _names_only(bitcode: bytes) -> bytes:
    """Return bitcode that defines the same names, and nothing of what they do.

    Numba keeps it for callers into which a function is linked. Entries and units are called from
    Python or by address, so that only their names are asked for, and to parse the rest would be a
    tenth of a warm start.
    """
    module, names = llvm.parse_bitcode(bitcode), ir.Module()
    for function in module.functions:
        if not function.is_declaration:
            body = ir.Function(names, ir.FunctionType(ir.VoidType(), []), function.name)
            ir.IRBuilder(body.append_basic_block()).unreachable()
    for variable in module.global_variables:
        if not variable.is_declaration:
            ir.GlobalVariable(names, ir.IntType(8), variable.name).initializer = ir.Constant(
                ir.IntType(8), 0
            )
    return llvm.parse_assembly(str(names)).as_bitcode()


def _read(path: Path) -> bytes | None:
    """Return a file's content behind its checksum; a damaged file is removed."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    data = raw[_CHECKSUM:]
    if hashlib.sha256(data).digest() == raw[:_CHECKSUM]:
        return data
    _throw_away(path, "is damaged")
    return None


def _throw_away(path: Path | None, problem: str) -> None:
    """Remove a file that is of no use, and say so."""
    assert path is not None
    print(f"gpuyard: {path} {problem}; it is compiled again", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        path.unlink()


def digest_of(function: Callable[..., Any]) -> str:
    """Return a digest of a function's bytecode and of all that it reaches.

    Of a bundle of arrays (a type with ``fields_layout``) those count whose name the code mentions
    anywhere.
    """
    config: Any = numba.config
    settings = (config.BOUNDSCHECK, config.OPT, config.CPU_NAME, config.CPU_FEATURES)
    parts = {repr((numba.__version__, sys.version, settings))}
    names: set[str] = set()
    layout: dict[str, str] = {}
    waiting: list[Any] = [function]
    seen: set[Any] = set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        code = current.__code__
        parts.add(f"{current.__qualname__} {_code(code, current.__doc__)}")
        names |= _names(code)
        for name, value in _uses(current):
            inner = _function(value)
            if inner is not None:
                waiting.append(inner)
                parts.add(f"{name} {getattr(value, 'targetoptions', '')}")
            else:
                parts.add(f"{name} {_constant(value)}")
                layout |= getattr(value, "fields_layout", {})
    parts |= {f"{name}: {layout[name]}" for name in names & layout.keys()}
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:16]


def _function(value: Any) -> FunctionType | None:
    """Return the Python function behind a dispatcher, an intrinsic or a function."""
    inner = getattr(value, "py_func", getattr(value, "_defn", value))
    if not isinstance(inner, FunctionType) or inner.__module__.startswith(("numba", "numpy")):
        return None
    return inner


def _code(code: CodeType, doc: str | None = None) -> str:
    """Describe bytecode, nested functions included, without docstring and line numbers."""
    # the first constant is the docstring, or None
    used = (None, *code.co_consts[1:]) if code.co_consts[:1] == (doc,) else code.co_consts
    consts = [_code(const) if isinstance(const, CodeType) else repr(const) for const in used]
    return repr((code.co_code, consts, code.co_names, code.co_varnames, code.co_freevars))


def _names(code: CodeType) -> set[str]:
    """Return the globals and attributes that bytecode names, nested functions included."""
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*(_names(const) for const in inner))


def _uses(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the globals and closed-over values that a function names, with their values."""
    names = _names(function.__code__)
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        if isinstance(value, ModuleType):  # ``fluid.balance`` is a use of balance
            for attribute in names & vars(value).keys():
                yield f"{name}.{attribute}", getattr(value, attribute)
        else:
            yield name, value
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, cell.cell_contents


def _constant(value: Any) -> str:
    """Describe a value that compiled code freezes."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype.descr} {value.shape} {value.tobytes().hex()}"
    if isinstance(value, np.dtype):
        return repr(value.descr)
    if isinstance(value, (bool, int, float, complex, str, bytes, tuple, np.generic, type(None))):
        return repr(value)
    return getattr(value, "__qualname__", type(value).__qualname__)  # a type, a builtin
