"""Whole episodes of queues of queues in the world itself: no plan is refused, no gang lost."""

from __future__ import annotations

import pytest
from test_baselines_gang_episodes import SCENARIO, play

TENANTS = """
[[jobs.tenants]]
name = "a"
parent = "north"
deserved = 24
guarantee = 8
share = 0.4
[[jobs.tenants]]
name = "b"
parent = "north"
deserved = 16
weight = 2.0
share = 0.3
[[jobs.tenants]]
name = "c"
deserved = 24
quota = 64
share = 0.3
[[jobs.tenants]]
name = "north"
quota = 80
"""

QUEUES = SCENARIO[: SCENARIO.index("[[jobs.tenants]]")] + TENANTS.strip()
QUEUES += "\n" + SCENARIO[SCENARIO.index("[scheduler]") :]
QUEUES = QUEUES.replace('preset = "mixed"', 'preset = "mixed"\nhigh_priority_share = 0.3')


@pytest.mark.parametrize(
    "name",
    [
        "gang/kueue?queueing=strict-fifo",
        "gang/kueue?reclaim=lower-priority&borrow=lower-priority&within=lower-or-newer-equal-priority",
        "gang/kueue?within=never&reclaim=never",
        "gang/kueue-fair",
        "gang/kueue?sharing=initial",
        "topology/kueue-tas?order=kueue",
        "topology/kueue-tas?order=kueue-fair",
        "gang/slurm-multifactor?tree=classic&exempt_s=600",
        "topology/slurm-tree?order=slurm-multifactor",
    ],
)
def test_every_gang_ends_and_no_plan_is_refused(name, tmp_path):
    info, tables = play(name, QUEUES.format(preemption="true"), tmp_path)
    assert info["finished"].tolist() == [30, 30]
    assert info["invalid_actions"].tolist() == [0, 0]
    assert (info["preemptions"].sum() > 0) == ("never" not in name)
    for table in tables:
        assert (table["finish_s"] > table["start_s"]).all()
