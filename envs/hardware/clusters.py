"""Named clusters: those of the literature, and the ones that the scenarios use.

Each is a list of pools and a fabric plan, so that a scenario can start from one and change fields.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gpuyard.envs.checks import ScenarioError

from .catalogue import gpu
from .cells import did_you_mean
from .cluster import Cluster, Pool
from .fabric import build, pool
from .fabric_plan import FabricPlan


@dataclass(frozen=True)
class Blueprint:
    """Pools, fabric and where their figures come from."""

    pools: tuple[Pool, ...]
    fabric: FabricPlan
    source: str


def default() -> Blueprint:
    """512 H100 in 8 leafs, uplinks 2:1 oversubscribed: small, and contention matters."""
    return Blueprint(
        pools=(pool(gpu("H100-SXM"), nodes=64),),
        fabric=FabricPlan(nodes_per_leaf=8, spines=8, uplinks=16, oversubscription=2.0),
        source="our own: 64 nodes x 8 H100 with 400G NICs, 16 uplinks of 800G on each of 8 leafs",
    )


def vclos_8192() -> Blueprint:
    """The static fabric of the isolation study: 128 leafs with 64 ports down and 64 up."""
    return Blueprint(
        pools=(_vclos_pool(nodes=2048),),
        fabric=FabricPlan(nodes_per_leaf=16, spines=64, uplinks=64),
        source="arXiv 2308.05692 as its simulator has it; the GPU type is an assumption",
    )


def vclos_8192_ocs() -> Blueprint:
    """The optical fabric of the isolation study: 256 leafs of 32/32, 128 spines, 32 OCS."""
    return Blueprint(
        pools=(_vclos_pool(nodes=2048),),
        fabric=FabricPlan(
            nodes_per_leaf=8,
            spines=128,
            uplinks=32,
            optical=True,
            spine_ports=64,
            reconfigure_s=0.05,
        ),
        source="arXiv 2308.05692 as its simulator has it, switching in about 50 ms; the GPU type "
        "is an assumption",
    )


def _vclos_pool(nodes: int) -> Pool:
    """Servers of 4 GPUs: 100 Gbit/s for each, 1000 Gbit/s inside."""
    return pool(gpu("V100-32"), nodes, 4, nic_gbit=100, scale_up_gbps=125)


BLUEPRINTS: dict[str, Callable[[], Blueprint]] = {
    "default": default,
    "vclos-8192": vclos_8192,
    "vclos-8192-ocs": vclos_8192_ocs,
}


def blueprint(name: str) -> Blueprint:
    """Return the blueprint called ``name``; a ScenarioError lists names that come near."""
    if name not in BLUEPRINTS:
        near = difflib.get_close_matches(name, BLUEPRINTS, n=3, cutoff=0.5)
        raise ScenarioError(f"cluster.preset = {name!r}: {did_you_mean(near, BLUEPRINTS)}")
    return BLUEPRINTS[name]()


def cluster(name: str, **fabric: Any) -> Cluster:
    """Return the cluster called ``name``, with other fields of its fabric plan if given.

    Raises:
        ScenarioError: naming the field, its value and the remedy.
    """
    found = blueprint(name)
    return build(found.pools, replace(found.fabric, **fabric), name, found.source)
