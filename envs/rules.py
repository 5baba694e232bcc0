"""Rules that a scenario may set as plain numbers, and that the engine reads by the same names.

Each dataclass is a table of a scenario file: its fields have their default, what a value must be
(see :mod:`.scenario.checks`) and a ``meaning``, of which the documentation is made. The engine has
a number for each of them: whoever adds a field here can use it there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any


def rule(default: Any, meaning: str, **checks: Any) -> Any:
    """Return a field of a table of a scenario.

    Args:
        default: the value if none is given; its type is that of the field.
        meaning: for the documentation.
        **checks: what a value must be; see :mod:`.scenario.checks`.
    """
    return field(default=default, metadata={"meaning": meaning, **checks})


SHORTEST_HOLD_S = 1e-3
"""Least ``router.hold_s``: a request that is held for a day is decided some 10^8 times at most."""


def _refuse_short(name: str, interval_s: float, least_s: float, what: str) -> None:
    """Refuse an interval above 0 that hardly moves time.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """
    if 0 < interval_s < least_s:
        raise ValueError(
            f"{name} = {interval_s!r} must be {least_s:g} seconds or more, or 0, which turns "
            f"{what} off"
        )


@dataclass(frozen=True)
class Router:
    """What the router knows and may do."""

    signal_interval_s: float = rule(
        0.0,
        "seconds between two reports of a replica to the router; 0: always up to date",
        at_least=0,
    )
    signal_interval_max_s: float = rule(
        0.0,
        "above 0: those seconds are drawn anew for each episode, evenly between "
        "`signal_interval_s` and this",
        at_least=0,
    )
    hold_s: float = rule(
        0.0,
        "seconds that a request is held back for, 0.001 or more; 0: it cannot be",
        at_least=0,
    )
    hold_limit_s: float = rule(
        1.0,
        "seconds that a request may have waited and still be held",
        range=(0, 86_400),
    )
    may_reject: bool = rule(
        False, "whether a request of which nothing is computed may be refused: a last candidate"
    )
    deadline_s: float = rule(
        0.0,
        "seconds after its arrival at which a request expires that no step has begun; 0: never",
        range=(0, 86_400),
    )

    @property
    def options(self) -> tuple[str, ...]:
        """Further blocks of columns that these rules ask for."""
        return ("gate",) if self.may_reject or self.deadline_s > 0 else ()

    def __post_init__(self) -> None:
        """Refuse an empty range, a hold that no request could be given, or that hardly moves time.

        Raises:
            ValueError: naming the fields, their values and the remedy.
        """
        if 0 < self.signal_interval_max_s < self.signal_interval_s:
            raise ValueError(
                f"router.signal_interval_max_s = {self.signal_interval_max_s} must not be below "
                f"router.signal_interval_s = {self.signal_interval_s}; 0 turns drawing off"
            )
        if 0 < self.hold_s < SHORTEST_HOLD_S:
            raise ValueError(
                f"router.hold_s = {self.hold_s!r} must be {SHORTEST_HOLD_S:g} seconds or more, or "
                "0, which turns holding off: a shorter hold would hardly move time"
            )
        if self.hold_s > self.hold_limit_s:
            raise ValueError(
                f"router.hold_s = {self.hold_s} must not be above router.hold_limit_s = "
                f"{self.hold_limit_s}: no request could ever be held; 0 turns holding off"
            )


@dataclass(frozen=True)
class Lora:
    """LoRA adapters that requests name, on every replica of ``[[replicas]]``."""

    adapters: int = rule(0, "adapters that requests name; 0: none", range=(0, 1_000_000))
    zipf: float = rule(
        1.0, "exponent of their shares of the requests; 0: equal shares", range=(0, 10)
    )
    base_share: float = rule(0.0, "share of the requests that name none", range=(0, 1))
    max_loras: int = rule(
        4, "adapters of running requests, and on the GPUs of a replica, at most", range=(1, 1024)
    )
    rank: int = rule(16, "rank of every adapter, which says their memory", range=(1, 1024))
    load_ms: float = rule(
        2.0, "milliseconds to load an adapter from host memory", range=(0, 600_000)
    )


@dataclass(frozen=True)
class Migration:
    """When running requests may move between replicas of ``[[replicas]]``, and how fast.

    Defaults: the testbed and the arguments of Llumnix (Sun et al., OSDI 2024, arXiv 2406.03243;
    github.com/AlibabaPAI/llumnix, docs/Arguments.md), but for the interval, which is 0.05 there.
    """

    interval_s: float = rule(
        0.0,
        "seconds between two rounds of decisions, 0.001 or more; 0: no request ever moves",
        range=(0, 86_400),
    )
    gb_per_s: float = rule(
        8.0, "gigabytes per second that a KV cache moves at, each alone (64 Gb/s)", above=0
    )
    stage_ms: float = rule(
        20.0, "milliseconds that every stage of a move takes besides its bytes", range=(0, 60_000)
    )
    last_blocks: int = rule(
        16, "KV blocks left to copy at which a request stops for its last stage", range=(1, 65_536)
    )
    max_stages: int = rule(
        3, "stages of a move, the last one among them; what needs more is given up", range=(1, 64)
    )

    def __post_init__(self) -> None:
        """Refuse an interval that hardly moves time."""
        _refuse_short("migration.interval_s", self.interval_s, SHORTEST_HOLD_S, "migration")


@dataclass(frozen=True)
class ClientClass:
    """A class of clients: who sends requests, with objectives and limits of their own."""

    name: str = rule("", "of the class; of one client of a trace, or * for all others", example="a")
    count: int = rule(1, "clients of the class, which are alike, if they are drawn", whole=1)
    share: float = rule(
        1.0, "of the requests, of all shares together, if clients are drawn", range=(0, 1e9)
    )
    weight: float = rule(1.0, "a client's share of service is in proportion to it", above=0)
    priority: float | None = rule(
        None, "of its requests; their own if not given", example=1.0, within=(0, 1)
    )
    ttft_s: float = rule(
        0.0, "objective for the time to first token; 0: that of `[slo]`", range=(0, 86_400)
    )
    tpot_s: float = rule(
        0.0, "objective for the time per output token; 0: that of `[slo]`", range=(0, 86_400)
    )
    deadline_s: float = rule(
        0.0,
        "seconds after its arrival at which a request expires that no step has begun; 0: that of "
        "`[router]`",
        range=(0, 86_400),
    )
    tokens_per_s: float = rule(
        0.0, "rate of the token bucket of each client; 0: it has none", range=(0, 1e12)
    )
    burst_tokens: float = rule(0.0, "size of that bucket", range=(0, 1e12))
    over_rate: str = rule(
        "hold",
        "what becomes of a request that finds too few tokens: hold (until there are) or reject",
        choices=("hold", "reject"),
    )

    def __post_init__(self) -> None:
        """Refuse a bucket without rate, or one that refuses all.

        Raises:
            ValueError: naming the fields, their values and the remedy.
        """
        if self.tokens_per_s == 0 and (self.burst_tokens > 0 or self.over_rate != "hold"):
            raise ValueError(
                f"clients: {self.name!r} has burst_tokens = {self.burst_tokens:g} and over_rate = "
                f"{self.over_rate!r}, but no token bucket: give tokens_per_s, or leave them out"
            )
        if self.over_rate == "reject" and self.burst_tokens == 0:
            raise ValueError(
                f"clients: {self.name!r} has over_rate = 'reject' and burst_tokens = 0: every "
                "request would be refused; give the bucket a size, such as the longest request's"
            )

    @property
    def ends_unserved(self) -> bool:
        """Whether its requests may expire or be refused for their rate."""
        return self.deadline_s > 0 or self.over_rate == "reject"


@dataclass(frozen=True)
class KVStore:
    """A store of KV caches that all replicas of ``[[replicas]]`` share."""

    capacity_gb: float = rule(
        0.0, "gigabytes of KV cache that it holds; 0: there is none", range=(0, 1e9)
    )
    gbps: float = rule(
        100.0,
        "gigabytes per second that all replicas together read from it, and as much written",
        above=0,
    )


@dataclass(frozen=True)
class Limits:
    """When an episode is cut short; see :data:`TRUNCATED`."""

    max_time_s: float = rule(
        0.0, "an episode is truncated at this time, seconds; 0: it never is", at_least=0
    )
    max_decisions: int = rule(
        0,
        "after so many decisions rules of the engine's own take the rest, and the episode is "
        "truncated; 0: it never is",
        whole=0,
    )


TRUNCATED = ("", "max_time_s", "max_decisions", "stalled")
"""Why an episode was truncated, by ``info["truncated_reason"]``; 0: it was not. Stalled: work is
left, but nobody runs, nothing is to come, and nothing that is pending can start."""


@dataclass(frozen=True)
class SLO:
    """Objectives per request."""

    ttft_s: float = rule(0.5, "objective for the time to first token, seconds", above=0)
    tpot_s: float = rule(0.05, "objective for the time per output token, seconds", above=0)


@dataclass(frozen=True)
class SchedulerRules:
    """What the scheduler may choose from, and what preemption costs."""

    window: int = rule(
        8,
        "pending gangs that can be chosen: the oldest, and in turn the first by age, estimate, "
        "size, area and priority that could start",
        range=(1, 1024),
    )
    preemption: bool = rule(False, "whether running gangs can be stopped, to go on later")
    running_rows: int = rule(
        8, "with preemption, how many of the latest starts can be chosen for it", range=(0, 1024)
    )
    preempt_s: float = rule(
        60.0, "seconds of work that each preemption costs a gang", range=(0, math.inf)
    )
    protected_priority: float = rule(
        math.inf,
        "gangs of this priority or more are never preempted; inf: all gangs can be",
        within=(0, math.inf),
    )
    checkpoint_s: float = rule(
        1800.0,
        "a gang whose node fails loses its work since the last multiple of this",
        range=(0, math.inf),
    )


@dataclass(frozen=True)
class Scaler:
    """When replicas of services are added and removed."""

    interval_s: float = rule(
        30.0, "seconds between two rounds of decisions; 0: there are none", range=(0, 86_400)
    )
    max_changes: int = rule(
        8, "replicas that a round may add and remove, after which it is over", range=(1, 1024)
    )

    def __post_init__(self) -> None:
        """Refuse an interval that hardly moves time."""
        _refuse_short("scaler.interval_s", self.interval_s, SHORTEST_INTERVAL_S, "scaling")


SHORTEST_INTERVAL_S = 0.1
"""Least ``scaler.interval_s``: a replica takes a minute to start."""


@dataclass(frozen=True)
class Faults:
    """Failures of nodes, and slow nodes."""

    node_mtbf_h: float = rule(
        0.0, "mean hours between failures of one node; 0: never", range=(0, math.inf)
    )
    repair_h: float = rule(4.0, "mean hours until it is back", range=(1e-3, math.inf))
    straggler_share: float = rule(0.0, "share of nodes that are slow", range=(0, 1))
    straggler_speed: float = rule(0.8, "their speed, others have 1", range=(1e-2, 1))


def numbers(*kinds: type) -> list[tuple[str, str]]:
    """Return the fields of some tables as those of a record: floats, and whole numbers."""
    return [
        (item.name, "f8" if isinstance(item.default, float) else "i4")
        for kind in kinds
        for item in fields(kind)
    ]
