"""Dynamo's planner by load: thresholds on queues and KV caches.

Sources: ai-dynamo/dynamo, docs/planner/load_planner.md (commit 240df6a) and the planner's defaults
(components/src/dynamo/planner/defaults.py, commit 0112772), which disagree; thresholds of 2026:
components/src/dynamo/planner/core/load_scaling.py (commit 0c6da1e).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .rule import Replicas, ScalingRule
from .signals import PREFILL, RoleSignals, Signals

TREND_PERIODS = 3
"""Periods over which the queue's trend goes on while a new prefill replica starts."""
MOST_GPUS = 8
"""Default of ``max_gpu_budget``."""


@dataclass(frozen=True)
class Thresholds:
    """Where the load planner acts.

    Attributes:
        period_s: seconds between adjustments.
        queue_up, queue_down: requests in the queue of all prefill replicas.
        kv_up, kv_down: mean KV usage of decode replicas.
        grace: adjustments after a new decode replica in which none is removed.
    """

    period_s: float
    queue_up: float
    queue_down: float = 0.2
    kv_up: float = 0.9
    kv_down: float = 0.5
    grace: int = 3


DOCUMENT = Thresholds(30.0, 0.5)
CODE = Thresholds(180.0, 5.0, grace=2)
"""The code sets its count of grace periods to 3 and takes the first away at once."""


class DynamoLoad(ScalingRule):
    """One replica more or less per role and period, by mean queue and mean KV usage.

    Prefill replicas are added only if the queue would still be beyond its threshold after three
    more periods of its trend. Nothing is done while replicas start. Replicas that do both are
    scaled as decode replicas are.

    Args:
        defaults: ``document`` or ``code``; or thresholds of one's own.
        gpus: of one replica, by role; 1 where left out.
        most_gpus: of all replicas together.
        least, most: see :class:`~gpuyard.baselines.scaling.rule.ScalingRule`.
    """

    def __init__(
        self,
        defaults: Literal["document", "code"] | Thresholds = "document",
        gpus: Mapping[str, int] | None = None,
        most_gpus: int = MOST_GPUS,
        least: int = 1,
        most: int = 1024,
    ) -> None:
        if isinstance(defaults, str):
            known = {"document": DOCUMENT, "code": CODE}
            if defaults not in known:
                raise ValueError(f"defaults = {defaults!r}: use one of {', '.join(known)}")
            defaults = known[defaults]
        self.thresholds, self.gpus, self.most_gpus = defaults, dict(gpus or {}), most_gpus
        super().__init__(defaults.period_s, least, most)

    def restart(self) -> None:
        """Forget the samples and the last replica that was added."""
        super().restart()
        self._queues: dict[str, list[float]] = {}
        self._usages: dict[str, list[float]] = {}
        self._grace = 0

    def observe(self, signals: Signals) -> None:
        """Take a sample of every role."""
        for name, role in signals.roles.items():
            if role.ready:
                self._queues.setdefault(name, []).append(sum(role.waiting))
                self._usages.setdefault(name, []).append(mean(role.kv_usage))

    def decide(self, signals: Signals) -> Replicas:
        """Return what the samples since the last adjustment ask for."""
        wanted = {name: role.replicas for name, role in signals.roles.items()}
        if not any(role.starting for role in signals.roles.values()):
            for name in wanted:
                if self._too_many(name, wanted[name]):
                    wanted[name] -= 1
            for name in sorted(wanted, key=lambda name: name != PREFILL):
                if self._too_few(name) and self._gpus(wanted) + self._each(name) <= self.most_gpus:
                    wanted[name] += 1
                    if name != PREFILL:
                        self._grace = self.thresholds.grace + 1
        self._grace = max(0, self._grace - 1)
        self._queues.clear()
        self._usages.clear()
        return wanted

    def _too_many(self, name: str, replicas: int) -> bool:
        if replicas <= self.least or name not in self._queues:
            return False
        if name == PREFILL:
            return mean(self._queues[name]) < self.thresholds.queue_down
        return mean(self._usages[name]) < self.thresholds.kv_down and not self._grace

    def _too_few(self, name: str) -> bool:
        if name not in self._queues:
            return False
        if name != PREFILL:
            return mean(self._usages[name]) > self.thresholds.kv_up
        queue = self._queues[name]
        coming = queue[-1] + TREND_PERIODS * (queue[-1] - queue[0])
        return min(mean(queue), coming) > self.thresholds.queue_up

    def _each(self, name: str) -> int:
        return self.gpus.get(name, 1)

    def _gpus(self, replicas: Replicas) -> int:
        return sum(count * self._each(name) for name, count in replicas.items())


class DynamoThresholds(ScalingRule):
    """The planner of 2026 without objectives: one more if any is full, one less if all idle.

    Prefill replicas by queued prompt tokens over the longest context, others by tokens in the KV
    cache, and those of queued prompts, over what the cache holds:

    ==========  =======================  =======================
    target      prefill: more, less      KV: more, less
    ==========  =======================  =======================
    throughput  >= 1, < 0.1              > 1, < 0.6
    latency     >= 0.1, none             > 0.4, < 0.1
    ==========  =======================  =======================

    Args:
        context_tokens: longest context.
        kv_tokens: KV cache of one replica in tokens, by role.
        target: what to favour.
        least, most, period_s: see :class:`~gpuyard.baselines.scaling.rule.ScalingRule`; 5 s is the
            planner's default.
    """

    def __init__(
        self,
        context_tokens: float,
        kv_tokens: Mapping[str, float],
        target: Literal["throughput", "latency"] = "throughput",
        least: int = 1,
        most: int = 1024,
        period_s: float = 5.0,
    ) -> None:
        if target not in ("throughput", "latency"):
            raise ValueError(f"target = {target!r}: use 'throughput' or 'latency'")
        if not context_tokens > 0:
            raise ValueError(f"context_tokens = {context_tokens!r}: give a value above 0")
        self.context_tokens, self.kv_tokens = context_tokens, dict(kv_tokens)
        self.latency = target == "latency"
        super().__init__(period_s, least, most)

    def decide(self, signals: Signals) -> Replicas:
        """Return one more, one less or as many as there are, for each role."""
        return {
            name: role.replicas + self._change(name, role) for name, role in signals.roles.items()
        }

    def _change(self, name: str, role: RoleSignals) -> int:
        if role.starting or not role.ready:
            return 0
        if name == PREFILL:
            loads = [tokens / self.context_tokens for tokens in role.queued_tokens]
            full = max(loads) >= (0.1 if self.latency else 1.0)
            idle = max(loads) <= 0.0 if self.latency else max(loads) < 0.1
        else:
            loads = [
                usage + tokens / self.kv_tokens[name]
                for usage, tokens in zip(role.kv_usage, role.queued_tokens, strict=True)
            ]
            full = max(loads) > (0.4 if self.latency else 1.0)
            idle = max(loads) < (0.1 if self.latency else 0.6)
        return 1 if full else -1 if idle and role.ready > 1 else 0


def mean(values: tuple[float, ...] | list[float]) -> float:
    """Return the mean of one number or more."""
    return sum(values) / len(values)
