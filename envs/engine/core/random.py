"""Random numbers inside compiled code: splitmix64 on a state of one ``uint64``.

A state is a uint64 array of one element, seeded once from Gymnasium's generator; every function
advances it. Cheap enough for the inner loop (about 1 ns a draw) and the same on every machine.

Source of the generator: Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014, in the 64-bit variant with Stafford's mix 13.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .compile import kernel

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # odd fraction of the golden ratio
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)
_UNIT = 2.0**-53


def seed_state(rng: np.random.Generator) -> NDArray[np.uint64]:
    """Return a fresh state drawn from ``rng``."""
    return np.array([rng.integers(2**64 - 1, dtype=np.uint64, endpoint=True)], np.uint64)


@kernel
def hash64(key):
    """Return a 64-bit hash of a uint64: the finaliser of splitmix64."""
    key = (key ^ (key >> _S30)) * _MIX1
    key = (key ^ (key >> _S27)) * _MIX2
    return key ^ (key >> _S31)


@kernel
def next_u64(state):
    """Return 64 random bits as a uint64."""
    state[0] += GAMMA
    return hash64(state[0])


@kernel
def unit_float(word):
    """Return the float in (0, 1) that 64 random bits stand for: never 0."""
    return (float(np.int64(word >> _S11)) + 0.5) * _UNIT  # signed: one instruction


@kernel
def uniform(state):
    """Return a float uniform in (0, 1), whose logarithm is finite."""
    return unit_float(next_u64(state))


@kernel
def exponential(state):
    """Return an exponential variate of mean 1."""
    return -math.log(uniform(state))


@kernel
def normal(state):
    """Return a standard normal variate (Box and Muller 1958, one of the pair)."""
    radius = math.sqrt(-2.0 * math.log(uniform(state)))
    return radius * math.cos(2.0 * math.pi * uniform(state))


@kernel
def gamma(state, shape):
    """Return a gamma variate of the given ``shape`` > 0 and scale 1.

    Marsaglia and Tsang, "A simple method for generating gamma variables", ACM TOMS 26 (2000).
    """
    boost = 1.0
    if shape < 1.0:
        boost = uniform(state) ** (1.0 / shape)
        shape += 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = normal(state)
        v = 1.0 + c * x
        if v <= 0.0:
            continue
        v = v * v * v
        if math.log(uniform(state)) < 0.5 * x * x + d * (1.0 - v + math.log(v)):
            return boost * d * v
