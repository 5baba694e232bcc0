"""Conservative backfill against schedules worked out by hand."""

from __future__ import annotations

import pytest
from mini_world import Gang, counted, planner, simulate, starts
from views import make_view


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
