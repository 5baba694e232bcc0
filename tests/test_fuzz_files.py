"""Mutated files end in an error that names them, or in something that works."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("kind", ["scenarios", "traces", "topologies"])
def test_three_thousand_small_mutations(kind: str) -> None:
    """In a process of its own, whose memory and time are limited; 20 s of CPU."""
    script = Path(__file__).with_name("fuzz_files.py")
    done = subprocess.run(
        [sys.executable, str(script), kind, "3000", "0"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
