"""Dynamo's planner by objectives: enough throughput for the predicted load at the asked latency.

Source: ai-dynamo/dynamo, docs/planner/sla_planner.md (commit 240df6a) and
tests/planner/test_replica_calculation.py (commit 002a7c3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .hpa import ceil
from .predictors import Kind, predictor
from .rule import Replicas, ScalingRule
from .signals import DECODE, PREFILL, Signals

PERIOD_S = 180.0
"""Default of ``throughput_adjustment_interval``."""
TTFT_S, ITL_S = 0.5, 0.05
"""Default objectives."""
MOST_GPUS = 8
"""Default of ``max_gpu_budget``."""


@dataclass(frozen=True)
class Profile:
    """What one engine does, measured before or computed, at the service's usual lengths.

    Attributes:
        prefill_tokens_per_s: prompt tokens per second and GPU.
        ttft_s: time to first token of one prompt on an idle replica.
        decode: (sequences in the batch, seconds per token, tokens per second and GPU), by rising
            batch and seconds.
        prefill_gpus, decode_gpus: GPUs of one replica.
    """

    prefill_tokens_per_s: float
    ttft_s: float
    decode: tuple[tuple[float, float, float], ...]
    prefill_gpus: int = 1
    decode_gpus: int = 1

    def itl_s(self, running: float) -> float:
        """Return the expected seconds per token at a batch of so many sequences."""
        batch, itl, _ = zip(*self.decode, strict=True)
        return float(np.interp(running, batch, itl))

    def decode_tokens_per_s(self, itl_s: float) -> float:
        """Return the best throughput per GPU within ``itl_s``; that of the first point if none."""
        _, itl, rate = zip(*self.decode, strict=True)
        return float(np.interp(itl_s, itl, rate))


class DynamoSLA(ScalingRule):
    """Replicas for the predicted requests at the throughput that the objectives allow.

    ``prefill = ceil(requests x prompt / period x min(1, c_p) / prefill rate / GPUs)`` and
    ``decode = ceil(requests x output / period / decode rate at ITL / c_d / GPUs)``, where ``c_p``
    and ``c_d`` are measured over expected TTFT and ITL. A total beyond the budget shrinks both in
    proportion. Without requests in a period all stays as it is.

    Args:
        profile: of the engines.
        itl_s: objective of the time per output token. The one of the TTFT is in no formula.
        forecast: ``constant``, ``kalman``, ``arima`` (the planner's default) or ``prophet``, see
            :mod:`.predictors`. The last two need the extra ``forecast``.
        corrected: whether to use ``c_p`` and ``c_d``.
        most_gpus: budget of both roles.
        least, most, period_s: see :class:`~gpuyard.baselines.scaling.rule.ScalingRule`.
        log1p: whether to forecast logarithms of 1 + value (``load_predictor_log1p``).
    """

    def __init__(
        self,
        profile: Profile,
        itl_s: float = ITL_S,
        forecast: Kind = "constant",
        corrected: bool = True,
        most_gpus: int = MOST_GPUS,
        least: int = 1,
        most: int = 1024,
        period_s: float = PERIOD_S,
        log1p: bool = False,
    ) -> None:
        smallest = least * (profile.prefill_gpus + profile.decode_gpus)
        if most_gpus < smallest:
            raise ValueError(f"most_gpus = {most_gpus!r}: {smallest} are needed for least replicas")
        if not itl_s > 0:
            raise ValueError(f"itl_s = {itl_s!r}: give seconds above 0")
        self.profile, self.itl_s, self.forecast, self.log1p = profile, itl_s, forecast, log1p
        self.corrected, self.most_gpus = corrected, most_gpus
        self._step_s = period_s or 1.0  # 0: a decision at each look, of whatever length
        super().__init__(period_s, least, most)

    def restart(self) -> None:
        """Forget the traffic."""
        super().restart()
        self._looks: list[Signals] = []
        self._requests, self._prompt, self._output = (
            predictor(self.forecast, self._step_s, self.log1p) for _ in range(3)
        )

    def observe(self, signals: Signals) -> None:
        """Remember a look at the traffic."""
        self._looks.append(signals)

    def decide(self, signals: Signals) -> Replicas:
        """Return the replicas for the next period."""
        if set(signals.roles) != {PREFILL, DECODE}:
            roles = ", ".join(signals.roles)
            raise ValueError(f"roles {roles}: this planner scales {PREFILL} and {DECODE} replicas")
        looks, self._looks = self._looks, []
        counts = [look.rate_per_s * look.interval_s for look in looks]
        requests, seconds = sum(counts), sum(look.interval_s for look in looks)
        if not requests or not seconds:
            return {name: role.replicas for name, role in signals.roles.items()}
        # of a whole period, as the planner counts them: logarithms are not free of the unit
        self._requests.add(requests / seconds * self._step_s)
        self._prompt.add(weighted([look.prompt_tokens for look in looks], counts))
        self._output.add(weighted([look.output_tokens for look in looks], counts))
        rate_per_s = self._requests.next() / self._step_s
        prompts_per_s = rate_per_s * self._prompt.next()
        outputs_per_s = rate_per_s * self._output.next()
        prefill, decode = self._corrections(signals, looks, counts)
        p, d = self.profile, self.profile.decode_tokens_per_s(self.itl_s / decode)
        wanted = self._within_budget(
            ceil(prompts_per_s * min(1.0, prefill) / p.prefill_tokens_per_s / p.prefill_gpus),
            ceil(outputs_per_s / d / p.decode_gpus),
        )
        return {PREFILL: wanted[0], DECODE: wanted[1]}

    def _corrections(
        self, signals: Signals, looks: list[Signals], counts: list[float]
    ) -> tuple[float, float]:
        """Return measured over expected TTFT and ITL; 1 where nothing was measured."""
        ttft_s = weighted([look.ttft_s for look in looks], counts)
        itl_s = weighted([look.tpot_s for look in looks], counts)
        running = signals.roles[DECODE].running
        expected_s = self.profile.itl_s(sum(running) / len(running)) if running else math.nan
        found = (ttft_s / self.profile.ttft_s, itl_s / expected_s)
        if not self.corrected:
            return 1.0, 1.0
        prefill, decode = (factor if factor > 0 else 1.0 for factor in found)
        return prefill, decode

    def _within_budget(self, prefill: int, decode: int) -> tuple[int, int]:
        """Return both, cut to the budget: prefill in proportion, decode what is left."""
        p_gpus, d_gpus = self.profile.prefill_gpus, self.profile.decode_gpus
        prefill, decode = max(prefill, self.least), max(decode, self.least)
        total = prefill * p_gpus + decode * d_gpus
        if total <= self.most_gpus:
            return prefill, decode
        room = (self.most_gpus - self.least * d_gpus) // p_gpus
        prefill = max(self.least, min(room, int(prefill * self.most_gpus / total)))
        return prefill, max(self.least, (self.most_gpus - prefill * p_gpus) // d_gpus)


def weighted(values: list[float], weights: list[float]) -> float:
    """Return the weighted mean of the values that are numbers; NaN if there are none."""
    known = [(v, w) for v, w in zip(values, weights, strict=True) if not math.isnan(v)]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else math.nan
