"""Planned routes against ECMP: a ring all-reduce on 64 GPUs, 4 leafs and 2 spines of 400G.

    python benchmarks/ring_routing.py

The testbed of Tolly report 225112: 8 servers with 8 H20 and 8 NICs of 400G each, ring all-reduce
of NCCL 2.22.3; planned paths reach 9.7 % more bus bandwidth than ECMP on average over the sizes,
22.8 % at 16 GB. Not published, and assumed here: two servers under each leaf (wired by rails no
flow of the ring would cross a spine), as many uplinks as NICs, and the queue pairs.

Every part of a flow hashes its uplink and, of the links parallel to it, its way down. A part
carries an equal share; a ring moves at the pace of its slowest part. Ends with one line of JSON:
gain of planned routes in % by queue pairs of a connection.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard.envs.hardware.catalogue import gpu  # noqa: E402
from gpuyard.envs.hardware.cluster import Cluster  # noqa: E402
from gpuyard.envs.hardware.fabric import leaf_spine, pool, rail_optimised  # noqa: E402
from gpuyard.envs.perf.network.internode import ROCE, Group  # noqa: E402
from gpuyard.envs.perf.training.patterns import steps  # noqa: E402

CONNECTIONS = 2
"""Per NIC and direction: NCCL doubles its rings, 16 for 8 NICs. Source: NVIDIA/nccl issue 518."""
QUEUE_PAIRS = 4
"""Per connection, as is usual over RoCE; NCCL's own default is 1."""
MEASURED = {"average": 9.7, "512 MB": 10.4, "1 GB": 11.3, "8 GB": 17.3, "16 GB": 22.8}
DRAWS = 2000


def testbed() -> Cluster:
    """Return the cluster: two servers under each of four leafs, 16 uplinks of 400G."""
    return leaf_spine([pool(gpu("H20"), 8, nic_gbit=400)], nodes_per_leaf=2, spines=2, uplinks=16)


def crossing(cluster: Cluster) -> tuple[NDArray, NDArray]:
    """Return leaf switches (from, to) of the ring's flows that cross a spine."""
    (ring,) = steps("all_reduce", "ring", 1.0, Group(8, 8))
    switch = cluster.fabric.gpu_switch
    away = ring.src // 8 != ring.dst // 8
    above, below = switch[ring.src[away]], switch[ring.dst[away]]
    return above[above != below], below[above != below]


def hashed_slowdown(
    cluster: Cluster, queue_pairs: int, draws: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """Return how much longer the ring takes with hashed than with private links, (draws,)."""
    fabric, rng = cluster.fabric, np.random.default_rng(seed)
    above, below = crossing(cluster)
    parts = CONNECTIONS * queue_pairs
    shape = draws, len(above), parts
    up = rng.integers(fabric.uplinks, size=shape)
    parallel = rng.integers(fabric.uplinks // fabric.spines, size=shape)
    down = up % fabric.spines + fabric.spines * parallel
    busiest = np.maximum(
        _most_parts(up, above, fabric.num_switches, fabric.uplinks),
        _most_parts(down, below, fabric.num_switches, fabric.uplinks),
    )
    nic = cluster.pools[0].nic_bytes_per_s
    return np.maximum(1.0, busiest / parts * nic / fabric.uplink_bytes_per_s[0, 0])


def planned_slowdown(cluster: Cluster) -> float:
    """Return the same if every flow gets an uplink and a way down of its own, as far as they go."""
    fabric = cluster.fabric
    above, below = crossing(cluster)
    up, down = _turn(above) % fabric.uplinks, _turn(below) % fabric.uplinks
    flows = max(
        _most_parts(link[None, :, None], switch, fabric.num_switches, fabric.uplinks)[0]
        for link, switch in ((up, above), (down, below))
    )
    return max(1.0, flows * cluster.pools[0].nic_bytes_per_s / fabric.uplink_bytes_per_s[0, 0])


def _turn(switch: NDArray) -> NDArray:
    """Return 0, 1, 2 ... among the flows of the same switch."""
    return np.array([np.count_nonzero(switch[:i] == switch[i]) for i in range(len(switch))])


def _most_parts(link: NDArray, switch: NDArray, switches: int, uplinks: int) -> NDArray:
    """Return parts on the busiest link, (draws,); ``link`` is (draws, flows, parts)."""
    draws = len(link)
    where = (np.arange(draws)[:, None, None] * switches + switch[None, :, None]) * uplinks + link
    count = np.bincount(where.ravel(), minlength=draws * switches * uplinks)
    return count.reshape(draws, -1).max(axis=1)


def gain_percent(slowdown: NDArray, planned: float) -> float:
    """Return how much more bus bandwidth planned routes give than the mean of hashed ones."""
    return float(100 * ((1 / planned) / (1 / slowdown).mean() - 1))


def run(draws: int = DRAWS) -> dict[str, float]:
    """Print the table; return the gain in % by queue pairs."""
    cluster = testbed()
    wire = 8 * ROCE * cluster.pools[0].nic_bytes_per_s / 1e9
    planned = planned_slowdown(cluster)
    above, _ = crossing(cluster)
    print(
        f"{len(above)} of 64 hops between servers cross a spine; planned {wire / planned:.0f} GB/s"
    )
    print(f"{'queue pairs':>11} {'ECMP GB/s':>9} {'worst 5 %':>9} {'gain %':>7}")
    gains = {}
    for queue_pairs in (1, 2, 4, 8, 16):
        slow = hashed_slowdown(cluster, queue_pairs, draws)
        gains[str(queue_pairs)] = round(gain_percent(slow, planned), 1)
        mean, worst = wire * (1 / slow).mean(), wire / np.quantile(slow, 0.95)
        print(f"{queue_pairs:>11} {mean:>9.0f} {worst:>9.0f} {gains[str(queue_pairs)]:>7}")
    by_rail = rail_optimised(cluster.pools, nodes_per_leaf=8, rails=4, spines=2, uplinks=16)
    print(f"wired by rails: {len(crossing(by_rail)[0])} hops cross a spine")
    print("measured:", ", ".join(f"{gain} % {size}" for size, gain in MEASURED.items()), "\n")
    return gains


if __name__ == "__main__":
    print(json.dumps({"gain_pct_by_queue_pairs": run()}))
