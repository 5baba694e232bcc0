"""Distributions as tables of quantiles: a draw costs one random number and no logarithm.

A table holds the quantiles at ``CELLS`` + 1 evenly spaced probabilities; between them a value is
linear. Whatever has to be drawn per request is tabulated once per generator.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...engine.core.compile import kernel
from ...engine.core.random import next_u64
from .parameters import KNOTS_P

CELLS = 2048
_CELL_SHIFT = np.uint64(53)  # the top 11 of 64 bits choose the cell, the other 53 the place in it
_REST = np.uint64(2**53 - 1)
_P = np.linspace(0.0, 1.0, CELLS + 1)
_P_INSIDE = np.clip(_P, 0.25 / CELLS, 1.0 - 0.25 / CELLS)  # where 0 and 1 have no finite quantile
_NORMAL = np.array([NormalDist().inv_cdf(p) for p in _P_INSIDE])


@kernel
def draw(state, table):
    """Return a variate of the tabulated distribution."""
    bits = next_u64(state)
    cell = np.int64(bits >> _CELL_SHIFT)
    share = np.int64(bits & _REST) * 2.0**-53
    return table[cell] + share * (table[cell + 1] - table[cell])


def lengths(knots: ArrayLike) -> NDArray[np.float64]:
    """Tabulate a length sketch: 30 quantiles, ln(length) linear between them."""
    return np.exp(np.interp(_P, KNOTS_P, np.log(knots)))


def lognormal(mu: float, sigma: float) -> NDArray[np.float64]:
    """Tabulate a log-normal; its tails end at half of a half cell."""
    return np.exp(mu + sigma * _NORMAL)


def middles(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values at the middle of every cell: their mean is the table's."""
    return 0.5 * (table[1:] + table[:-1])


def remaining(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tabulate what is left of the sum of two independent times, seen from a random moment.

    In a renewal process that moment falls into an interval G with probability proportional to its
    length and uniformly inside it: P(left > x) = E[max(0, G - x)] / E[G].
    """
    coarse = [np.interp((np.arange(64) + 0.5) / 64, _P, part) for part in (first, second)]
    whole = np.sort(np.add.outer(*coarse).ravel())
    behind = np.append(np.cumsum(whole[::-1])[::-1], 0.0)  # sum of all from here on
    left = np.arange(len(whole), -1, -1)
    x = np.append(0.0, whole)
    above = np.append(behind[0], behind[1:] - left[1:] * whole)
    return np.interp(_P, 1.0 - above / behind[0], x)
