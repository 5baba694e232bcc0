"""Token-aware scaling of llm-d with KEDA: seconds of prompt work in the queue, and full caches.

Source: llm-d, guides/workload-autoscaling/keda-epp-token-aware, commit 560d420.
"""

from __future__ import annotations

from .behavior import Behavior
from .hpa import HPA, SYNC_S, TOLERANCE, ceil
from .signals import DECODE, PREFILL, RoleSignals


class KedaTokenAware(HPA):
    """Scales on tokens of work, not on numbers of requests.

    ``max(ceil(queued tokens / V_P / prefill threshold), ceil(sum of KV usage / decode threshold))``
    where replicas do both, the first for prefill and the second for decode replicas. KEDA leaves
    the rest to an HPA.

    Args:
        prefill_tokens_per_s: V_P, prompt tokens that one replica computes in a second: a batch's
            tokens over the time to first token of a prompt of that length on an idle replica.
        prefill_threshold_s: seconds of prompts that may queue at a replica: the objective of the
            time to first token less what an idle replica takes for it. 1.5 is the guide's.
        decode_threshold: KV usage that a replica should have. 0.8 is the guide's.
        tolerance, behavior, least, most, period_s: those of :class:`HPA`.
    """

    def __init__(
        self,
        prefill_tokens_per_s: float,
        prefill_threshold_s: float = 1.5,
        decode_threshold: float = 0.8,
        tolerance: float = TOLERANCE,
        behavior: Behavior | None = None,
        least: int = 1,
        most: int = 1024,
        period_s: float = SYNC_S,
    ) -> None:
        for name, value in (
            ("prefill_tokens_per_s", prefill_tokens_per_s),
            ("prefill_threshold_s", prefill_threshold_s),
        ):
            if not value > 0:
                raise ValueError(f"{name} = {value!r}: give a value above 0")
        self.prefill_tokens_per_s = prefill_tokens_per_s
        self.prefill_threshold_s = prefill_threshold_s
        super().__init__(decode_threshold, "kv_usage", tolerance, behavior, least, most, period_s)

    def recommend(self, name: str, role: RoleSignals) -> int:
        """Return the most that the triggers of a role ask for."""
        queued_s = sum(role.queued_tokens) / self.prefill_tokens_per_s
        wanted = []
        if name != DECODE:
            wanted.append(self._for_total(role, queued_s, self.prefill_threshold_s))
        if name != PREFILL:
            wanted.append(self._for_total(role, sum(role.kv_usage), self.target))
        return max(wanted)

    def _for_total(self, role: RoleSignals, total: float, target: float) -> int:
        """Return the replicas over which ``total`` is ``target`` each (HPA's AverageValue)."""
        if role.replicas and abs(total / (target * role.replicas) - 1) <= self.tolerance:
            return role.replicas
        return ceil(total / target)
