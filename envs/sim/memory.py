"""How a world's arrays cross into compiled code: as addresses.

Passing twenty arrays of records costs 8 us a call, and numba counts references to an array that it
was given whenever it passes through a branchy helper, which costs several times more than the work
itself. So a world hands over one table of sizes and addresses, and the engine sees the arrays in
place, without an owner. The caller keeps them alive.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from .compile import DISABLE_JIT


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
    bytes_: Any = (ctypes.c_byte * size).from_address(int(address))
    array: Any = np.frombuffer(bytes_, np.dtype(dtype)).reshape(shape)
    return array.view(np.recarray) if array.dtype.names else array


# array_at(address, shape, dtype): the C-contiguous array that lies at ``address``
array_at: Any = _plain_array_at if DISABLE_JIT else _compiled_array_at
