"""Named clusters: those of the literature, and the ones that the scenarios use.

Each is a list of pools and a fabric plan, so that a scenario can start from one and change fields.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

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


def sakuraone() -> Blueprint:
    """SAKURAONE: 100 nodes x 8 H100 on 8 rails of RoCE, full bisection."""
    return Blueprint(
        pools=(pool(gpu("H100-SXM"), nodes=100),),
        fabric=FabricPlan("rail", nodes_per_leaf=50, spines=8, uplinks=32, uplink_gbit=800),
        source="arXiv 2507.02124: nodes, 400G NICs, rails, 800 GbE between switches. Assumption: "
        "16 leafs and 8 spines, which with 2 storage switches make the 26 that are reported",
    )


def v100_32() -> Blueprint:
    """A testbed of 32 V100 like the one on which the isolation study measured collisions."""
    return Blueprint(
        pools=(_vclos_pool(nodes=8),),
        fabric=FabricPlan(nodes_per_leaf=2, spines=4, uplinks=8),
        source="arXiv 2308.05692: 32 V100. Assumption: servers of 4, 100 Gbit/s, 4 leafs, 4 spines",
    )


def philly_like() -> Blueprint:
    """Microsoft's Philly: 2,490 GPUs in machines of 8 and of 2, in racks of fast network."""
    v100 = gpu("V100-16")
    big = pool(v100, 231, 8, nic_gbit=100 / 8, nodes_per_leaf=21)
    small = pool(v100, 321, 2, nic_gbit=100 / 2, nodes_per_leaf=40)
    return Blueprint(
        pools=(big, small),
        fabric=FabricPlan(spines=4, uplinks=4, oversubscription=4.0),
        source="Jeon et al., ATC 2019: 552 machines, 2,490 GPUs. Assumption: 231 of 8, 321 of 2, "
        "V100 for its older GPUs, 100 Gbit/s a machine in equal parts, racks of 21 and 40, 4:1",
    )


def helios_like() -> Blueprint:
    """SenseTime's Venus: 133 nodes of 8 Volta GPUs."""
    return Blueprint(
        pools=(pool(gpu("V100-32"), 133, 8, nic_gbit=100 / 8),),
        fabric=FabricPlan(nodes_per_leaf=19, spines=4, uplinks=8, oversubscription=2.0),
        source="Hu et al., SC 2021: nodes and GPUs. Assumption: 100 Gbit/s a node in equal parts, "
        "7 leafs, 2:1",
    )


def alibaba_like() -> Blueprint:
    """An eighth of Alibaba's mixed cluster: five GPU types in nodes of 2, 4 and 8."""
    return Blueprint(
        pools=(
            pool(gpu("A10"), 68, 8, nic_gbit=25, nodes_per_leaf=17),
            pool(gpu("A100-80"), 5, 8, nic_gbit=100, nodes_per_leaf=5),
            pool(gpu("V100-32"), 3, 8, nic_gbit=25, nodes_per_leaf=3),
            pool(gpu("V100-16"), 6, 4, nic_gbit=25, nodes_per_leaf=6),
            pool(gpu("T4"), 52, 2, nic_gbit=25, nodes_per_leaf=26),
        ),
        fabric=FabricPlan(spines=4, uplinks=4, oversubscription=2.0),
        source="node list of Alibaba's GPU trace of 2023 (ATC 2023), an eighth of each type but "
        "the P100, which the catalogue lacks. Assumption: its nameless types G2 and G3 are A10 "
        "and A100; NICs, leafs and 2:1",
    )


def clos_16k() -> Blueprint:
    """The 16,384 H100 that trained Llama-3 405B, on a three-layer Clos of RoCE."""
    return Blueprint(
        pools=(pool(gpu("H100-SXM"), nodes=2048),),
        fabric=FabricPlan(
            "fat-tree",
            nodes_per_leaf=2,
            leafs_per_pod=128,
            spines=16,
            uplinks=16,
            core_uplinks=18,
            core_oversubscription=7.0,
        ),
        source="arXiv 2407.21783: racks of 2 nodes, 8 pods of full bisection, 1:7 above them. "
        "Assumption: 128 of each pod's 192 racks, which makes 16,384 of the 24,576 GPUs; 16 spines",
    )


def large(num_gpus: int) -> Blueprint:
    """Any number of H100, for studies of scale: leafs of 16 nodes, pods of 32 leafs, 2:1 twice."""
    if num_gpus < 8 or num_gpus % 8:
        raise ValueError(f"cluster.num_gpus = {num_gpus!r}: give a multiple of 8")
    return Blueprint(
        pools=(pool(gpu("H100-SXM"), nodes=num_gpus // 8),),
        fabric=FabricPlan(
            "fat-tree",
            nodes_per_leaf=16,
            leafs_per_pod=32,
            spines=16,
            uplinks=32,
            oversubscription=2.0,
            core_uplinks=32,
            core_oversubscription=2.0,
        ),
        source="our own",
    )


BLUEPRINTS: dict[str, Callable[[], Blueprint]] = {
    "default": default,
    "vclos-8192": vclos_8192,
    "vclos-8192-ocs": vclos_8192_ocs,
    "sakuraone": sakuraone,
    "v100-32": v100_32,
    "philly-like": philly_like,
    "helios-like": helios_like,
    "alibaba-like": alibaba_like,
    "clos-16k": clos_16k,
}


def blueprint(name: str, num_gpus: int | None = None) -> Blueprint:
    """Return the blueprint called ``name``; "large" has ``num_gpus`` GPUs.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """
    if name == "large":
        if num_gpus is None:
            raise ValueError('cluster.preset = "large": say how large with cluster.num_gpus')
        return large(num_gpus)
    if name not in BLUEPRINTS:
        near = difflib.get_close_matches(name, BLUEPRINTS, n=3, cutoff=0.5)
        hint = did_you_mean(near, [*BLUEPRINTS, "large"])
        raise ValueError(f"cluster.preset = {name!r}: {hint}")
    if num_gpus is not None:
        raise ValueError(f'cluster.num_gpus = {num_gpus!r}: only with preset = "large"')
    return BLUEPRINTS[name]()


def cluster(name: str, num_gpus: int | None = None, **fabric: Any) -> Cluster:
    """Return the cluster called ``name``, with other fields of its fabric plan if given.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """
    found = blueprint(name, num_gpus)
    return build(found.pools, replace(found.fabric, **fabric), name, found.source)
