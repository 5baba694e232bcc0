"""The KV tiers of a scenario as records: one tier per replica with host memory, then the store."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..engine.core.records import records
from ..engine.serving.tier_records import REPLICA_TIERS, TIER_SPEC
from ..perf.serving import kv_tiers
from ..scenario import Scenario


def build_tiers(scenario: Scenario) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Return TIER_SPEC (T,) and REPLICA_TIERS (R,), both without items where there are no tiers."""
    hosts = [row for row, replica in enumerate(scenario.replicas) if replica.host_kv_gb > 0]
    store = scenario.kv_store
    has_store = store.capacity_gb > 0
    if not hosts and not has_store:
        return records(0, TIER_SPEC), records(0, REPLICA_TIERS)
    tiers = records(len(hosts) + has_store, TIER_SPEC)
    found = records(len(scenario.replicas), REPLICA_TIERS)
    found["host"], found["store"] = -1, len(hosts) if has_store else -1
    for tier, row in enumerate(hosts):
        replica, unit = scenario.replicas[row], scenario.workload_of(row).prefix_block_tokens
        found["host"][row] = tier
        found["write_back"][row] = replica.kv_write == "back"
        capacity_bytes = replica.host_kv_gb * 1e9
        tiers["units"][tier] = kv_tiers.host_units(replica.deployment, unit, capacity_bytes)
        tiers["unit_s"][tier] = kv_tiers.host_unit_s(replica.deployment, unit)
    if has_store:
        for row, replica in enumerate(scenario.replicas):
            unit = scenario.workload_of(row).prefix_block_tokens
            found["nic_unit_s"][row] = kv_tiers.nic_unit_s(replica.deployment, unit)
        unit_bytes = kv_tiers.store_unit_bytes(scenario.replicas[0].deployment, unit)
        tiers["units"][-1] = int(store.capacity_gb * 1e9 / unit_bytes)
        tiers["unit_s"][-1] = unit_bytes / (store.gbps * 1e9)
    return tiers, found
