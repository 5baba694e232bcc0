"""All arrays of a batch of worlds as one address, so that passing them around costs nothing.

Passing twenty arrays of records costs 8 us a call, and numba counts references to an array that it
was given whenever it passes through a branchy helper, which costs several times more than the work
itself. A tuple of seventy arrays as an argument means five hundred machine words for every
function, to compile and to copy. A bundle is one word: the address of a table that holds, field by
field, an array's address and shape. ``w.jobs`` reads them there and is the array, in place and
without an owner; the caller keeps the arrays alive. Without the compiler it is a named tuple of
arrays.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, lower_cast, lower_getattr_generic
from numba.np.numpy_support import from_dtype
from numpy.typing import NDArray

from .compile import DISABLE_JIT

WORD = ir.IntType(64)


def _as_pointer(typing_context: Any, address: Any) -> Any:
    """Turn an integer address into a pointer."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), build


_pointer: Any = intrinsic(_as_pointer)


@njit(inline="always")
def _compiled_array_at(address, shape, dtype):
    return carray(_pointer(address), shape, dtype)


def _plain_array_at(address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Do the same without the compiler, as records whose fields are attributes."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size == 0:  # of a part that the world lacks
        return np.empty(shape, dtype)
    bytes_: Any = (ctypes.c_byte * size).from_address(int(address))
    array: Any = np.frombuffer(bytes_, np.dtype(dtype)).reshape(shape)
    return array.view(np.recarray) if array.dtype.names else array


# array_at(address, shape, dtype): the C-contiguous array that lies at ``address``
array_at: Any = _plain_array_at if DISABLE_JIT else _compiled_array_at


class Field:
    """One array of a bundle.

    Attributes:
        name: attribute of the bundle.
        dtype: NumPy dtype of its items.
        ndim: number of axes.
        slot: where its address stands in the table; its shape follows.
    """

    def __init__(self, name: str, dtype: np.dtype, ndim: int, slot: int) -> None:
        self.name, self.dtype, self.ndim, self.slot = name, np.dtype(dtype), ndim, slot


class Bundle:
    """The fields of a kind of world, and how its table is written and read.

    Args:
        name: of the bundle's type.
        fields: (name, dtype, number of axes) of every array.
    """

    def __init__(self, name: str, fields: tuple[tuple[str, Any, int], ...]) -> None:
        self.name = name
        self.fields: dict[str, Field] = {}
        slot = 0
        for field, dtype, ndim in fields:
            self.fields[field] = Field(field, dtype, ndim, slot)
            slot += 1 + ndim
        self.size = slot
        named_tuple: Any = collections.namedtuple  # its fields are known at run time only
        self.tuple = named_tuple(name, list(self.fields))
        self.at = self._arrays_at if DISABLE_JIT else _compiled_at(BundleType(name, self))

    def layout(self) -> dict[str, str]:
        """Return what compiled code knows of each field: its place in the table and its items."""
        return {
            name: repr((field.slot, field.ndim, field.dtype.descr))
            for name, field in self.fields.items()
        }

    def table(self, arrays: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
        """Return the table of these arrays; fields that are missing have no items."""
        table = np.zeros(self.size, np.int64)
        for name, field in self.fields.items():
            if name in arrays:
                array = arrays[name]
                assert array.dtype == field.dtype and array.ndim == field.ndim, name
                assert array.flags.c_contiguous, name
                table[field.slot : field.slot + 1 + field.ndim] = array.ctypes.data, *array.shape
        return table

    def _arrays_at(self, address: int) -> Any:
        """Return the arrays themselves, for code that runs without the compiler."""
        table = array_at(address, (self.size,), np.dtype(np.int64))
        arrays = {}
        for name, field in self.fields.items():
            where, *shape = table[field.slot : field.slot + 1 + field.ndim].tolist()
            arrays[name] = array_at(where, tuple(shape), field.dtype)
        return self.tuple(**arrays)


class Borrowed(types.Array):
    """An array without an owner: nothing is counted when it is passed around.

    It lies in registers as any other array does, so it can be used as one.
    """

    def __init__(self, dtype: Any, ndim: int, layout: Any, **options: Any) -> None:
        super().__init__(dtype, ndim, layout, **options)
        self.name = f"borrowed {self.name}"

    def copy(  # type: ignore[override]
        self, dtype: Any = None, ndim: Any = None, layout: Any = None, readonly: Any = None
    ) -> Borrowed:
        """Return the type of a part of the array, without an owner too."""
        return Borrowed(
            self.dtype if dtype is None else dtype,
            self.ndim if ndim is None else ndim,
            self.layout if layout is None else layout,
            readonly=not self.mutable if readonly is None else readonly,
            aligned=self.aligned,
        )


@register_default(Borrowed)
class _BorrowedModel(models.StructModel):
    """That of an array, but the place of its owner is an address like any other."""

    def __init__(self, manager: Any, kind: Any) -> None:
        shape = types.UniTuple(types.intp, kind.ndim)
        members = [
            ("meminfo", types.voidptr),
            ("parent", types.voidptr),
            ("nitems", types.intp),
            ("itemsize", types.intp),
            ("data", types.CPointer(kind.dtype)),
            ("shape", shape),
            ("strides", shape),
        ]
        super().__init__(manager, kind, members)

    def traverse(self, builder: Any) -> list[Any]:
        """Return no members: none is counted, so none needs to be taken out to be looked at."""
        return []


@lower_cast(Borrowed, types.Array)
def _as_array(context: Any, builder: Any, from_kind: Any, to_kind: Any, value: Any) -> Any:
    """Let one array variable hold both what was borrowed and what has an owner."""
    return value


class BundleType(types.Type):
    """The compiler's type of a bundle."""

    def __init__(self, name: str, bundle: Bundle) -> None:
        self.slots = {
            field.name: (field.slot, Borrowed(from_dtype(field.dtype), field.ndim, "C"))
            for field in bundle.fields.values()
        }
        self.fields_layout = bundle.layout()  # of which the key on disk is made, see :mod:`.store`
        super().__init__(name=f"Bundle({name})")


@register_default(BundleType)
class _BundleModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, WORD)


@infer_getattr
class _BundleAttributes(AttributeTemplate):
    key = BundleType

    def generic_resolve(self, kind: Any, name: str) -> Any:  # type: ignore[override]
        return kind.slots[name][1] if name in kind.slots else None


@lower_getattr_generic(BundleType)
def _lower_attribute(context: Any, builder: Any, kind: BundleType, value: Any, name: str) -> Any:
    """Build the array that a field stands for from its address and shape in the table."""
    slot, array_type = kind.slots[name]
    table = builder.inttoptr(value, WORD.as_pointer())

    def word(offset: int) -> Any:
        loaded = builder.load(builder.gep(table, [ir.Constant(WORD, slot + offset)]))
        # the table stays as it is while compiled code runs, so one load will do
        loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
        return loaded

    item = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
    shape = [word(1 + axis) for axis in range(array_type.ndim)]
    strides = [ir.Constant(WORD, item)]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length, flags=("nsw",)))
    pointer = builder.inttoptr(word(0), context.get_data_type(array_type.dtype).as_pointer())
    array = ir.Constant(context.get_value_type(array_type), ir.Undefined)
    nobody = ir.Constant(context.get_value_type(types.voidptr), None)
    items = functools.reduce(builder.mul, shape)
    owner, parent = nobody, nobody
    lengths = [cgutils.pack_array(builder, words) for words in (shape, strides)]
    parts = (owner, parent, items, ir.Constant(WORD, item), pointer, *lengths)
    for at, part in enumerate(parts):  # in the order of _BorrowedModel
        array = builder.insert_value(array, part, at)
    return array


def _compiled_at(kind: BundleType) -> Any:
    """Return a compiled function that takes a table's address for a bundle."""

    def typed(typing_context: Any, address: Any) -> Any:
        return kind(types.int64), lambda context, builder, signature, args: args[0]

    cast: Any = intrinsic(typed)

    @njit(inline="always")
    def at(address):
        return cast(address)

    return at
