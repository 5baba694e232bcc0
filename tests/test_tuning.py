"""Search over the options of a policy: what it finds, saves and refuses."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest

from gpuyard import baselines
from gpuyard.baselines.cost import TERMS
from gpuyard.cli import main
from gpuyard.envs.scenario import load
from gpuyard.evaluation.search import CrossEntropy, Effort
from gpuyard.evaluation.tuning import space_of, tune

SMALL = Effort(generations=3, samples=4, episodes=1)


@pytest.fixture(scope="module")
def scenario():
    return load("routing-default")


def test_cross_entropy_finds_the_top_of_a_hill():
    top = np.array([3.0, -1.0, 0.5, 0.0])
    search = CrossEntropy.around(np.zeros(4), np.full(4, 2.0), seed=1)
    for _ in range(40):
        samples = search.ask(40)
        np.testing.assert_array_equal(samples[0], search.mean)
        search.tell(samples, -((samples - top) ** 2).sum(axis=1))
    np.testing.assert_allclose(search.mean, top, atol=0.15)
    assert (search.spread >= search.floor).all()


def test_what_is_searched_of_a_policy(scenario):
    space = space_of("routing/dynamo?temperature=0", scenario)
    assert space.names == (
        *("overlap_credit", "overlap_credit_decay", "prefill_load_scale", "preferred_weight"),
    )
    assert space.start == (1.0, 0.0, 1.0, 0.85) and space.spread == (1.0, 1.0, 1.0, 1.0)
    options = space.options(np.array([0.5, -2.0, 3.0, 0.9]))
    assert options == {
        "overlap_credit": 0.5,
        "overlap_credit_decay": 0.0,
        "prefill_load_scale": 3.0,
        "preferred_weight": 0.9,
    }
    whole = space_of("routing/power-of-two", scenario)
    assert whole.options(np.array([2.6])) == {"choices": 3}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("routing/random", "'routing/random' has no numeric options to tune; try linear"),
        ("compose:routing/dynamo+gang/sjf", "tune takes one policy by its name"),
        ("routing/dynam", "did you mean 'routing/dynamo'"),
        ("gang/easy-backfill", "no numeric options"),
    ],
)
def test_what_cannot_be_tuned(policy, message, scenario):
    with pytest.raises(ValueError, match=message):
        space_of(policy, scenario)


def test_the_search_of_a_cost_begins_at_the_quickest_answer(scenario):
    space = space_of("cost", scenario)
    assert space.names == tuple(TERMS) and set(space.spread) == {0.5}
    options = space.options(np.array(space.start) - 1.0)
    assert options["weights"]["session_last"] == -1.0  # weights may be negative, unlike options
    assert options["weights"]["wait_s"] == 0.0


def test_several_processes_find_the_same(scenario, tmp_path):
    alone, both = tmp_path / "alone.json", tmp_path / "both.json"
    effort = Effort(generations=1, samples=4, episodes=1)
    found = list(tune("cost", scenario, effort, alone))
    assert list(tune("cost", scenario, effort, both, processes=2)) == found
    assert both.read_text() == alone.read_text()


def test_efforts_that_are_none():
    with pytest.raises(ValueError, match="samples = 2 must be at least 4"):
        Effort(samples=2)


def test_held_out_seeds_are_never_searched(scenario, tmp_path):
    with pytest.raises(ValueError, match="1000001 must be at most 1000000: seeds from there"):
        next(tune("linear", scenario, Effort(1, 4, 1, 1_000_000), tmp_path / "t.json"))


def test_a_search_that_is_resumed_ends_as_one_that_was_not(scenario, tmp_path):
    whole, parts = tmp_path / "whole.json", tmp_path / "parts.json"
    policy = "routing/prefill-and-work"
    assert len(list(tune(policy, scenario, SMALL, whole))) == 3
    list(islice(tune(policy, scenario, SMALL, parts), 1))
    with pytest.raises(FileExistsError, match="--resume goes on from it"):
        next(tune(policy, scenario, SMALL, parts))
    assert len(list(tune(policy, scenario, SMALL, parts, resume=True))) == 2
    assert whole.read_text() == parts.read_text()
    saved = json.loads(whole.read_text())
    weight = saved["options"]["prefill_weight"]
    assert baselines.make(str(whole)).prefill_weight == weight != 4.0
    with pytest.raises(ValueError, match="its samples is 4, not 5"):
        next(tune(policy, scenario, Effort(3, 5, 1), whole, resume=True))
    with pytest.raises(ValueError, match="its policy is 'routing/prefill-and-work', not 'linear'"):
        next(tune("linear", scenario, SMALL, whole, resume=True))


def test_the_command_saves_what_evaluate_plays(tmp_path, capsys):
    tuned = tmp_path / "tuned.json"
    effort = ["--generations", "1", "--samples", "4", "--episodes", "1", "--out", str(tuned)]
    policy = "routing/llm-d?precise=true&session=0&load=0&tokens=0"
    assert main(["tune", policy, "--scenario", "routing-default", *effort]) == 0
    captured = capsys.readouterr()
    assert "1/1: reward" in captured.err and f"saved {tuned}" in captured.out
    compared = f"{tuned},routing/llm-d?weights=prefix:4,queue:3"
    out = ["--seeds", "2", "--out", str(tmp_path / "out")]
    assert main(["evaluate", "--policies", compared, *out]) == 0
    printed = capsys.readouterr().out
    assert "tuned.json" in printed and "llm-d?weights=prefix:4,queue:3" in printed
