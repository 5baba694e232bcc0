"""A figure that is drawn into memory, without a display or matplotlib's global state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def image_of(draw: Callable[[Figure], None], width: float, height: float) -> NDArray[np.uint8]:
    """Return what ``draw`` puts on a figure as a uint8 image (h, w, 3), 80 pixels an inch.

    Args:
        draw: called with the empty figure.
        width: inches.
        height: inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'render_mode "rgb_array" needs matplotlib: install gpuyard[plot]'
        ) from error
    figure = Figure(figsize=(width, height), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    draw(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def stacked(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return images (h, w, 3) one below the other, the narrower ones with white to their right."""
    width = max(image.shape[1] for image in images)
    return np.concatenate(
        [
            np.pad(image, ((0, 0), (0, width - image.shape[1]), (0, 0)), constant_values=255)
            for image in images
        ]
    )
