"""One effect of a serving technique, published and simulated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LEVEL = 0.02
"""A ratio that is nearer to 1 has no sign."""


@dataclass(frozen=True)
class Row:
    """One effect of a technique: off against on.

    Attributes:
        technique: its name; rows of one name stand together.
        target: what is compared, on what.
        source: who published it.
        low, high: what the simulated effect may be, the published one with its scatter; both NaN
            where nothing was published.
        simulated: the effect here; NaN where it cannot be simulated.
        note: why it is missed, or what was assumed.
        published: the figure itself; NaN: the middle of the band, or a band that is open above.
    """

    technique: str
    target: str
    source: str
    low: float
    high: float
    simulated: float
    note: str = ""
    published: float = math.nan

    @classmethod
    def of(cls, row: Row | Mapping[str, Any]) -> Row:
        """Return a row that may be given as a mapping of the same names, unknown ones left out.

        Raises:
            TypeError: a name is missing.
        """
        if isinstance(row, Row):
            return row
        values = {name: row[name] for name in cls.__dataclass_fields__ if name in row}
        for name in ("low", "high", "simulated"):
            if values.get(name) is None:
                values[name] = math.nan
        return cls(**values)

    @property
    def validated(self) -> bool:
        """Tell whether there is something to compare with."""
        return not (math.isnan(self.low) and math.isnan(self.high))

    @property
    def inside(self) -> bool:
        """Tell whether the simulated effect lies in the band; no, if nothing was published."""
        low = -math.inf if math.isnan(self.low) else self.low
        high = math.inf if math.isnan(self.high) else self.high
        return self.validated and low <= self.simulated <= high

    @property
    def wrong_way(self) -> bool:
        """Tell whether a ratio is a gain here and a loss there, or the other way round.

        Not where either is level to 2 %, and not of numbers that are no ratios: those lie on the
        same side of 1 as what was published.
        """
        ours, theirs = self.simulated - 1, self.effect - 1
        return self.validated and min(abs(ours), abs(theirs)) > LEVEL and ours * theirs < 0

    @property
    def effect(self) -> float:
        """Return the published effect; NaN where only a bound is known."""
        if not math.isnan(self.published):
            return self.published
        middle = (self.low + self.high) / 2
        return middle if math.isfinite(middle) else math.nan

    @property
    def error(self) -> float:
        """Return the simulated effect over the published one, minus 1."""
        return self.simulated / self.effect - 1 if self.effect else math.nan


def near(
    technique: str,
    target: str,
    source: str,
    published: float,
    band: float,
    simulated: float,
    note: str = "",
    gain: bool = False,
) -> Row:
    """Return a row whose band is ``published`` times 1 - band to 1 + band.

    Where a ratio is a ``gain`` the band ends at 1, so that the sign must be right, too.
    """
    low, high = published * (1 - band), published * (1 + band)
    if gain and published > 1:
        low = max(low, 1.0)
    elif gain:
        high = min(high, 1.0)
    return Row(technique, target, source, low, high, float(simulated), note, published)


def unvalidated(technique: str, target: str, simulated: float = math.nan, note: str = "") -> Row:
    """Return a row for which nothing was published."""
    return Row(technique, target, "-", math.nan, math.nan, float(simulated), note)
