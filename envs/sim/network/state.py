"""The arrays that the network works on, taken out of the world's bundle.

A compiled function costs time to compile for every array of the bundle that it is given, so the
network's many small ones get only those they need.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba.extending import overload

from ..bundle import BundleType


class NetworkState(NamedTuple):
    """Arrays of :class:`..gangs.state.GangState`, which describes them."""

    envs: Any
    fabric: Any
    specs: Any
    kinds: Any
    phases: Any
    gpu_switch: Any
    gpu_port: Any
    switch_pods: Any
    capacity: Any
    jobs: Any
    gpu_next: Any
    gpu_uplink: Any
    uplink_owner: Any
    uplink_users: Any
    uplink_flows: Any
    circuits: Any
    usages: Any
    steps: Any
    pairs: Any
    links: Any
    link_head: Any
    load: Any
    heap: Any
    order: Any
    work: Any
    done: Any
    fill_keys: Any
    fill_items: Any


def network_of(w):
    """Return the network's part of a GangState; a bundle is passed on as it is."""
    return NetworkState(
        w.envs,
        w.fabric,
        w.specs,
        w.kinds,
        w.phases,
        w.gpu_switch,
        w.gpu_port,
        w.switch_pods,
        w.capacity,
        w.jobs,
        w.gpu_next,
        w.gpu_uplink,
        w.uplink_owner,
        w.uplink_users,
        w.uplink_flows,
        w.circuits,
        w.usages,
        w.steps,
        w.pairs,
        w.links,
        w.link_head,
        w.load,
        w.heap,
        w.order,
        w.work,
        w.done,
        w.fill_keys,
        w.fill_items,
    )


@overload(network_of, inline="always")
def _network_of(w):
    if isinstance(w, BundleType):
        return lambda w: w
    return network_of
