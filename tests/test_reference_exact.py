"""Numbers of the reference that do not round."""

from __future__ import annotations

import math
from fractions import Fraction

from reference_exact import GRID, Exact, moment
from slow_max_min import max_min


def test_floats_beside_fractions_are_what_they_are() -> None:
    third = Exact(1, 3)
    assert third + 0.1 == 0.1 + third == Fraction(1, 3) + Fraction(0.1)
    assert 0.1 - third == Fraction(0.1) - Fraction(1, 3)
    assert 0.1 * third / 0.3 == Fraction(0.1) / 3 / Fraction(0.3)
    assert (third + 0.1 - third) - 0.1 == 0 and isinstance(third * 2.0, Exact)
    assert third < math.inf and min(math.inf, third) is third


def test_a_moment_is_cut_to_a_grid_far_below_floats() -> None:
    assert moment(0.1) == Fraction(0.1)
    assert 0 < Exact(1, 3) - moment(Exact(1, 3)) < Fraction(1, GRID)


def test_fair_rates_are_exact_shares() -> None:
    weights = {0: {0: 1.0}, 1: {0: 2.0}, 2: {0: 3.0, 1: 1.0}}
    rates = max_min({0: math.inf, 1: math.inf, 2: 0.125}, weights, [Exact(1), Exact(1)], equal=0.0)
    assert rates == {0: Fraction(5, 24), 1: Fraction(5, 24), 2: Fraction(1, 8)}
