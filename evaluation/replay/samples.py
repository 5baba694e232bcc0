"""Samples of what changes too often to be kept in full, bounded however long an episode is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .episode import Samples

if TYPE_CHECKING:
    from gpuyard.envs.scene import Scene

MOST_SAMPLES, MOST_CELLS = 600, 2_000_000


class SampleRecorder:
    """Keeps samples at least a gap of time apart, which grows as the episode does.

    When twice as many as wanted are kept the gap becomes what leaves the wanted number, and those
    that are closer go. So which are kept depends on nothing but the episode.

    Args:
        most: samples wanted.
    """

    def __init__(self, most: int = MOST_SAMPLES) -> None:
        self._most, self._gap_s = most, 0.0
        self._kept: list[tuple[float, NDArray[np.uint8], NDArray[np.uint8]]] = []

    def look(self, scene: Scene) -> None:
        """Keep a sample of a scene if the last one is far enough back."""
        if self._kept and scene.now_s - self._kept[-1][0] <= self._gap_s:
            return
        kv = _percent(scene.replicas["kv_share"])
        self._kept.append((scene.now_s, _percent(scene.link_load), kv))
        cells = len(scene.link_load) + len(kv)
        most = max(2, min(self._most, MOST_CELLS // max(cells, 1)))
        if len(self._kept) >= 2 * most:
            self._thin((scene.now_s - self._kept[0][0]) / most)

    def all(self) -> Samples:
        """Return what was kept."""
        times_s, links, kv = zip(*self._kept, strict=True)
        return Samples(np.array(times_s), np.stack(links), np.stack(kv))

    def _thin(self, gap_s: float) -> None:
        self._gap_s = gap_s
        kept = self._kept[:1]
        for sample in self._kept[1:]:
            if sample[0] - kept[-1][0] > gap_s:
                kept.append(sample)
        self._kept = kept


def _percent(share: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(100.0 * np.clip(share, 0.0, 1.0)).astype(np.uint8)
