"""What encode replicas give: published numbers, and clients who wait for their answers by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import encode_replicas
import technique_encoders
import techniques

ROWS = technique_encoders.rows()
MISSED = {
    "one encode replica and one that prefills, H20, 32 at once: requests/s",
    "one encode replica and one that prefills over TP2, GB200, 96 at once: requests/s",
}


@pytest.mark.parametrize("row", ROWS, ids=[row.target for row in ROWS])
def test_published_effects_are_met_or_known_to_be_missed(row) -> None:
    assert row.inside != (row.target in MISSED)
    assert row.inside or row.note


def test_a_gain_is_a_gain() -> None:
    assert ROWS[-1].simulated > 1


def test_one_client_is_served_as_a_request_alone() -> None:
    alone = technique_encoders.scenario(np.array([0.0]), 32, {"gpu": "H20"}, None)
    env = technique_encoders.gym.make("gpuyard/Routing-v0", scenario=alone).unwrapped
    env.reset(seed=0)
    env.step(0)
    rate = technique_encoders.requests_per_s(1, 32, {"gpu": "H20"})
    assert rate == pytest.approx(1 / env.results()["requests"]["finish_s"][0])


def test_encode_replicas_even_out_what_images_disturb() -> None:
    """Eight GPUs: all tails are shorter with three of them for images alone; one is too few."""
    inline, apart, few = (
        encode_replicas.played(encode_replicas.scenario(*way), seeds=2)
        for way in ((8, 0), (5, 3), (7, 1))
    )
    tails = ("P99", "P99 ", "P99  ")  # of images' and of texts' first tokens, and of others
    assert all(apart[tail] < 0.9 * inline[tail] for tail in tails)
    assert few["P99"] > 2 * inline["P99"] and few["P99  "] < 0.8 * inline["P99  "]


def test_the_page_is_current() -> None:
    text = techniques.PAGE.read_text()
    missing = [row.target for row in ROWS if techniques.line(row) not in text]
    assert not missing, "run python benchmarks/techniques.py --write"
