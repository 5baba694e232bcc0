"""Vision encoders: how many visual tokens an image becomes, and of which crops.

Rules, for an image of width by height pixels:

- ``square``: resized to ``side`` squared; ``(side / factor)**2`` tokens.
- ``native``: sides rounded to multiples of ``factor``, at least 256 and at most ``most`` tokens'
  pixels in all; a token for each ``factor`` squared (Qwen2-VL: at least four).
- ``tiles``: the best of all grids of at most ``most`` tiles of ``side`` squared, and an overview;
  ``(side // factor)**2`` tokens each (LLaVA's anyres, its padding kept).
- ``molmo``: the same with tiles that overlap by a margin; their tokens are pooled by two, and rows
  end with a mark: ``158 + rows (columns + 1) + 2`` with ``8 n + 4`` rows and columns of n tiles.

Sources: ``encoders.csv``; for the choice of tiles ``select_tiling`` of Molmo's preprocessor.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .cells import Cells

RULES = ("square", "native", "tiles", "molmo")
MARGIN_PX = 112
"""Molmo: 4 + 4 patches of 14 px by which tiles overlap."""
WINDOW_PX = 224
"""Molmo: what a tile of 336 px adds."""
LEAST_PX = {28: 56 * 56, 32: 256 * 256}
"""Pixels to which smaller images are enlarged, by the factor of the ``native`` rule."""


@dataclass(frozen=True)
class Image:
    """What an encoder makes of an image.

    Attributes:
        tokens: visual tokens in the prompt, marks included.
        crops: images that pass through the encoder.
        patches: of each, that attend to each other.
        pixels: of all crops.
    """

    tokens: int
    crops: int
    patches: int
    pixels: int


@dataclass(frozen=True)
class Encoder:
    """A vision encoder.

    Attributes:
        name: of the encoder.
        models: whose it is.
        rule: one of RULES.
        side: pixels of the side of a crop; 0: any.
        factor: pixels of the side of a token.
        patch: pixels of the side of a patch; 0: a convolutional encoder, ``gflops_per_mpx`` then.
        layers, hidden, heads, ffn, gated: of the transformer.
        most: tiles, or tokens.
        gflops_per_mpx: of a convolutional encoder, for a million pixels.
    """

    name: str
    models: tuple[str, ...]
    rule: str
    side: int
    factor: int
    patch: int
    layers: int
    hidden: int
    heads: int
    ffn: int
    gated: bool
    most: int
    gflops_per_mpx: float
    confidence: str
    source: str

    def image(self, width: int, height: int) -> Image:
        """Return what becomes of an image.

        Raises:
            ValueError: a side is below 1 pixel.
        """
        if min(width, height) < 1:
            raise ValueError(f"image of {width} x {height}: give sides of 1 pixel and more")
        if self.rule == "native":
            rows, columns = _native(width, height, self.factor, self.most)
            patches = rows * columns * (self.factor // self.patch) ** 2
            return Image(rows * columns, 1, patches, rows * columns * self.factor**2)
        if self.rule == "square":
            return self._crops(1, (self.side // self.factor) ** 2)
        if self.rule == "tiles":
            rows, columns = tiling(width, height, self.side, self.most)
            tiles = rows * columns + 1
            return self._crops(tiles, tiles * (self.side // self.factor) ** 2)
        inside = (max(1, width - MARGIN_PX), max(1, height - MARGIN_PX))
        rows, columns = tiling(*inside, WINDOW_PX, self.most)
        marked = _marked(1, 1) + _marked(rows, columns)
        return self._crops(rows * columns + 1, marked)

    def _crops(self, crops: int, tokens: int) -> Image:
        patches = (self.side // self.patch) ** 2 if self.patch else 0
        return Image(tokens, crops, patches, crops * self.side**2)


def _marked(rows: int, columns: int) -> int:
    """Return Molmo's tokens of a grid of tiles: pooled, a mark a row, one before and one after."""
    return (8 * rows + 4) * (8 * columns + 5) + 2


def _native(width: int, height: int, factor: int, most: int) -> tuple[int, int]:
    """Return rows and columns of tokens; sides keep their ratio where pixels are bounded."""
    least_px, most_px = LEAST_PX[factor], most * factor**2
    rows, columns = (max(1, round(side / factor)) for side in (height, width))
    if rows * columns * factor**2 > most_px:
        shrink = math.sqrt(width * height / most_px)
        return max(1, int(height / shrink / factor)), max(1, int(width / shrink / factor))
    if rows * columns * factor**2 < least_px:
        grow = math.sqrt(least_px / (width * height))
        return math.ceil(height * grow / factor), math.ceil(width * grow / factor)
    return rows, columns


def tiling(width: int, height: int, side: int, most: int) -> tuple[int, int]:
    """Return rows and columns of the grid of tiles that an image is resized to.

    The least enlargement that covers it, or else the least reduction; of equals the fewest tiles,
    of these the fewest rows.
    """
    grids = sorted(
        ((i, j) for i in range(1, most + 1) for j in range(1, most + 1) if i * j <= most),
        key=lambda grid: (grid[0] * grid[1], grid[0]),
    )
    scale = {(i, j): min(i * side / height, j * side / width) for i, j in grids}
    covering = [grid for grid in grids if scale[grid] >= 1]
    if covering:
        return min(covering, key=lambda grid: scale[grid])
    return max(grids, key=lambda grid: scale[grid])


def encoder(model_name: str) -> Encoder:
    """Return the encoder of a model.

    Raises:
        ValueError: the model has none, or none that is known.
    """
    for entry in encoders():
        if model_name in entry.models:
            return entry
    known = ", ".join(name for entry in encoders() for name in entry.models)
    raise ValueError(f"model {model_name!r} sees no images; use one of {known}")


@cache
def encoders() -> tuple[Encoder, ...]:
    """Return the encoders of ``encoders.csv``."""
    with (Path(__file__).parent / "encoders.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    found = []
    for row in rows:
        cell = Cells("encoder", row["name"], row, set(row))
        whole = {
            name: cell.whole(name)
            for name in ("side", "factor", "patch", "layers", "hidden", "heads", "ffn", "most")
        }
        found.append(
            Encoder(
                name=row["name"],
                models=tuple(row["models"].split(";")),
                rule=cell.choice("rule", RULES, "square"),
                gated=bool(cell.whole("gated")),
                gflops_per_mpx=cell.number("gflops_per_mpx"),
                confidence=row["confidence"],
                source=row["source"],
                **whole,
            )
        )
    return tuple(found)
