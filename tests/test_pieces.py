"""Pieces: put together and optimised where they end up, one version for integers of any length."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite import ir
from numba import njit
from numba.core import event
from numba.core.registry import cpu_target

from gpuyard.envs.engine.core import brisk
from gpuyard.envs.engine.core.compile import DISABLE_JIT, kernel
from gpuyard.envs.engine.core.records import records

pytestmark = pytest.mark.skipif(DISABLE_JIT, reason="there is nothing to compile")

ITEM = np.dtype([("count", "i4"), ("small", "i1"), ("value", "f4")])


@kernel
def product(a, b):
    return a * b


@kernel(inline=False)
def half(x):
    return x / 2


@njit
def of_item(items):
    """Call with integers of three lengths, and a product that an int32 does not hold."""
    item = items[0]
    products = product(item.count, item.count) + product(item.small, 3) + product(7, item.count)
    return products + half(item.value)


@kernel(inline=False)
def twice(x):
    return product(x, 2) + half(x)


@kernel(inline=False)
def seven_times(x):
    return 2 * twice(x) + twice(2 * half(x)) - half(x)


@njit
def of_all(x):
    """Call pieces that call each other, each at two depths."""
    return half(x) + seven_times(x) + twice(x)


def test_a_piece_has_one_version_for_integers_of_any_length_and_no_address():
    items = records((1,), ITEM)
    items["count"], items["small"], items["value"] = 100_000, 5, 3.0
    assert of_item(items) == 10_000_000_000 + 15 + 700_000 + 1.5
    (version,) = product.overloads.values()
    assert str(version.signature) == "(int64, int64) -> int64"
    assert version.library.get_pointer_to_function(version.fndesc.llvm_func_name) == 0
    (version,) = half.overloads.values()
    assert [str(kind) for kind in version.signature.args] == ["float32"]


def test_python_may_call_a_piece():
    assert product(2.5, 2) == 5.0
    assert half(np.float32(3.0)) == 1.5


def test_pieces_that_call_each_other_are_put_together_where_they_end_up():
    assert of_all(8.0) == 4.0 + (2 * 20.0 + 20.0 - 4.0) + 20.0
    for piece in (half, twice, seven_times):
        version = piece.overloads[tuple(piece.nopython_signatures[-1].args)]
        functions = version.library._final_module.functions
        defined = [function.name for function in functions if not function.is_declaration]
        assert defined == [version.fndesc.llvm_func_name]


def test_numba_is_itself_again_after_a_brisk_compilation():
    def now():
        return [getattr(owner, name) for owner, name, _ in brisk.CHANGES] + [event.broadcast]

    before, kind = now(), ir.LiteralStructType([ir.IntType(8), ir.IntType(64), ir.IntType(1)])
    with brisk.brisk():
        inside = now()
        sizes = [cpu_target.target_context.get_abi_sizeof(kind) for _ in range(2)]
    assert now() == before and all(new != old for new, old in zip(inside, before, strict=True))
    assert sizes == [24, 24]  # aligned at 8 bytes


def test_who_listens_to_numba_hears_a_brisk_compilation():
    with event.install_recorder("numba:run_pass") as heard, brisk.brisk():
        njit(lambda x: x + 1)(1)
    assert any(one.data["name"].startswith("nopython_type_inference") for _, one in heard.buffer)
