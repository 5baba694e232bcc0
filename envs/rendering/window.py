"""Shows pictures one after the other: in a window, or in the cell of a notebook."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_WINDOW = (
    "render_mode='human' shows nothing: matplotlib finds no display or no toolkit for windows "
    "(Tk, Qt); render_mode='rgb_array' and gpuyard render need none"
)


def in_notebook() -> bool:
    """Tell whether a notebook's kernel runs this."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


class Window:
    """What ``render_mode="human"`` shows. It opens with the first picture."""

    def __init__(self) -> None:
        self._picture: Any = None

    def show(self, image: NDArray[np.uint8]) -> None:
        """Show an image, shape (h, w, 3), in place of the last one."""
        if in_notebook():
            self._in_cell(image)
        else:
            self._in_window(image)

    def close(self) -> None:
        """Close the window; a notebook keeps its last picture."""
        if self._picture is not None and not in_notebook():
            from matplotlib import pyplot

            pyplot.close(self._picture.figure)
        self._picture = None

    def _in_cell(self, image: NDArray[np.uint8]) -> None:
        from IPython.display import display
        from PIL import Image

        if self._picture is None:
            self._picture = display(Image.fromarray(image), display_id=True)
        else:
            self._picture.update(Image.fromarray(image))

    def _in_window(self, image: NDArray[np.uint8]) -> None:
        from matplotlib import pyplot

        if self._picture is None:
            if pyplot.get_backend().lower() == "agg":  # what matplotlib falls back to
                warnings.warn(NO_WINDOW, stacklevel=2)
            height, width = image.shape[:2]
            figure = pyplot.figure("gpuyard", figsize=(width / 80, height / 80), dpi=80)
            axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
            axes.set_axis_off()
            self._picture = axes.imshow(image)
            pyplot.show(block=False)
        else:
            self._picture.set_data(image)
            self._picture.set_extent((-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5))
        pyplot.pause(1e-3)  # lets the window draw
