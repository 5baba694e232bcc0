"""The registry of baselines: names, kinds, options and their errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from routing_observations import pool
from views import PLACING

from gpuyard import baselines

ROUTERS = baselines.names("routing")


DOCS = Path(__file__).parents[1] / "docs"
PAGES = "".join(
    (DOCS / name).read_text()
    for name in (
        *("baselines.md", "baselines_gang.md", "baselines_topology.md", "isolation.md"),
        *("baselines_scaling.md", "migration.md"),
    )
)
DECIDES = {
    **{"routing": {"route"}, "scaling": {"scale"}, "migration": {"migrate"}},
    **{"system": {"route", "place", "scale"}, "system/llumnix": {"route", "migrate"}},
}


def test_names_and_kinds():
    assert ROUTERS and set(ROUTERS) < set(baselines.names())
    assert len(set(baselines.names())) == len(baselines.names())
    with pytest.raises(ValueError, match=r"no baselines of kind 'router'; kinds: .*routing"):
        baselines.names("router")


def test_unknown_name_suggests_the_closest():
    with pytest.raises(ValueError, match=r"'routing/least-request'; did you mean 'routing/least-"):
        baselines.make("routing/least-request")


def test_unknown_option_lists_the_accepted():
    with pytest.raises(ValueError, match=r"no option 'temp'; it accepts policy, .*temperature"):
        baselines.make("routing/dynamo", temp=1)
    with pytest.raises(ValueError, match=r"no option 'seed'; it accepts none"):
        baselines.make("routing/random", seed=1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("routing/dynamo", {"temperature": -1}, "temperature = -1 must be a finite number, 0 or"),
        ("routing/dynamo", {"temperature": "hot"}, "temperature = 'hot' must be a finite number"),
        ("routing/dynamo", {"policy": "best"}, "policy = 'best' must be 'kv' or 'lmetric'"),
        ("routing/llm-d", {"kv": float("nan")}, "kv = nan"),
        ("routing/power-of-two", {"choices": 0}, "choices = 0 must be a finite number, 1 or more"),
        ("routing/prefix-aware", {"ties": "first"}, "ties = 'first' must be"),
    ],
)
def test_bad_options_name_the_option_the_value_and_the_remedy(name, options, message):
    with pytest.raises(ValueError, match=message):
        baselines.make(name, **options)


@pytest.mark.parametrize("name", baselines.names())
def test_every_baseline_says_what_it_decides_and_is_documented(name):
    decides = DECIDES.get(name) or DECIDES.get(name.partition("/")[0], {"place"})
    assert baselines.decides(name) == baselines.make(name).decides == decides
    assert f"`{name}`" in PAGES


class Anything(baselines.Policy):
    """A rule of a user's own that says nothing of what it decides."""


@pytest.mark.parametrize("scenario", [pool(3), PLACING])
@pytest.mark.parametrize("name", baselines.names())
def test_a_scenario_of_other_decisions_is_refused(name, scenario):
    policy, asked = baselines.make(name), set(scenario.decisions)
    if asked <= policy.decides:
        policy.reset(scenario, 2)
        assert policy.layout == scenario.layout
        return
    decides, (asks,) = " and ".join(sorted(policy.decides)), asked
    said = rf"{type(policy).__name__} decides {decides}, but scenario '{scenario.name}' asks for "
    with pytest.raises(ValueError, match=said + asks):
        policy.reset(scenario, 2)
    Anything().reset(scenario, 2)
