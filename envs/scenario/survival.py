"""Whether gangs can ever finish where nodes fail: enough of them up together, and for long enough.

Failures are exponential, so a node is up for ``mtbf / (mtbf + repair)`` of the time, and the work
between two checkpoints of a gang on k nodes takes ``(exp(x) - 1) / x`` times as long as it should,
x being that work over ``mtbf / k`` (Young, "A first order approximation to the optimum checkpoint
interval", 1974, in its exact form).
"""

from __future__ import annotations

import math

import numpy as np

from ..hardware.cluster import Cluster
from ..rules import Faults, SchedulerRules
from ..workload.jobs.source import JobWorkload
from .checks import ScenarioError

LEAST_UP = 1e-3  # share of the time that enough nodes have to be up
MOST_STRETCH = 1e3  # times a run may take what it would without failures


def check_survival(
    faults: Faults, rules: SchedulerRules, jobs: JobWorkload, cluster: Cluster
) -> None:
    """Refuse failures among which the largest gang would never finish.

    Raises:
        ScenarioError: naming the fields, the gang, what is wrong and the remedy.
    """
    if faults.node_mtbf_h == 0:
        return
    gpus = max(size for _, size in jobs.sizes)
    pools = np.bincount(cluster.node_pool)
    needs = [-(-gpus // pool.gpus_per_node) for pool in cluster.pools]
    up = faults.node_mtbf_h / (faults.node_mtbf_h + faults.repair_h)
    share = max(at_least(need, int(nodes), up) for need, nodes in zip(needs, pools, strict=True))
    what = (
        f"faults.node_mtbf_h = {faults.node_mtbf_h:g} and repair_h = {faults.repair_h:g}: a gang "
        f"of {gpus} GPUs would never finish, as"
    )
    remedy = "raise node_mtbf_h, lower repair_h, or set a lower jobs.max_gpus"
    if share < LEAST_UP:
        raise ScenarioError(
            f"{what} its {min(needs)} nodes are up together {share:.1e} of the time, less than "
            f"{LEAST_UP:g}; {remedy}"
        )
    run_s = float(np.median(jobs.sample(np.random.default_rng(0)).duration_s))
    lost_s = min(run_s, rules.checkpoint_s or math.inf)
    x = lost_s * min(needs) / (faults.node_mtbf_h * 3600.0)
    if x > 0 and math.expm1(min(x, 700.0)) / x > MOST_STRETCH:
        raise ScenarioError(
            f"{what} it would have to run {lost_s:.0f} s without a failure, of which its nodes "
            f"have one every {lost_s / x:.0f} s; {remedy}, or a lower scheduler.checkpoint_s"
        )


def at_least(need: int, nodes: int, up: float) -> float:
    """Return the probability that ``need`` of ``nodes`` are up, each with probability ``up``."""
    if need > nodes:
        return 0.0
    terms = [
        math.lgamma(nodes + 1) - math.lgamma(k + 1) - math.lgamma(nodes - k + 1)
        + k * math.log(up) + (nodes - k) * math.log1p(-up)
        for k in range(need, nodes + 1)
    ]  # fmt: skip
    return float(np.exp(terms).sum())
