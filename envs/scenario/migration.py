"""Whether running requests can move between the replicas of a scenario."""

from __future__ import annotations

from ..perf.serving.kv_groups import kv_groups
from ..rules import Migration
from .checks import ScenarioError
from .deployments import Replica


def check_migration(replicas: tuple[Replica, ...], migration: Migration) -> None:
    """Refuse to move requests where there is nowhere to go, or a cache that does not fit there.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    if migration.interval_s == 0:
        return
    name = f"migration.interval_s = {migration.interval_s:g}"
    if len(replicas) < 2:
        raise ScenarioError(f"{name}: one replica has none to move requests to; give two or more")
    first = replicas[0].deployment
    for number, replica in enumerate(replicas):
        deployment = replica.deployment
        groups = kv_groups(deployment)
        if groups.window_groups + groups.state_blocks > 0:
            raise ScenarioError(
                f"{name}: the cache of {deployment.model.name} (replicas[{number}]) is not whole "
                "blocks that stay as they are, which alone are modelled; use a model of full "
                "attention, or interval_s = 0"
            )
        for field in ("model", "kv_dtype", "block_size"):
            if getattr(deployment, field) != getattr(first, field):
                raise ScenarioError(
                    f"{name}: replicas[{number}].{field} differs from that of replicas[0], which "
                    "could not read its cache; give all of them the same"
                )
