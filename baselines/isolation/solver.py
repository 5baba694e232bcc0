"""Integer programs for HiGHS, the open solver that ships with scipy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import spmatrix


@dataclass
class Solver:
    """Limits of every program, and what became of the programs so far.

    The vClos study lets its solver stop after 180 to 300 s or at a gap of 0.8; the gap is
    (cost - bound) / cost, so 0.8 accepts up to five times the proven bound.

    Attributes:
        time_limit_s: of one program, above 0.
        mip_gap: relative gap at which a solution is good enough, 0 to 1.
        solved: programs given to HiGHS.
        stopped: of those, the ones out of time without a solution (counted as infeasible).
    """

    time_limit_s: float = 2.0
    mip_gap: float = 0.8
    solved: int = 0
    stopped: int = 0

    def __post_init__(self) -> None:
        if not self.time_limit_s > 0:
            raise ValueError(f"time_limit_s = {self.time_limit_s!r}: give seconds above 0")
        if not 0 <= self.mip_gap < 1:
            raise ValueError(f"mip_gap = {self.mip_gap!r}: give a share from 0 to below 1")

    def minimise(
        self,
        cost: NDArray[np.floating],
        rows: spmatrix,
        lower: NDArray[np.floating],
        upper: NDArray[np.floating],
        most: NDArray[np.floating],
    ) -> NDArray[np.int64] | None:
        """Minimise ``cost @ x`` with ``lower <= rows @ x <= upper`` and x in 0, 1, .. ``most``.

        Returns:
            The best x found, or None if there is none or time ran out before one was found.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        self.solved += 1
        found = milp(
            cost,
            integrality=np.ones(len(cost)),
            bounds=Bounds(0, most),
            constraints=LinearConstraint(rows, lower, upper),
            options={"time_limit": self.time_limit_s, "mip_rel_gap": self.mip_gap},
        )
        if found.x is None:
            self.stopped += found.status == 1
            return None
        return np.rint(found.x).astype(np.int64)

    def close_enough(self, cost: float, bound: float) -> bool:
        """Return whether a solution is within the gap of a lower bound of the optimum."""
        return cost - bound <= self.mip_gap * cost
