"""``render_mode="human"``: a window is redrawn at every decision, a notebook's cell too."""

import sys
import types

import gymnasium as gym
import numpy as np
import pytest

import gpuyard  # noqa: F401  registers
from gpuyard.envs.rendering.window import Window

pytest.importorskip("matplotlib")


def test_a_window_is_redrawn_at_every_decision(monkeypatch):
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg", force=True)
    shown = []
    monkeypatch.setattr(pyplot, "pause", lambda seconds: shown.append(pyplot.get_figlabels()))
    env = gym.make("gpuyard/Routing-v0", render_mode="human")
    with pytest.warns(UserWarning, match="shows nothing: matplotlib finds no display"):
        env.reset(seed=0)  # Agg opens none
    for _ in range(2):
        env.step(0)
    assert shown == [["gpuyard"]] * 3
    picture = pyplot.figure("gpuyard").axes[0].images[0].get_array()
    same = gym.make("gpuyard/Routing-v0", render_mode="rgb_array")
    same.reset(seed=0)
    for _ in range(2):
        same.step(0)
    np.testing.assert_array_equal(picture, same.render())
    env.close()
    assert not pyplot.get_figlabels()


def test_a_notebook_shows_one_picture_that_changes(monkeypatch):
    cells = []

    class Handle:
        def update(self, picture):
            cells[-1] = picture.size

    def display(picture, display_id):
        cells.append(picture.size)
        return Handle()

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    window = Window()
    window.show(np.zeros((4, 6, 3), np.uint8))
    window.show(np.zeros((8, 6, 3), np.uint8))
    assert cells == [(6, 8)]
    window.close()


def test_vector_environments_have_no_window():
    with pytest.raises(ValueError, match="human"):
        gym.make_vec("gpuyard/Routing-v0", num_envs=2, render_mode="human")
