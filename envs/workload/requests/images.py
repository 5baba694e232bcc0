"""Requests with an image: its visual tokens lengthen the prompt.

The image stands behind the text, and nobody else sends it: prefixes stay those of the text. The
encoder's own time is not part of a request (:mod:`gpuyard.envs.perf.serving.vision` knows it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...hardware.encoders import encoder
from .parameters import check
from .stream import RequestStream


@dataclass(frozen=True)
class Images:
    """How many requests bring an image, and of which sizes.

    Attributes:
        model: whose encoder sees them (``envs/hardware/encoders.csv``).
        share: of the requests that bring one, in [0, 1].
        sizes: widths and heights in pixels, each as likely as its place in the list is frequent.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    model: str
    share: float = 1.0
    sizes: tuple[tuple[int, int], ...] = ((1024, 1024),)

    def __post_init__(self) -> None:
        check(self, "share", 0.0, 1.0)
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
    def tokens(self) -> tuple[int, ...]:
        """Visual tokens of each size."""
        seen = encoder(self.model)
        return tuple(seen.image(width, height).tokens for width, height in self.sizes)

    @property
    def mean_tokens(self) -> float:
        """Visual tokens of a request on average, of those without an image, too."""
        return self.share * float(np.mean(self.tokens))

    def added(self, stream: RequestStream, rng: np.random.Generator) -> RequestStream:
        """Return the stream with the visual tokens of its images in the prompts."""
        tokens = rng.choice(np.array(self.tokens, np.int32), len(stream))
        brings = rng.random(len(stream)) < self.share
        prompt = stream.prompt_tokens + np.where(brings, tokens, 0).astype(np.int32)
        return replace(stream, prompt_tokens=prompt)


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in size)
    )
