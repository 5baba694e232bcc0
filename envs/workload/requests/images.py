"""Requests with an image: its visual tokens lengthen the prompt.

The image is the first part of the prompt. It is one of ``distinct`` images, or new; the turns of a
session all show the same one. Who encodes it where and when is the engine's
(:mod:`gpuyard.envs.engine.serving.images`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hardware.encoders import Image, encoder
from .parameters import check
from .stream import RequestStream

MOST_DISTINCT = 1_000_000


@dataclass(frozen=True)
class Images:
    """How many requests bring an image, which one, and of which sizes.

    Attributes:
        model: whose encoder sees them (``envs/hardware/encoders.csv``).
        share: of the requests, or of the sessions if there are any, that bring one, in [0, 1].
        sizes: widths and heights in pixels, each as likely as its place in the list is frequent.
        distinct: images there are; 0: every request, or session, brings a new one.
        zipf: exponent of their shares of what is brought; 0: equal shares.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    model: str
    share: float = 1.0
    sizes: tuple[tuple[int, int], ...] = ((1024, 1024),)
    distinct: int = 0
    zipf: float = 1.0

    def __post_init__(self) -> None:
        check(self, "share", 0.0, 1.0)
        check(self, "distinct", 0, MOST_DISTINCT)
        check(self, "zipf", 0.0, 10.0)
        try:
            encoder(self.model)
        except ValueError as error:
            raise ValueError(f"Images.model: {error}") from error
        if (
            not isinstance(self.sizes, tuple)
            or not self.sizes
            or not all(map(_is_size, self.sizes))
        ):
            raise ValueError(
                f"Images.sizes = {self.sizes!r}: give pairs of width and height in pixels, whole "
                f"numbers from 1, such as [[1024, 768]]"
            )

    @property
    def seen(self) -> tuple[Image, ...]:
        """What the encoder makes of each size."""
        return tuple(encoder(self.model).image(width, height) for width, height in self.sizes)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Visual tokens of each size."""
        return tuple(image.tokens for image in self.seen)

    @property
    def mean_tokens(self) -> float:
        """Visual tokens of a request on average, of those without an image, too."""
        return self.share * float(np.mean(self.tokens))

    def added(self, stream: RequestStream, rng: np.random.Generator) -> RequestStream:
        """Return the stream with its images, and their visual tokens in the prompts."""
        drawn = rng.choice(len(self.sizes), len(stream))
        brings = rng.random(len(stream)) < self.share
        first = _first_of_session(stream.session)
        image, size = first, drawn[first]
        if self.distinct:
            weights = np.arange(1, self.distinct + 1, dtype=float) ** -self.zipf
            image = rng.choice(self.distinct, len(stream), p=weights / weights.sum())[first]
            size = rng.choice(len(self.sizes), self.distinct)[image]
        seen = brings[first]
        more = np.where(seen, np.array(self.tokens)[size], 0).astype(np.int32)
        return replace(
            stream,
            prompt_tokens=stream.prompt_tokens + more,
            image=np.where(seen, image, -1).astype(np.int32),
            image_size=size.astype(np.int32),
        )


def _first_of_session(session: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return for every request the first one of its session; itself where it has none."""
    own = np.arange(len(session))
    _, first, inverse = np.unique(session, return_index=True, return_inverse=True)
    return np.where(session < 0, own, first[inverse])


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in size)
    )
