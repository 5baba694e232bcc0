"""Slurm's hostlists by hand, and what is none."""

from __future__ import annotations

import pytest

from gpuyard.envs.hardware.topology.hostlist import expand


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("tux", "tux"),
        ("tux[0-3,12,18-20]", "tux0 tux1 tux2 tux3 tux12 tux18 tux19 tux20"),
        ("a[08-11],b", "a08 a09 a10 a11 b"),
        ("a[9-11]", "a9 a10 a11"),
        ("r[0-1]n[00-01].x", "r0n00.x r0n01.x r1n00.x r1n01.x"),
        ("a[1],a[2-3]-ib", "a1 a2-ib a3-ib"),
        ("[1-2]", "1 2"),
    ],
)
def test_hostlists_by_hand(text: str, names: str) -> None:
    assert expand(text) == names.split()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty name"),
        ("a,,b", "empty name"),
        ("a[0-3", r"has '\[0-3'"),
        ("a0-3]", r"has '\]'"),
        ("a[[0-1]]", r"has '\[\[0-1\]\]'"),
        ("a[]", r"has \[\]; write numbers and ranges"),
        ("a[x-y]", r"has \[x-y\]"),
        ("a[3-1]", "range 3-1; write the lower number first"),
        ("a b", "has ' b'; a name is letters"),
        ("a[0-999999999]", "1000000000 names, and a file may have 131072"),
        ("a[0-99999]b[0-99999]", "10000000000 names"),
        ("a[" + "9" * 5000 + "]", r"write numbers and ranges"),
    ],
)
def test_hostlists_that_name_nobody_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(text)
