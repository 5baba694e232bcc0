"""Who gives and who gets a running request: Llumnix's pairs, or nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation, Policy
from ..routing.llumnix import freeness

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


class NoMigration(Policy):
    """Moves nothing."""

    decides = frozenset({"migrate"})

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Learn which candidate moves nothing: the one behind the replicas."""
        super().reset(scenario, num_envs, seed)
        self.none = len(scenario.replicas)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return that candidate, shape (n,)."""
        return np.full(len(observation["action_mask"]), self.none)


class LlumnixMigration(NoMigration):
    """From the replica of the lowest freeness to that of the highest, in turn.

    A replica gives if its freeness (:func:`..routing.llumnix.freeness`, blocks for each request) is
    below the threshold, and gets if it is above. With ``policy="balanced"`` a request moves only if
    the two are closer afterwards and the one that gets it stays above the threshold. Source:
    ``llumnix/global_scheduler/migration_policy.py`` and ``migration_filter.py`` of
    github.com/AlibabaPAI/llumnix, with its defaults: "defrag", threshold 3.0. There a replica that
    has preempted requests waiting gives, too, and gets none; here no replica gets any while
    requests wait.

    Args:
        threshold: freeness below which a replica gives, and above which it gets.
        policy: which pairs are worth it: all, or those that balance.
    """

    def __init__(
        self, *, threshold: float = 3.0, policy: Literal["defrag", "balanced"] = "defrag"
    ) -> None:
        if not np.isfinite(threshold):
            raise ValueError(f"llumnix: threshold = {threshold!r} must be a finite number")
        if policy not in ("defrag", "balanced"):
            raise ValueError(f"llumnix: policy = {policy!r} must be 'defrag' or 'balanced'")
        self.threshold, self.policy = threshold, policy

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the replica that gives, or the one that gets once that is known, shape (n,)."""
        actions = super().act(observation)
        mask = observation["action_mask"][:, : self.none] > 0
        names = ("free_blocks", "queued_blocks", "requests", "request_blocks")
        free, queued, requests, blocks = (
            self.read(observation, "candidates", f"migrate.{name}")[:, : self.none].round()
            for name in names
        )
        left = freeness(free, queued, requests)
        is_source = self.column(observation, "candidates", "migrate.is_source")[:, : self.none] > 0
        for e in np.flatnonzero(self.asked(observation)).tolist():
            source = int(is_source[e].argmax())
            if not is_source[e].any():
                gives = mask[e] & (left[e] < self.threshold)
                if gives.any():
                    actions[e] = np.where(gives, left[e], np.inf).argmin()
                continue
            gets = mask[e] & (left[e] > self.threshold)
            if self.policy == "balanced":
                moved = blocks[e, source]
                after = freeness(free[e] - moved, queued[e], requests[e] + 1)
                kept = freeness(free[e] + moved, queued[e], requests[e] - 1)[source]
                before = left[e] - left[e, source]
                gets &= (after >= self.threshold) & (0 < after - kept) & (after - kept < before)
            if gets.any():
                actions[e] = np.where(gets, left[e], -np.inf).argmax()
        return actions
