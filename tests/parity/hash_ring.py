"""The hash ring of vllm-router's ``consistent_hash``, from published definitions.

A point on the ring is MurmurHash64A (A. Appleby, public domain) of four bytes, little-endian, that
are furc_hash of a text into 2^23 - 1 classes (Meta's mcrouter, whose tree ends one level sooner).
Each worker has 160 points, those
of ``URL:0`` to ``URL:159``; a key falls to the first point at or above its own.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

POINTS = 160
CLASSES = 2**23 - 1
SEED = 4193360111
FURC_STRIDE = 23  # bits of one draw stand so far apart
FURC_TRIES = 32

_MULTIPLIER = 0xC6A4A7935BD1E995
_WORD = 2**64


def murmur64a(data: bytes, seed: int = SEED) -> int:
    """Return MurmurHash64A of ``data``."""

    def mixed(value: int) -> int:
        return value ^ value >> 47

    state = seed ^ len(data) * _MULTIPLIER % _WORD
    whole = len(data) - len(data) % 8
    for at in range(0, whole, 8):
        word = int.from_bytes(data[at : at + 8], "little") * _MULTIPLIER % _WORD
        state = (state ^ mixed(word) * _MULTIPLIER % _WORD) * _MULTIPLIER % _WORD
    if whole < len(data):
        state = (state ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER % _WORD
    return mixed(mixed(state) * _MULTIPLIER % _WORD)


class _Bits:
    """An endless row of bits of a key: its hash, the hash of that, and so on."""

    def __init__(self, key: bytes) -> None:
        self._words = [murmur64a(key)]

    def __getitem__(self, at: int) -> int:
        while len(self._words) <= at // 64:
            self._words.append(murmur64a(self._words[-1].to_bytes(8, "little")))
        return self._words[at // 64] >> at % 64 & 1


def furc_hash(key: bytes, classes: int = CLASSES) -> int:
    """Return the class of ``key``, 0 to ``classes - 1``.

    The bits of a binary tree over the classes are drawn from the top; the first bit that is set
    says in which half, the bits below it where there; a class out of range is drawn again.
    """
    bits = _Bits(key)
    depth = (classes - 1).bit_length()
    at = depth
    for _ in range(FURC_TRIES):
        while not bits[at]:
            if depth == 0:
                return 0
            depth -= 1
            at = depth
        at += FURC_STRIDE
        number = 1
        for _ in range(depth - 1):
            number = number << 1 | bits[at]
            at += FURC_STRIDE
        if number < classes:
            return number
    return 0


def point(text: str) -> int:
    """Return the point of ``text`` on the ring."""
    return murmur64a(furc_hash(text.encode()).to_bytes(4, "little"))


class HashRing:
    """Which worker a key falls to.

    Args:
        urls: of the workers.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        owners = {point(f"{url}:{i}"): at for at, url in enumerate(urls) for i in range(POINTS)}
        self._points = sorted(owners)
        self._owners = owners

    def home(self, key: str) -> int:
        """Return the index of the worker of ``key``."""
        at = bisect.bisect_left(self._points, point(key)) % len(self._points)
        return self._owners[self._points[at]]
