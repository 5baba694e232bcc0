"""Pieces: functions that only compiled code calls, optimised where they end up and not before.

By itself numba optimises each function together with all that it calls, makes machine code of it
and two ways in for Python, and does all of that again in each caller, at every depth of calls. A
piece is typed and put into LLVM's language once, and no more; the entry or unit that it ends up in
links all its pieces and optimises the whole once. A piece cannot print, nor raise with arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite.binding import Linkage
from numba import jit, types
from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import PassManager
from numba.core.registry import CPUDispatcher

from .brisk import brisk

IDLE = (
    *(untyped_passes.InlineClosureLikes, untyped_passes.MakeFunctionToJitFunction),
    *(untyped_passes.WithLifting, untyped_passes.RewriteDynamicRaises),
    *(untyped_passes.FindLiterallyCalls, untyped_passes.LiteralUnroll),
    *(untyped_passes.LiteralPropagationSubPipelinePass, typed_passes.InlineOverloads),
    typed_passes.NopythonRewrites,
)
"""Passes for what pieces do not have: closures, `with`, exceptions with arguments, literals, and
calculations with whole arrays, which stay right without the last one but make more arrays."""

SIGNED = (types.int8, types.int16, types.int32, types.int64)


def _widened(kind: Any) -> Any:
    """Return int64 for a signed integer, as which the compiler calculates with it anyway."""
    return types.int64 if types.unliteral(kind) in SIGNED else kind


class PieceLibrary(JITCodeLibrary):
    """Code to be linked into a caller's; no machine code is made of it.

    Pieces that call each other are put together once, for the entry or unit that they end up in.
    """

    def finalize(self) -> None:
        """Leave the rest to whoever links it."""
        self._raise_if_finalized()
        self._finalize_dynamic_globals()
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        """Return the code together with all that it calls, to be dropped where nothing calls it."""
        if self._shared_module is None:
            whole = self._shared_module = self._final_module.clone()
            below: dict[Any, None] = {}
            self._collect(below)
            for library in reversed(below):  # callers first: LLVM takes what is asked for by then
                piece = isinstance(library, PieceLibrary)
                module = library._final_module if piece else library._get_module_for_linking()
                whole.link_in(module, preserve=True)
            _share(whole)
        return self._shared_module

    def _collect(self, below: dict[Any, None]) -> None:
        """Add all that it calls, each after what that calls itself."""
        for library in dict.fromkeys(self._linking_libraries):
            if library not in below:
                if isinstance(library, PieceLibrary):
                    library._collect(below)
                below[library] = None


def _share(module: Any) -> None:
    """Let several modules have each function of this one, and drop it where it is not called."""
    for function in module.functions:
        if not function.is_declaration and function.linkage == Linkage.external:
            function.linkage = Linkage.linkonce_odr


class PiecePasses(Compiler):
    """The usual passes without the idle ones, and another library to put the code into."""

    def define_pipelines(self) -> Any:
        """Return the passes."""
        state: Any = self.state
        state.library = PieceLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        (manager,) = super().define_pipelines()
        lean = PassManager(manager.pipeline_name)
        lean.passes = [(kind, why) for kind, why in manager.passes if kind not in IDLE]
        lean.finalize()
        return [lean]


def _without_python(flags: Any) -> Any:
    """Set the compiler's flags to make no way in for Python."""
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
    return flags


class Piece(CPUDispatcher):
    """What compiled code calls; Python, as in tests, has a version of its own.

    Args:
        function: the Python function.
        options: as those of :func:`numba.njit`.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        options = {"nopython": True, "boundscheck": None, **options}
        super().__init__(function, targetoptions=options, pipeline_class=PiecePasses)
        this: Any = self  # whose compiler numba does not declare
        this._compiler._customize_flags = _without_python

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Compile for the types of a call, where integers count as int64, however short."""
        with brisk():
            return super().get_call_template(
                tuple(_widened(kind) for kind in args),
                {name: _widened(kind) for name, kind in kws.items()},
            )

    def add_overload(self, result: Any) -> None:
        """Let compiled code find a compiled version; there is none that Python could call."""
        result = result._replace(entry_point=object())
        self.targetctx.insert_user_function(result.entry_point, result.fndesc, [result.library])
        self.overloads[tuple(result.signature.args)] = result

    @functools.cached_property
    def for_python(self) -> Any:
        """The same function, to be called from Python."""
        return jit(**self.targetoptions)(self.py_func)

    def __call__(self, *arguments: Any) -> Any:
        """Call it from Python."""
        return self.for_python(*arguments)
