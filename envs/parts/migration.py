"""The rules by which running requests move between replicas, as a record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..engine.core.records import records, records_of
from ..engine.serving.move_records import MIGRATION_RULES
from ..perf.serving.kv_tiers import store_unit_bytes
from ..scenario import Scenario


def migration_rules(scenario: Scenario) -> NDArray[np.void]:
    """Return MIGRATION_RULES (1,), without items where no request may move."""
    rules = scenario.migration
    if rules.interval_s == 0:
        return records(0, MIGRATION_RULES)
    deployment = scenario.replicas[0].deployment  # the cache of all is of one kind
    block_bytes = store_unit_bytes(deployment, deployment.block_size)
    return records_of(MIGRATION_RULES, **vars(rules), block_s=block_bytes / (rules.gb_per_s * 1e9))
