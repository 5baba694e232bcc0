"""The saturation analysers of llm-d's workload-variant-autoscaler (WVA).

Sources: llm-d-workload-variant-autoscaler, docs/saturation-analyzer.md; llm-d,
docs/architecture/advanced/autoscaling/hpa-wva.md (v0.8). There is one variant per role here, so
that the choice of the cheapest to add and the dearest to remove falls away.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from .hpa import ceil
from .rule import Replicas, ScalingRule
from .signals import RoleSignals, Signals

LOOP_S = 30.0
"""Its main loop."""
HISTORY = 10
"""Observations of a full queue that are averaged."""


class WVASaturation(ScalingRule):
    """One replica more when the mean spare capacity is low, one less when the rest can bear it.

    A replica is saturated from ``kv_threshold`` or ``queue_threshold`` on. The others' mean spare
    capacity is what is left to these; below ``kv_spare`` or ``queue_spare`` a replica is added. One
    is removed if at least two are not saturated and their load, spread over one less, leaves that
    much. Nothing is done while replicas of the role start.

    Args:
        kv_threshold, queue_threshold, kv_spare, queue_spare: defaults of the document.
        least, most, period_s: see :class:`~gpuyard.baselines.scaling.rule.ScalingRule`.
    """

    def __init__(
        self,
        kv_threshold: float = 0.8,
        queue_threshold: float = 5.0,
        kv_spare: float = 0.1,
        queue_spare: float = 3.0,
        least: int = 1,
        most: int = 1024,
        period_s: float = LOOP_S,
    ) -> None:
        for name, spare, threshold in (
            ("kv_spare", kv_spare, kv_threshold),
            ("queue_spare", queue_spare, queue_threshold),
        ):
            if not 0 <= spare <= threshold:
                raise ValueError(f"{name} = {spare!r}: give 0 to its threshold of {threshold:g}")
        self.kv_threshold, self.queue_threshold = kv_threshold, queue_threshold
        self.kv_spare, self.queue_spare = kv_spare, queue_spare
        super().__init__(period_s, least, most)

    def decide(self, signals: Signals) -> Replicas:
        """Return one more, one less or as many as there are, for each role."""
        return {name: role.replicas + self._change(role) for name, role in signals.roles.items()}

    def _change(self, role: RoleSignals) -> int:
        if role.starting or not role.ready:
            return 0
        fit = [
            (kv, queue)
            for kv, queue in zip(role.kv_usage, role.waiting, strict=True)
            if kv < self.kv_threshold and queue < self.queue_threshold
        ]
        if not self._has_room(fit, len(fit)):
            return 1
        return -1 if len(fit) >= 2 and self._has_room(fit, len(fit) - 1) else 0

    def _has_room(self, fit: list[tuple[float, float]], replicas: int) -> bool:
        """Return whether the load of ``fit``, spread over so many, leaves enough; none: False."""
        if not replicas:
            return False
        kv, queue = (sum(values) / replicas for values in zip(*fit, strict=True))
        # differences of decimals: 0.8 - 0.7 is a spare capacity of 0.1
        return (
            self.kv_threshold - kv >= self.kv_spare - 1e-9
            and self.queue_threshold - queue >= self.queue_spare - 1e-9
        )


class WVATokens(ScalingRule):
    """Tokens that are held and wait against tokens that replicas can hold.

    A replica holds ``k1 = kv_threshold x KV tokens`` by its memory, and by its compute what it held
    when its queue was full: observed now, otherwise on average over the last ten times. Demand is
    tokens in use and those of queued prompts. Replicas are added for
    ``demand / scale_up - supply``, starting ones in the supply, and removed for
    ``supply - demand / scale_down``. WVA's third estimate, from batching limits, is left out.

    Args:
        kv_tokens: KV cache of one replica in tokens, by role.
        kv_threshold, queue_threshold, scale_up, scale_down: defaults of the document.
        least, most, period_s: see :class:`~gpuyard.baselines.scaling.rule.ScalingRule`.
    """

    def __init__(
        self,
        kv_tokens: Mapping[str, float],
        kv_threshold: float = 0.8,
        queue_threshold: float = 5.0,
        scale_up: float = 0.85,
        scale_down: float = 0.7,
        least: int = 1,
        most: int = 1024,
        period_s: float = LOOP_S,
    ) -> None:
        if not 0 < scale_down <= scale_up:
            raise ValueError(f"scale_down = {scale_down!r}: give above 0, up to {scale_up:g}")
        self.kv_tokens, self.kv_threshold = dict(kv_tokens), kv_threshold
        self.queue_threshold, self.scale_up, self.scale_down = queue_threshold, scale_up, scale_down
        super().__init__(period_s, least, most)

    def restart(self) -> None:
        """Forget what replicas held when their queues were full."""
        super().restart()
        self._held: dict[str, deque[float]] = {}

    def decide(self, signals: Signals) -> Replicas:
        """Return how many replicas hold the demand of each role."""
        return {
            name: self._replicas(name, role, signals.prompt_tokens)
            for name, role in signals.roles.items()
        }

    def _replicas(self, name: str, role: RoleSignals, prompt_tokens: float) -> int:
        used = [share * self.kv_tokens[name] for share in role.kv_usage]
        queued = sum(role.waiting)
        if not used or (queued and math.isnan(prompt_tokens)):
            return role.replicas
        capacity = self._capacity(name, role, used)
        demand = sum(used) + (queued * prompt_tokens if queued else 0.0)
        missing = demand / self.scale_up - role.replicas * capacity
        if missing > 0:
            return role.replicas + ceil(missing / capacity)
        spare = role.ready * capacity - demand / self.scale_down
        return role.replicas - max(0, min(int(spare / capacity), role.ready))

    def _capacity(self, name: str, role: RoleSignals, used: list[float]) -> float:
        """Return the median over replicas of what one can hold."""
        past = self._held.setdefault(name, deque(maxlen=HISTORY))
        full = [
            tokens
            for tokens, queue in zip(used, role.waiting, strict=True)
            if queue >= self.queue_threshold and tokens > 0
        ]
        past.extend(full)
        by_memory = self.kv_threshold * self.kv_tokens[name]
        by_compute = sum(past) / len(past) if past else by_memory
        each = sorted(
            min(by_memory, tokens if queue >= self.queue_threshold and tokens > 0 else by_compute)
            for tokens, queue in zip(used, role.waiting, strict=True)
        )
        middle = len(each) // 2
        return each[middle] if len(each) % 2 else (each[middle - 1] + each[middle]) / 2
