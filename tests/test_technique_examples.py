"""Each technique shows its effect in a shipped scenario that is given one switch."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from technique_examples import EXAMPLES, REPLICA, Example

from gpuyard.evaluation.whatif.vary import UNSET, changed, variation

TESTS = Path(__file__).parent


@pytest.mark.parametrize("example", EXAMPLES, ids=[each.technique for each in EXAMPLES])
def test_the_switch_has_its_effect(example: Example) -> None:
    off, on = example.play()
    assert on > 1.01 * off if example.hurts else on < 0.99 * off
    assert (TESTS / example.test).exists()


@pytest.mark.parametrize("example", EXAMPLES, ids=[each.technique for each in EXAMPLES])
def test_the_command_says_the_same(example: Example) -> None:
    words = shlex.split(example.command)
    varied = [variation(words[i + 1]) for i, word in enumerate(words) if word == "--vary"]
    values = {each.path: each.values for each in varied}
    assert values[example.path] == (example.off, example.on)
    assert {path: (value,) for path, value in example.fixed.items()} == {
        path: found for path, found in values.items() if path != example.path
    }


def test_unset_leaves_a_field_out() -> None:
    table = {"replicas": [{"gpu": "H100-SXM", "tp": 2}]}
    assert changed(table, {REPLICA + "tp": UNSET}) == {"replicas": [{"gpu": "H100-SXM"}]}
    assert changed(table, {REPLICA + "dp": UNSET}) == table
