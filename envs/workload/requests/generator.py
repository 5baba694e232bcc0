"""Requests drawn from fitted distributions: as many different streams as there are seeds.

A :class:`Generator` is a frozen set of parameters; the named ones are in :mod:`.presets`. A stream
of a few hundred requests costs tens of microseconds, so that every episode can have a new one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.core.random import seed_state
from ...engine.core.records import records
from . import arrivals, conversations
from . import quantiles as tables
from .parameters import Bursts, Clients, Conversation, Modulation, check, check_knots
from .stream import RequestStream

_GRID = (np.arange(2000) + 0.5) / 2000  # midpoints, for means over a distribution
_NORMAL = np.array([NormalDist().inv_cdf(p) for p in _GRID])
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_SNAPSHOTS = 32_768
MOST_UNDER_WAY = 1e6  # conversations at a time: drawing them takes a second
LEAST_RATE_PER_S = 1e-6
"""One request in eleven days; at lower rates drawing a stream would take minutes and more."""


@dataclass(frozen=True)
class Generator:
    """Parameters of a synthetic workload.

    Lengths are given as 30 knots, the quantiles at :data:`KNOTS_P`; ln(length) is linear between.

    Attributes:
        prompt: knots of the prompt tokens (of a first turn, without the system prompt).
        output: knots of the output tokens.
        rate_per_s: mean requests per second.
        max_tokens: cap on prompt and output together. Longer requests are drawn anew; a
            conversation that no longer fits drops the older half of its history.
        clients: who sends.
        bursts: how clients send, if in bursts.
        modulation: how the rate changes.
        conversation: sessions, if any.
        urgent_share: share of conversations with priority 1; the others have 0.
        prefix_block_tokens: tokens per prefix id.
        max_ids_per_request: cap on the distinct prefix ids of a stream, per request.
    """

    prompt: tuple[float, ...]
    output: tuple[float, ...]
    rate_per_s: float = 4.0
    max_tokens: int = 8192
    clients: Clients = field(default_factory=Clients)
    bursts: Bursts | None = None
    modulation: Modulation = field(default_factory=Modulation)
    conversation: Conversation | None = None
    urgent_share: float = 0.0
    prefix_block_tokens: int = 64
    max_ids_per_request: int = 8

    def __post_init__(self) -> None:
        check_knots(self, "prompt")
        check_knots(self, "output")
        check(self, "rate_per_s", LEAST_RATE_PER_S)
        check(self, "max_tokens", 16, 2**30)
        check(self, "urgent_share", 0.0, 1.0)
        check(self, "prefix_block_tokens", 1)
        check(self, "max_ids_per_request", 0, 2**20)

    def sample(self, rng: np.random.Generator, num_requests: int) -> RequestStream:
        """Draw a stream of ``num_requests`` >= 1 from one 64-bit seed that ``rng`` gives.

        The stream is cut out of a process in its steady state: conversations may be under way when
        it begins. Prefix ids are those that two or more of its requests share. Every request states
        the same ``max_tokens``, the longest output that there is, or what its prompt leaves of the
        cap.
        """
        if num_requests < 1:
            raise ValueError(f"num_requests = {num_requests} must be at least 1")
        waiting, clients, constants = self._constants
        arrival_s, prompt, output, session, offsets, ids, priority = conversations.generate(
            seed_state(rng),
            records(num_requests, conversations.DRAFT),
            records(num_requests + waiting, conversations.TALK),
            records(1, arrivals.CLOCK),
            clients.copy(),
            *constants,
        )
        longest = min(math.ceil(self.output[-1]), self.max_tokens)
        return RequestStream(
            arrival_s=arrival_s,
            prompt_tokens=prompt,
            output_tokens=output,
            max_tokens=np.minimum(longest, self.max_tokens - prompt),
            session=session,
            prefix_offsets=offsets,
            prefix_ids=ids,
            prefix_block_tokens=self._block_tokens,
            priority=priority,
        )

    def max_prefix_ids(self, num_requests: int) -> int:
        """Return a bound on the distinct prefix ids of a stream: all are below it."""
        if not self._block_tokens:
            return 0
        return self.max_ids_per_request * num_requests

    @property
    def mean_turns(self) -> float:
        """Mean number of turns of a conversation; 1 without conversations."""
        if self.conversation is None:
            return 1.0
        *chances, tail = self.conversation.continue_prob
        reach = np.cumprod([1.0, *chances])
        return float(reach[:-1].sum() + reach[-1] / (1.0 - tail))

    @property
    def _block_tokens(self) -> int:
        shares = self.conversation is not None or self.clients.system_tokens > 0
        return self.prefix_block_tokens if shares else 0

    @cached_property
    def _constants(self) -> tuple[int, NDArray[Any], tuple[NDArray[Any], ...]]:
        """What :func:`conversations.generate` needs each time.

        That is the most conversations under way at the beginning, the clients, and its arguments
        behind them.
        """
        profile = np.array(self.modulation.hour_profile, np.float64)
        clients = _clients(self.clients, self.bursts, self.max_tokens)
        rows = _tables(self)
        spec = _spec(self, rows)
        talk = self.conversation
        go_on = np.array(talk.continue_prob if talk else (0.0,), np.float64)
        snapshots = records(_SNAPSHOTS if talk else 1, conversations.TALK)
        if talk and self.mean_turns > 1.0:
            state = np.zeros(1, np.uint64)  # fixed: equal generators give equal streams
            conversations.rehearse(state, spec[0], clients, rows, go_on, snapshots)
            snapshots = snapshots[np.random.default_rng(0).permutation(len(snapshots))]
        mean = float(spec[0]["waiting"])
        constants = (
            spec,
            _clock_spec(self),
            _bursts(self.bursts),
            profile / profile.mean(),
            rows,
            go_on,
            snapshots,
        )
        if not mean <= MOST_UNDER_WAY:
            raise ValueError(
                f"rate_per_s = {self.rate_per_s:g}: {mean:.3g} conversations would be under way at "
                f"once, at most {MOST_UNDER_WAY:g} can; lower it, think_mu or reply_token_s"
            )
        return int(mean + 6.0 * math.sqrt(mean)), clients, constants


def _tables(generator: Generator) -> NDArray[np.float64]:
    """Return the tables of lengths (tokens) and times (s), one row each."""
    prompt, output = tables.lengths(generator.prompt), tables.lengths(generator.output)
    talk = generator.conversation
    if talk is None:
        return np.stack([prompt, prompt, output, prompt, prompt])  # the others are not drawn from
    think = tables.lognormal(talk.think_mu, talk.think_sigma)
    reply = talk.reply_token_s * np.minimum(output, generator.max_tokens)
    due = tables.remaining(think, reply)
    return np.stack([prompt, tables.lengths(talk.follow_up), output, think, due])


def _spec(generator: Generator, rows: NDArray[np.float64]) -> NDArray[Any]:
    spec = records(1, conversations.SPEC)
    spec["max_tokens"] = generator.max_tokens
    spec["block_tokens"] = generator.prefix_block_tokens
    spec["max_ids"] = generator.max_ids_per_request
    spec["urgent_share"] = generator.urgent_share
    talk = generator.conversation
    if talk:
        think_s = tables.middles(rows[conversations.THINK]).mean()
        output = np.minimum(rows[conversations.OUTPUT], generator.max_tokens)
        gap_s = think_s + talk.reply_token_s * tables.middles(output).mean()
        later_per_s = generator.rate_per_s * (1.0 - 1.0 / generator.mean_turns)
        spec["conversing"] = 1
        spec["waiting"] = later_per_s * gap_s  # Little's law
        spec["reply_token_s"], spec["edit_prob"] = talk.reply_token_s, talk.edit_prob
    return spec


def _clock_spec(generator: Generator) -> NDArray[Any]:
    modulation = generator.modulation
    spec = records(1, arrivals.CLOCK_SPEC)
    spec["rate"] = generator.rate_per_s / generator.mean_turns
    spec["step_s"] = modulation.step_s
    spec["log_sd"], spec["ar1"] = modulation.log_sd, modulation.ar1
    spec["start_hour"] = modulation.start_hour
    return spec


def _bursts(bursts: Bursts | None) -> NDArray[Any]:
    """Return the record of the bursts, with the share of time that is pause."""
    record = records(1, arrivals.BURST_SPEC)
    if bursts:
        for name, value in vars(bursts).items():
            record[name] = value
        pause_s, size, gap_s = _burst_means(bursts)
        record["pause_share"] = pause_s / (pause_s + (size - 1.0) * gap_s)
    return record


def _burst_means(bursts: Bursts) -> tuple[float, float, float]:
    """Return the means of a pause (s), of a burst's size and of a gap inside it (s)."""
    sizes = np.exp(bursts.size_mu + bursts.size_sigma * _NORMAL)
    pauses = bursts.pause_min_s + np.exp(bursts.pause_mu + bursts.pause_sigma * _NORMAL)
    size = np.floor(np.clip(sizes, 1.0, bursts.size_max)).mean()
    gap_s = bursts.close_share * bursts.close_s + (1.0 - bursts.close_share) * bursts.apart_s
    return float(np.minimum(pauses, bursts.pause_max_s).mean()), float(size), gap_s


def _clients(clients: Clients, bursts: Bursts | None, max_tokens: int) -> NDArray[Any]:
    """Return the table of clients; their properties are spread evenly over the quantiles."""
    table = records(clients.count, arrivals.CLIENT)
    rank = np.arange(1, clients.count + 1)
    share = rank ** -float(clients.zipf)
    share /= share.sum()
    table["share_below"] = np.cumsum(share)
    cv = np.exp(clients.cv_mu + clients.cv_sigma * _spread(rank, _GOLDEN))
    system = clients.system_tokens * np.exp(clients.system_sigma * _spread(rank, _GOLDEN**2))
    table["system_tokens"] = np.minimum(system, max_tokens // 2).round()
    weibull = rank * math.sqrt(2.0) % 1.0 < clients.weibull_share
    for row, (mean_gap, spread, is_weibull) in enumerate(
        zip(1.0 / share, cv, weibull, strict=True)
    ):
        if bursts:
            pause_s, size, gap_s = _burst_means(bursts)
            family, shape = arrivals.BURST, 1.0
            unit = (pause_s + (size - 1.0) * gap_s) / size
        elif is_weibull:
            family, shape = arrivals.WEIBULL, _weibull_shape(spread)
            unit = math.gamma(1.0 + 1.0 / shape)
        else:
            family = arrivals.GAMMA
            shape = unit = 1.0 / spread**2
        table[row]["family"], table[row]["gap_shape"] = family, shape
        table[row]["gap_scale"] = mean_gap / unit
    return table


def _spread(rank: NDArray[np.int64], step: float) -> NDArray[np.float64]:
    """Return standard normal quantiles that fill the distribution evenly from the first rank on."""
    return np.array([NormalDist().inv_cdf(max(p, 1e-6)) for p in rank * step % 1.0])


def _weibull_shape(cv: float) -> float:
    """Return the Weibull shape with this coefficient of variation, by bisection."""
    low, high = 0.1, 20.0
    for _ in range(60):
        shape = 0.5 * (low + high)
        mean = math.gamma(1.0 + 1.0 / shape)
        too_wide = math.gamma(1.0 + 2.0 / shape) / mean**2 - 1.0 > cv * cv
        low, high = (shape, high) if too_wide else (low, shape)
    return 0.5 * (low + high)
