"""No number has moved: the digests of trajectories are those that the file holds.

A change that is meant to move numbers makes the file anew (``python tests/fingerprint.py --write``)
and says so in the changelog; on another kind of machine compare with a commit (``--against``).
"""

from __future__ import annotations

import json

import pytest
from fingerprint import FILE, arithmetic, cases

KNOWN = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", KNOWN["digests"])
def test_trajectory_is_what_it_was(name: str) -> None:
    if arithmetic() != KNOWN["arithmetic"]:
        pytest.skip("the digests were made on another arithmetic (processor, libm, numpy, numba)")
    assert str(cases()[name]()) == KNOWN["digests"][name]


def test_every_case_has_a_digest() -> None:
    assert set(cases()) == set(KNOWN["digests"])
