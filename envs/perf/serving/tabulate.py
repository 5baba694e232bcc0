"""Cost tables: everything the engine needs of a deployment, computed once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .calibration import calibrated
from .constants import recorded
from .cost_table import CostTable
from .deployment import Deployment
from .drafting import draft_table, with_drafter
from .iteration import coefficients
from .tokenwise import head_s, linear_s


@lru_cache(maxsize=256)
def tabulate(deployment: Deployment) -> CostTable:
    """Return the step costs of a replica; equal deployments share one table.

    Where it speculates, every token that is verified has a row of the LM head.

    Raises:
        ValueError: its calibration leaves a step no time.
    """
    tokens = np.arange(deployment.max_num_batched_tokens + 1)
    how = deployment.speculation
    rows = np.arange(deployment.max_num_seqs * (how.width if how else 1) + 1)
    with recorded() as used:
        linear, head = linear_s(deployment, tokens), head_s(deployment, rows)
        cost = coefficients(deployment)
        draft = draft_table(deployment)
    linear[0] = head[0] = 0.0
    linear.flags.writeable = head.flags.writeable = False
    table = CostTable(cost, linear, head, tuple(sorted(used)))
    if deployment.calibration is not None:
        return calibrated(table, deployment.calibration, deployment.gpu.name)
    return table if draft is None else with_drafter(table, draft)
