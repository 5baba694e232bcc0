"""Options in names, policies of one's own, policies in files."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from routing_observations import observe, pool

from gpuyard import baselines
from gpuyard.baselines.linear import LOG_ODDS, features, log_odds
from gpuyard.baselines.registry import names_in
from gpuyard.envs.observation import Layout
from gpuyard.envs.scenario import load


class Mine(baselines.ScorePolicy):
    """A rule of a user's own."""

    decides = frozenset({"route"})

    def __init__(self, *, lean: float = 1.0):
        self.lean = lean

    def score(self, observation):
        return self.lean * np.arange(observation["action_mask"].shape[1])[None]


def test_options_in_a_name_get_the_type_of_their_hints():
    policy = baselines.make("routing/dynamo?temperature=5e-1&kv_events=false&policy=lmetric")
    assert policy.temperature == 0.5 and policy.policy == "lmetric"
    assert policy.overlap_column == "route.prefix_sent"
    assert baselines.make("routing/power-of-two?choices=3").choices == 3
    assert baselines.make("gang/tiresias?thresholds_gpu_s=1,2").thresholds.tolist() == [1, 2]
    assert baselines.make("topology/kueue-tas?order=sjf&pod_gpus=none").pod_gpus is None
    assert baselines.make("topology/kueue-balanced?pod_gpus=4").pod_gpus == 4
    assert baselines.make("routing/llm-d?weights=prefix:4,queue:3").weights == {
        "prefix": 4.0,
        "queue": 3.0,
    }
    assert baselines.make("routing/dynamo?temperature=2", temperature=3.0).temperature == 3.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("routing/dynamo?temp=1", "'routing/dynamo' has no option 'temp'; it accepts policy, "),
        ("routing/dynamo?temperature=hot", "temperature = 'hot' must be a number"),
        ("routing/dynamo?temperature=-1", "temperature = -1.0 must be a finite number, 0 or more"),
        ("routing/dynamo?temperature=nan", "temperature = nan must be a finite number"),
        ("routing/dynamo?policy=best", "policy = 'best' must be 'kv' or 'lmetric'"),
        ("routing/dynamo?kv_events=yes", "kv_events = 'yes' must be true or false"),
        ("routing/power-of-two?choices=2.5", "choices = '2.5' must be a whole number"),
        ("routing/llm-d?weights=prefix", "weights = 'prefix' must be name:number, several joined"),
        ("routing/llm-d?weights=prefix:x", "weights = 'prefix:x' must be name:number"),
        ("routing/dynamo?", "'' must be option=value"),
        ("routing/dynamo?temperature", "'temperature' must be option=value"),
        ("routing/dynamo?temperature=1&temperature=2", "'temperature' is given twice"),
        ("routing/dynama?temperature=1", "no baseline 'routing/dynama'; did you mean 'routing/dyn"),
        ("gang/random?ties=1", "'gang/random' has no option 'ties'"),
        ("nowhere.at_all:Policy", "no module 'nowhere' to import"),
        ("test_baselines_names:Other", "module 'test_baselines_names' has no 'Other'"),
        ("math:pi", "'pi' is no class and no function"),
        ("test_baselines_names:Mine?leen=2", "has no option 'leen'; it accepts lean"),
        ("linear?weights=route.wait_s:-1,place.age_s:1", "give at least one, all route"),
        ("linear?weights=route.wait_s:nan", "route.wait_s = nan must be a finite number"),
    ],
)
def test_what_is_wrong_in_a_name_is_named(name, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        baselines.make(name)


@pytest.mark.parametrize("name", ["linear", "cost"])
def test_a_weighted_sum_without_weights_says_so(name):
    message = rf"baseline '{name}' needs weights: write {name}\?weights=\.\.\."
    with pytest.raises(ValueError, match=message):
        baselines.make(name)
    assert "weights" in [option.name for option in baselines.described(name).options]


def test_a_class_of_ones_own_has_a_name():
    name = "test_baselines_names:Mine?lean=2"
    policy = baselines.make(name)
    assert type(policy).__name__ == "Mine" and policy.lean == 2.0
    assert baselines.decides(name) == {"route"}


def test_parts_of_a_composite_have_options_of_their_own():
    policy = baselines.make("compose:routing/dynamo?temperature=1e+0+topology/kueue-tas?order=sjf")
    assert policy.decides == {"route", "place"}
    assert policy.parts["route"].temperature == 1.0
    with pytest.raises(ValueError, match="write those of its parts into the name"):
        baselines.make("compose:routing/dynamo+gang/sjf", temperature=1.0)


def test_commas_between_names_and_inside_options():
    names = [
        "all",
        "routing/llm-d?weights=prefix:4,queue:3",
        "linear?weights=route.wait_s:-1,route.work_s:log-odds:-.5,route.price:1e-3",
        "gang/tiresias?thresholds_gpu_s=10,20&starvation=4",
        "my.mod:Policy",
        "2026-model.zip",
    ]
    assert names_in(",".join(names)) == names


def save(path, **fields):
    path.write_text(json.dumps({"format": "gpuyard-policy-1", **fields}), encoding="utf-8")
    return str(path)


def test_a_policy_in_a_file(tmp_path):
    name = save(tmp_path / "p.json", policy="routing/dynamo?policy=kv", options={"temperature": 2})
    policy = baselines.make(name)
    assert policy.temperature == 2 and baselines.decides(name) == {"route"}
    assert baselines.make(name, temperature=3.0).temperature == 3.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "other"}, 'not a saved policy: "format" must be'),
        ({"policy": 3, "options": {}}, '"policy" = 3 must be a name'),
        ({"policy": "routing/dynamo", "options": []}, r'"options" = \[\] must be an object'),
        ({"policy": "q.json", "options": {}}, "must not be a file again"),
        ({"policy": "routing/dynamo", "options": {"temp": 1}}, "has no option 'temp'"),
    ],
)
def test_files_that_are_no_policy(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        baselines.make(save(tmp_path / "p.json", **fields))


def test_files_that_are_missing_or_no_json(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such policy file"):
        baselines.make(str(tmp_path / "p.json"))
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(ValueError, match=r"p\.json: not JSON"):
        baselines.make(str(tmp_path / "p.json"))


def test_linear_score_by_hand():
    """in_flight 32 of scale 32 is stored as 0.5: log-odds 0; 96 as 0.75: log(3) / 3."""
    weights = {"route.in_flight": -2.0, f"route.in_flight{LOG_ODDS}": 1.5, "route.session_last": 1}
    policy = baselines.make("linear", weights=weights)
    policy.reset(pool(2), 1)
    score = policy.score(observe(in_flight=[32, 96], session_last=[0, 1]))
    np.testing.assert_allclose(score, [[-1.0, -1.5 + 0.5 * math.log(3) + 1]], rtol=1e-6)


def test_log_odds_are_clipped():
    np.testing.assert_allclose(log_odds(np.array([0.0, 0.5, 1.0])), [-2.0, 0.0, 2.0])


def test_linear_score_holds_back_only_where_it_must():
    policy = baselines.make("linear?weights=route.wait_s:-1")
    policy.reset(pool(2), 1)
    assert policy.act(observe(wait_s=[3, 2], hold=True)).tolist() == [1]
    assert policy.act(observe(wait_s=[3, 2], mask=[0, 0], hold=True)).tolist() == [2]


def test_linear_weights_are_found_by_name():
    assert f"place.is_wait{LOG_ODDS}" not in features(Layout({"place"}))
    policy = baselines.make("linear?weights=route.no_such:1")
    with pytest.raises(ValueError, match=r"route\.no_such: no such candidate column"):
        policy.reset(pool(2), 1)


def test_a_module_of_the_current_folder_is_found(tmp_path, monkeypatch):
    """As an installed command is called: its folder is the scripts', not the current one."""
    (tmp_path / "rule_of_this_folder.py").write_text(
        "from gpuyard.baselines import ScorePolicy\n\n\nclass Rule(ScorePolicy):\n"
        "    decides = frozenset({'route'})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert type(baselines.make("rule_of_this_folder:Rule")).__name__ == "Rule"


@pytest.mark.parametrize("name", ["gang/gavel", "isolation/vclos", "isolation/ocs-vclos"])
def test_a_rule_whose_library_is_missing_says_so_before_it_plays(name, monkeypatch):
    scenario = load("placement-default")
    policy = baselines.make(name)
    policy.check(scenario)
    monkeypatch.setattr("gpuyard.baselines.policy.find_spec", lambda library: None)
    with pytest.raises(ValueError, match=r"needs scipy.*pip install 'gpuyard.planners.'"):
        policy.check(scenario)
    baselines.make("isolation/best-fit").check(scenario)
