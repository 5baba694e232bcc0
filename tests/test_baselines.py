"""The registry of baselines: names, kinds, options and their errors."""

from __future__ import annotations

import pytest

from gpuyard import baselines

ROUTERS = baselines.names("routing")


def test_names_and_kinds():
    assert len(ROUTERS) == len(set(ROUTERS)) == 14
    assert set(ROUTERS) < set(baselines.names())
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
