"""Bundles: compiled code sees the caller's own arrays, by name."""

from __future__ import annotations

import numpy as np
import pytest

from gpuyard.envs.engine.core.bundle import Bundle
from gpuyard.envs.engine.core.compile import entry, kernel
from gpuyard.envs.engine.core.records import records

ITEM = np.dtype([("count", "i4"), ("value", "f8")])
THINGS = Bundle("Things", (("items", ITEM, 2), ("sizes", np.float64, 1), ("cells", np.int8, 3)))
things_at = THINGS.at


@kernel
def grow(w, row):
    item = w.items[row, 1]
    item.count += 1
    item.value = w.sizes[0] + w.items.shape[1]
    w.cells[row, 1, 2] = 7
    return len(w.sizes)


@entry
def run(address):
    w = things_at(address)
    return grow(w, 0) + grow(w, 1)


def test_compiled_code_changes_the_arrays_in_place():
    arrays = {
        "items": records((2, 3), ITEM),
        "sizes": np.array([0.5, 1.0]),
        "cells": np.zeros((2, 2, 4), np.int8),
    }
    table = THINGS.table(arrays)
    assert run(table.ctypes.data) == 4
    assert arrays["items"]["count"].tolist() == [[0, 1, 0], [0, 1, 0]]
    assert arrays["items"]["value"][1, 1] == 3.5
    assert arrays["cells"][:, 1, 2].tolist() == [7, 7] and arrays["cells"].sum() == 14


@kernel
def either(w, is_own):
    sizes = w.sizes
    if is_own:
        sizes = np.full(3, 2.0)
    return sizes.sum()


@entry
def run_either(address):
    w = things_at(address)
    return either(w, False) + 10.0 * either(w, True)


def test_a_variable_may_hold_an_array_of_a_bundle_or_one_of_its_own():
    table = THINGS.table({"sizes": np.array([0.5, 1.0])})
    assert run_either(table.ctypes.data) == 1.5 + 10.0 * 6.0


def test_an_array_of_another_kind_is_refused():
    with pytest.raises(AssertionError, match="sizes"):
        THINGS.table({"sizes": np.zeros(2, np.float32)})
