"""The KV blocks that a batch takes as it decodes, against counting them step by step."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gpuyard.envs.engine.serving.growth import blocks_needed


@pytest.mark.parametrize("size", [1, 3, 16])
def test_blocks_of_steps_to_come(size: int) -> None:
    """A sequence of phase p takes its blocks at the steps t with t + p = 0 modulo ``size``."""
    rng = np.random.default_rng(size)
    phases = rng.integers(0, 9, (1, 1, size))
    counted = getattr(blocks_needed, "py_func", blocks_needed)  # in Python: nothing to compile
    for steps in range(3 * size + 2):
        first = int(rng.integers(0, 500))
        taken = sum(
            int(phases[0, 0, phase])
            for step in range(first, first + steps)
            for phase in range(size)
            if (step + phase) % size == 0
        )
        w = SimpleNamespace(decode_phases=phases)
        assert counted(w, 0, 0, first, steps, size) == taken
