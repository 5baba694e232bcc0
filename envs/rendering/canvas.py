"""A figure that is drawn into memory, without a display or matplotlib's global state."""

from __future__ import annotations

from collections.abc import Callable
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
