"""What an autoscaler sees of a service when it decides: no more than real ones scrape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

NONE_YET = math.nan
"""A mean over requests of which there were none."""

MIXED = "serve"
"""The role of replicas that prefill and decode."""
PREFILL = "prefill"
DECODE = "decode"


@dataclass(frozen=True)
class RoleSignals:
    """State of the replicas of one role.

    The tuples have one entry per ready replica. Where only their mean is known, repeat it: rules
    that ask whether any or all of them are beyond a threshold then ask it of the mean.

    Attributes:
        starting: replicas that wait for devices or load.
        waiting: requests queued at each replica.
        running: requests in the batch of each.
        queued_tokens: prompt tokens sent to each and not yet computed, cached prefixes left out.
        kv_usage: share of KV blocks in use at each, 0 to 1.
        utilization: how busy the GPUs of each are, 0 to 1.
    """

    starting: int = 0
    waiting: tuple[float, ...] = ()
    running: tuple[float, ...] = ()
    queued_tokens: tuple[float, ...] = ()
    kv_usage: tuple[float, ...] = ()
    utilization: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse signals of different numbers of replicas.

        Raises:
            ValueError: naming the field and both lengths.
        """
        for field in fields(self)[1:]:
            length = len(getattr(self, field.name))
            if length != self.ready:
                raise ValueError(
                    f"{field.name} has {length} entries and waiting {self.ready}: give one for "
                    "each ready replica"
                )

    @property
    def ready(self) -> int:
        """Replicas that take requests."""
        return len(self.waiting)

    @property
    def replicas(self) -> int:
        """Replicas that take requests or will."""
        return self.ready + self.starting


@dataclass(frozen=True)
class Signals:
    """State of a service and its traffic since the last look.

    Attributes:
        now_s: time of the look; never earlier than that of the one before.
        interval_s: seconds since the one before, over which rates and means are taken.
        roles: by name: :data:`MIXED`, or :data:`PREFILL` and :data:`DECODE`.
        rate_per_s: requests that arrived.
        prompt_tokens, output_tokens: their mean lengths.
        prefill_tokens_per_s: prompt tokens computed, cached prefixes left out.
        ttft_s, tpot_s: mean of those that had a first token, and that finished; NaN without any.
    """

    now_s: float
    interval_s: float
    roles: Mapping[str, RoleSignals]
    rate_per_s: float = 0.0
    prompt_tokens: float = NONE_YET
    output_tokens: float = NONE_YET
    prefill_tokens_per_s: float = 0.0
    ttft_s: float = NONE_YET
    tpot_s: float = NONE_YET
