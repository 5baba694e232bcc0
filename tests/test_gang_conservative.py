"""Conservative backfill against schedules worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_world import Gang, counted, planner, simulate, starts
from slow_conservative import SlowConservative
from views import PLACING, make_view


def test_conservative_moves_everybody_forward_when_a_gang_ends_early():
    """R believed to hold 4 GPUs until 100 ends at 40: H starts then, not at 100."""
    jobs = [Gang(0, 4, 40, estimate_s=100), Gang(0, 4, 10), Gang(5, 1, 10)]
    done = simulate(planner("conservative-backfill"), jobs, counted(4))
    assert starts(done) == [0, 40, 50]


def test_conservative_plans_as_deep_as_told():
    jobs = [{"id": 1, "gpus": 3}, {"id": 2, "gpus": 2, "estimate_s": 10.0}]
    view = make_view(jobs, [{"id": 0, "on": [0, 1]}], cluster=counted(4))
    assert planner("conservative-backfill").plan(view).gang == 2
    assert planner("conservative-backfill", depth=1).plan(view) is None
    with pytest.raises(ValueError, match="depth = 0"):
        planner("conservative-backfill", depth=0)


class Compared(SlowConservative):
    """Asks both, and fails where they differ."""

    def __init__(self, depth):
        super().__init__(depth)
        self.fast = planner("conservative-backfill", depth=depth)

    def plan(self, view):
        slow, fast = super().plan(view), self.fast.plan(view)
        assert (slow is None) == (fast is None)
        if slow is not None:
            assert slow.gang == fast.gang and slow.gpus.tolist() == fast.gpus.tolist()
        return slow


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), depth=st.sampled_from([3, 64]))
def test_plans_are_those_of_the_definition(seed, depth):
    rng = np.random.default_rng(seed)
    jobs = [
        Gang(
            arrival_s=float(np.sort(rng.uniform(0, 2000, 30))[k]),
            gpus=int(rng.choice([1, 2, 4, 5, 8, 12])),
            run_s=float(rng.choice([50, 100, 400, rng.uniform(10, 900)])),
            estimate_s=float(rng.choice([50, 100, 400, rng.uniform(10, 900)])),
            required=int(rng.integers(2, 4)),
            speeds=tuple(rng.choice([[1.0, 0.5], [0.4, 1.0], [1.0, 0.0]])),
        )
        for k in range(30)
    ]
    policy = Compared(depth)
    policy.reset(PLACING, 1, 0)
    pools = (("H100-SXM", 4), ("A100-80", 4))
    simulate(policy, jobs, gpus_per_node=4, leafs_per_pod=2, pools=pools)
