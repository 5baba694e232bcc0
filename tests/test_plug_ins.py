"""Policies and scenarios of an installed plug-in stand beside our own."""

import re
import sys

import pytest

from gpuyard.baselines import plug_ins, registry

METADATA = """Metadata-Version: 2.1
Name: mylab
Version: 1.0
"""
ENTRIES = """[gpuyard.baselines]
routing.mine = mylab.rules:Mine
routing.random = mylab.rules:Mine
[gpuyard.scenarios]
mylab = mylab.scenarios
"""
RULE = '''
from gpuyard.baselines import ScorePolicy


class Mine(ScorePolicy):
    """The first replica there is."""

    decides = frozenset({"route"})

    def __init__(self, sign: float = 1.0):
        self.sign = sign

    def score(self, observation):
        return self.sign * self.read(observation, "candidates", "route.in_flight") * 0
'''


@pytest.fixture
def mylab(tmp_path, monkeypatch):
    """A package as pip installs it: a module, scenarios, and metadata."""
    (tmp_path / "mylab-1.0.dist-info").mkdir()
    (tmp_path / "mylab-1.0.dist-info" / "METADATA").write_text(METADATA)
    (tmp_path / "mylab-1.0.dist-info" / "entry_points.txt").write_text(ENTRIES)
    scenarios = tmp_path / "mylab" / "scenarios"
    scenarios.mkdir(parents=True)
    for folder in (scenarios.parent, scenarios):
        (folder / "__init__.py").write_text("")
    (scenarios.parent / "rules.py").write_text(RULE)
    (scenarios / "night.toml").write_text(
        'description = "Mine"\n[[replicas]]\ngpu = "L4"\nmodel = "Llama-3-8B"\ncount = 2\n'
        '[workload]\npreset = "chat"\nnum_requests = 20\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    plug_ins.found.cache_clear()
    yield
    plug_ins.found.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def test_a_policy_is_listed_made_and_compared(mylab, tmp_path, capsys):
    from gpuyard import baselines
    from gpuyard.cli import main
    from gpuyard.evaluation.tables import read_csv

    assert "routing/mine" in baselines.names("routing")
    assert type(baselines.make("routing/mine?sign=2")).__name__ == "Mine"
    assert type(baselines.make("routing/random")).__name__ == "Random"  # ours stays ours
    assert "The first replica there is. [sign=1]" in baselines.summary("routing/mine")
    arguments = ["--scenarios", "mylab/night", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert main(["evaluate", *arguments]) == 0
    played = [result.policy for result in read_csv(tmp_path / "out" / "results.csv")]
    assert "mine" in played and "random" in played


def test_a_scenario_is_listed_and_loaded(mylab):
    from gpuyard.envs.scenario import load, names

    assert names()[-1] == "mylab/night"
    assert len(load("mylab/night").replicas) == 2
    with pytest.raises(ValueError, match="did you mean 'mylab/night'"):
        load("mylab/nigth")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("os:system", "baseline 'os:system' needs command: write os:system?command=..."),
        ("os:kill", "baseline 'os:kill' needs pid and signal"),
        ("os:getcwd", "'os:getcwd' makes a str, not a Policy"),
    ],
)
def test_what_makes_no_policy_is_refused_by_name(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        registry.make(name)
