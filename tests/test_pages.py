"""Arrays of worlds take memory where they are written only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpuyard.envs.engine.core.pages import MANY_BYTES, zeros

RECORD = np.dtype([("at_s", "f8"), ("tokens", "i4")])


@pytest.mark.parametrize("shape", [(), 3, (2, 0), (4, MANY_BYTES // 4)])
@pytest.mark.parametrize("dtype", [np.float64, np.int32, RECORD])
def test_as_numpy_does(shape: int | tuple[int, ...], dtype: np.dtype) -> None:
    array, expected = zeros(shape, dtype), np.zeros(shape, dtype)
    assert array.shape == expected.shape and array.dtype == expected.dtype
    assert array.tobytes() == expected.tobytes()
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_entry_takes_one_page() -> None:
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    mib = 1 << 20
    before = resident_bytes()
    array = zeros(256 * mib, np.uint8)
    array[:: 4 * mib] = 1  # 64 pages of 4 KiB, or of 2 MiB
    assert array[:: 4 * mib].sum() == 64
    assert resident_bytes() - before < 16 * mib


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_fork_has_pages_of_its_own() -> None:
    program = f"""
import os
import numpy as np
from gpuyard.envs.engine.core.pages import zeros
array = zeros({MANY_BYTES}, np.uint8)
child = os.fork()
if child == 0:
    array[:] = 7
    os._exit(0)
os.waitpid(child, 0)
print(array.sum())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "0", done.stderr
