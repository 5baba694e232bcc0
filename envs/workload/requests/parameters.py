"""The parts that a workload generator is put together from, each checked on construction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

KNOTS_P = (
    *(0.0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
    *(0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0),
)


def check(owner: object, name: str, low: float, high: float = math.inf) -> None:
    """Refuse anything but a number in ``[low, high]``, a whole one where the field is an int.

    Raises:
        ValueError: naming class, field, value and range.
    """
    value: Any = getattr(owner, name)
    kind: Any = Integral if type(owner).__annotations__[name] == "int" else Real
    where = f"{type(owner).__name__}.{name} = {value!r}"
    allowed = f"{low:g} to {high:g}" if high < math.inf else f"{low:g} or more, but not inf"
    if not isinstance(value, kind) or isinstance(value, bool):
        word = "whole number" if kind is Integral else "number"
        raise ValueError(f"{where} is not a {word}; choose {allowed}")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{where} is out of range; choose {allowed}")


def are_numbers(values: Any) -> bool:
    """Tell whether ``values`` is a sequence of numbers."""
    return isinstance(values, (tuple, list)) and all(isinstance(value, Real) for value in values)


def check_knots(owner: object, name: str) -> None:
    """Refuse anything but 30 non-decreasing lengths >= 1."""
    knots = getattr(owner, name)
    rising = are_numbers(knots) and all(a <= b for a, b in pairwise(knots))
    if not rising or len(knots) != len(KNOTS_P) or not 1 <= knots[0] <= knots[-1] < math.inf:
        raise ValueError(
            f"{type(owner).__name__}.{name} must be {len(KNOTS_P)} non-decreasing lengths >= 1, "
            f"the quantiles at KNOTS_P; got {knots!r}"
        )


@dataclass(frozen=True)
class Clients:
    """Who sends: clients side by side, each with gaps and a system prompt of its own.

    Attributes:
        count: number of clients, >= 1.
        zipf: exponent of the shares of volume, largest client first; 0 = all equal.
        cv_mu: mean over clients of ln(coefficient of variation of the gaps).
        cv_sigma: standard deviation of the same over clients; 0 = all alike.
        weibull_share: share of clients whose gaps are Weibull; gamma for the others.
        system_tokens: median over clients of the tokens of the system prompt; 0 = none.
        system_sigma: standard deviation over clients of its logarithm.
    """

    count: int = 1
    zipf: float = 0.0
    cv_mu: float = 0.0
    cv_sigma: float = 0.0
    weibull_share: float = 0.0
    system_tokens: int = 0
    system_sigma: float = 0.0

    def __post_init__(self) -> None:
        check(self, "count", 1, 10_000)
        check(self, "zipf", 0.0, 10.0)
        check(self, "cv_mu", -2.0, 3.0)
        check(self, "cv_sigma", 0.0, 3.0)
        check(self, "weibull_share", 0.0, 1.0)
        check(self, "system_tokens", 0)
        check(self, "system_sigma", 0.0, 3.0)


@dataclass(frozen=True)
class Bursts:
    """Clients that send bursts with pauses between them, instead of single gaps.

    Times are seconds at the rate at which the trace was taken; they scale with the rate.

    Attributes:
        size_mu: mean of ln(requests per burst).
        size_sigma: standard deviation of the same.
        size_max: cap on the requests of a burst.
        pause_min_s: least pause between bursts.
        pause_mu: mean of ln(pause - pause_min_s).
        pause_sigma: standard deviation of the same.
        pause_max_s: cap on a pause.
        close_share: share of the gaps inside a burst that have the shorter mean.
        close_s: that mean.
        apart_s: mean of the other gaps inside a burst.
    """

    size_mu: float
    size_sigma: float
    size_max: float
    pause_min_s: float
    pause_mu: float
    pause_sigma: float
    pause_max_s: float
    close_share: float
    close_s: float
    apart_s: float

    def __post_init__(self) -> None:
        check(self, "size_mu", 0.0, 20.0)
        check(self, "size_sigma", 0.0, 5.0)
        check(self, "size_max", 1.0, 1e9)
        check(self, "pause_min_s", 0.0)
        check(self, "pause_mu", -20.0, 20.0)
        check(self, "pause_sigma", 0.0, 5.0)
        check(self, "pause_max_s", max(self.pause_min_s, 1e-9))
        check(self, "close_share", 0.0, 1.0)
        check(self, "close_s", 1e-9)
        check(self, "apart_s", 1e-9)


@dataclass(frozen=True)
class Modulation:
    """How the rate changes over time.

    Attributes:
        log_sd: standard deviation of ln(rate) around the profile.
        ar1: its autocorrelation from one step to the next.
        step_s: seconds for which a rate holds.
        hour_profile: rate per hour of the day (or of any cycle of whole hours), relative to their
            mean.
        start_hour: hour at which a stream begins; -1 = a random one each time.
    """

    log_sd: float = 0.0
    ar1: float = 0.0
    step_s: float = 60.0
    hour_profile: tuple[float, ...] = (1.0,)
    start_hour: float = -1.0

    def __post_init__(self) -> None:
        check(self, "log_sd", 0.0, 3.0)
        check(self, "ar1", 0.0, 0.9999)
        check(self, "step_s", 1e-3)
        check(self, "start_hour", -1.0)
        rates = self.hour_profile
        if (
            not rates
            or not are_numbers(rates)
            or not all(0 <= rate < math.inf for rate in rates)
            or not sum(rates) > 0
        ):
            raise ValueError(
                "Modulation.hour_profile must be finite rates >= 0, not all of them 0; "
                f"got {rates!r}"
            )


@dataclass(frozen=True)
class Conversation:
    """Sessions of several turns with a growing context.

    Attributes:
        continue_prob: probability of a further turn after turn 1, 2, ...; the last one repeats.
        follow_up: knots of the user tokens of later turns.
        think_mu: mean of ln(seconds from the end of an answer to the next turn).
        think_sigma: standard deviation of the same.
        reply_token_s: assumed seconds per output token until the answer has ended.
        edit_prob: probability that a turn keeps only a random part of the history.
    """

    continue_prob: tuple[float, ...]
    follow_up: tuple[float, ...]
    think_mu: float
    think_sigma: float
    reply_token_s: float = 0.0
    edit_prob: float = 0.0

    def __post_init__(self) -> None:
        chances = self.continue_prob
        if (
            not chances
            or not are_numbers(chances)
            or not all(0 <= p <= 1 for p in chances)
            or not chances[-1] < 1
        ):
            raise ValueError(
                "Conversation.continue_prob must be probabilities, the last one below 1; "
                f"got {chances!r}"
            )
        check_knots(self, "follow_up")
        check(self, "think_mu", -20.0, 20.0)
        check(self, "think_sigma", 0.0, 5.0)
        check(self, "reply_token_s", 0.0, 3600.0)
        check(self, "edit_prob", 0.0, 1.0)
