"""Pieces: optimised where they end up, one version for integers of any length."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

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
