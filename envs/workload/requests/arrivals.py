"""When conversations start: clients side by side on a clock that runs fast and slow.

Each client is a renewal process of its own (ServeGen, arXiv 2505.09999) or sends bursts. Its gaps
are drawn in operational time, in which all clients together start one conversation per unit; the
clock turns that into seconds at a rate that follows the hour of the day and a log-normal AR(1).
All processes begin in their steady state, not with an arrival.
"""

from __future__ import annotations

import math

import numpy as np

from ...engine.core.compile import kernel
from ...engine.core.random import exponential, gamma, normal, uniform

GAMMA, WEIBULL, BURST = 0, 1, 2

CLIENT = np.dtype(
    [
        ("family", "i4"),  # GAMMA, WEIBULL or BURST
        ("gap_shape", "f8"),
        ("gap_scale", "f8"),  # operational time per unit of the family's gap
        ("share_below", "f8"),  # share of all conversations, of this client and those before it
        ("system_tokens", "i4"),
        ("burst_left", "i4"),  # arrivals still to come in the burst under way
    ]
)

BURST_SPEC = np.dtype(  # seconds at the rate at which the bursts were measured
    [
        ("size_mu", "f8"),  # of ln(requests per burst)
        ("size_sigma", "f8"),
        ("size_max", "f8"),
        ("pause_min_s", "f8"),
        ("pause_mu", "f8"),  # of ln(pause - pause_min_s)
        ("pause_sigma", "f8"),
        ("pause_max_s", "f8"),
        ("pause_share", "f8"),  # of all time
        ("close_share", "f8"),  # share of the gaps inside a burst with the shorter mean
        ("close_s", "f8"),
        ("apart_s", "f8"),
    ]
)

CLOCK = np.dtype(
    [
        ("until_s", "f8"),
        ("until", "f8"),  # the same in operational time
        ("rate", "f8"),  # operational time per second
        ("log_rate", "f8"),  # standard normal state of the AR(1)
        ("start_hour", "f8"),
    ]
)

CLOCK_SPEC = np.dtype(
    [
        ("rate", "f8"),  # conversations per second, in the mean
        ("step_s", "f8"),
        ("log_sd", "f8"),
        ("ar1", "f8"),
        ("start_hour", "f8"),  # -1: random
    ]
)


@kernel
def start_clock(state, spec, profile, clock):
    """Set a clock to time 0 and draw its first rate."""
    clock.start_hour = spec.start_hour
    if spec.start_hour < 0.0 and len(profile) > 1:
        clock.start_hour = uniform(state) * len(profile)
    clock.log_rate = normal(state) if spec.log_sd > 0.0 else 0.0
    clock.until_s = 0.0
    clock.until = 0.0
    _set_rate(spec, profile, clock)
    clock.until_s = spec.step_s
    clock.until = clock.rate * spec.step_s


@kernel
def _set_rate(spec, profile, clock):
    """Set the rate of the step that begins at ``clock.until_s``."""
    hour = int(clock.start_hour + clock.until_s / 3600.0) % len(profile)
    drift = math.exp(spec.log_sd * clock.log_rate - 0.5 * spec.log_sd * spec.log_sd)
    clock.rate = spec.rate * profile[hour] * drift


@kernel
def seconds(state, spec, profile, clock, operational):
    """Return the time at an operational time; calls must come in non-decreasing order of it."""
    while operational > clock.until:
        if spec.log_sd > 0.0:
            fresh = math.sqrt(1.0 - spec.ar1 * spec.ar1) * normal(state)
            clock.log_rate = spec.ar1 * clock.log_rate + fresh
        _set_rate(spec, profile, clock)
        clock.until_s += spec.step_s
        clock.until += clock.rate * spec.step_s
    return clock.until_s - (clock.until - operational) / clock.rate


@kernel
def next_gap(state, client, burst):
    """Return the operational time to this client's next start."""
    if client.family == GAMMA:
        if client.gap_shape == 1.0:
            return client.gap_scale * exponential(state)
        return client.gap_scale * gamma(state, client.gap_shape)
    if client.family == WEIBULL:
        return client.gap_scale * exponential(state) ** (1.0 / client.gap_shape)
    if client.burst_left > 0:
        client.burst_left -= 1
        mean = burst.close_s if uniform(state) < burst.close_share else burst.apart_s
        return client.gap_scale * mean * exponential(state)
    client.burst_left = int(_burst_size(state, burst)) - 1
    return client.gap_scale * _pause(state, burst)


@kernel
def first_gap(state, client, burst):
    """Return the operational time to this client's first start, seen from a random moment.

    That moment falls into a gap with probability proportional to the gap's length, and uniformly
    inside it (inspection paradox). Length-biased, a gamma of shape k has shape k + 1, and a Weibull
    is a power of a gamma of shape 1 + 1/k; bursts and pauses are accepted by their length.
    """
    if client.family == GAMMA:
        return uniform(state) * client.gap_scale * gamma(state, client.gap_shape + 1.0)
    if client.family == WEIBULL:
        power = gamma(state, 1.0 + 1.0 / client.gap_shape)
        return uniform(state) * client.gap_scale * power ** (1.0 / client.gap_shape)
    if uniform(state) < burst.pause_share:
        pause = _pause(state, burst)
        while uniform(state) * burst.pause_max_s > pause:
            pause = _pause(state, burst)
        client.burst_left = int(_burst_size(state, burst)) - 1
        return uniform(state) * client.gap_scale * pause
    size = _burst_size(state, burst)
    while uniform(state) * burst.size_max > size:
        size = _burst_size(state, burst)
    client.burst_left = 1 + int(uniform(state) * (size - 1.0))
    return next_gap(state, client, burst)


@kernel
def _burst_size(state, burst):
    size = math.exp(burst.size_mu + burst.size_sigma * normal(state))
    return max(1.0, min(burst.size_max, size))


@kernel
def _pause(state, burst):
    pause = burst.pause_min_s + math.exp(burst.pause_mu + burst.pause_sigma * normal(state))
    return min(burst.pause_max_s, pause)
