"""Numbers for the naive reference that do not round, to tell which worlds rounding decides.

A float becomes the fraction that it is, and so does whatever is computed with it. Only the moments
of events are cut to a grid, far below any float of these worlds: fractions would grow with every
event otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

GRID = 2**400  # parts of a second; an error of one doubles 300 times before a float shows it


class Exact(Fraction):
    """A fraction that takes floats for what they are, and stays a fraction beside them."""


def exactly(name: str) -> Callable[[Exact, Any], Any]:
    """Return an operation of fractions whose other side may be any number."""
    operation = getattr(Fraction, name)

    def apply(self: Exact, other: Any) -> Any:
        found = operation(self, Fraction(other))
        return Exact(found) if isinstance(found, Fraction) else found

    return apply


for sign in ("add", "sub", "mul", "truediv", "mod"):
    for name in (f"__{sign}__", f"__r{sign}__"):
        setattr(Exact, name, exactly(name))


def moment(time_s: float) -> Exact:
    """Return a moment without rounding, but for the grid."""
    return Exact(math.floor(Fraction(time_s) * GRID), GRID)
