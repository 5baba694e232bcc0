"""Room for a gang made by stopping others, domain by domain, tried out before anything happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..placement import Placement
from ..room import GPUs, Room, gang_gpus

Choose = Callable[[NDArray[np.void]], Sequence[int]]
Check = Callable[[tuple[int, ...], GPUs], bool]


def make_room(
    view: ClusterView,
    placement: Placement,
    room: Room,
    gang: np.void,
    speeds: NDArray[np.float64],
    victims: NDArray[np.void],
    choose: Choose,
    check: Check,
) -> Plan | None:
    """Return the plan that stops the fewest GPUs' worth of gangs so that one starts, or None.

    Each domain of the level that the gang requires is tried on its own, with the victims that stand
    in it, so that what is freed is where the gang can use it: a search over the whole cluster stops
    gangs in the wrong domain (Volcano issues 4374 and 4533), and one that looks at free GPUs only
    never finds a full domain (KAI issue 1591).

    Args:
        view: the cluster.
        placement: where gangs go.
        room: what is free and not promised.
        gang: entry of ``ClusterView.pending``.
        speeds: its row of ``speeds``.
        victims: of ``ClusterView.running``, those that may be stopped at all.
        choose: which of some victims may go, in their order.
        check: whether a set of stopped gangs, in that order, and the gang's GPUs are allowed.
    """
    domain = room.tree[int(gang["required"])]
    nodes = {
        int(v["id"]): np.unique(gang_gpus(view, v["id"]) // room.free.shape[1]) for v in victims
    }
    best: tuple[tuple[int, int], tuple[int, ...], GPUs] | None = None
    for name in np.unique(domain):
        inside = domain == name
        here = np.array([inside[nodes[int(v["id"])]].any() for v in victims], bool)
        freeable = room.node_free[inside].sum() + victims["gpus"][here].sum()
        if not here.any() or freeable < gang["gpus"]:
            continue
        order = victims[here]
        order = order[list(choose(order))]
        found = _first_fit(view, placement, room, gang, speeds, order, inside, check)
        if found is not None:
            stopped, gpus = found
            size = int(order["gpus"][np.isin(order["id"], stopped)].sum())
            if best is None or (size, len(stopped)) < best[0]:
                best = (size, len(stopped)), stopped, gpus
    if best is None:
        return None
    _, stopped, gpus = best
    return placement.commit(room.without(view, stopped), gang, gpus, stopped)


def _first_fit(
    view: ClusterView,
    placement: Placement,
    room: Room,
    gang: np.void,
    speeds: NDArray[np.float64],
    order: NDArray[np.void],
    inside: NDArray[np.bool_],
    check: Check,
) -> tuple[tuple[int, ...], GPUs] | None:
    """Return which gangs are stopped, and the GPUs taken, as soon as enough of ``order`` has gone.

    Of those only the ones whose GPUs the gang takes are stopped.
    """
    trial = room.copy()
    for victim in order:
        trial.vacate(view, victim["id"])
        if trial.node_free[inside].sum() < gang["gpus"]:
            continue
        gpus = placement.place(trial.only(inside[:, None]), gang, speeds)
        if gpus is None:
            continue
        owners = set(view.gpu_job[gpus].tolist())
        stopped = tuple(int(name) for name in order["id"] if int(name) in owners)
        if check(stopped, gpus) and room.without(view, stopped).joins(gpus):
            return stopped, gpus
    return None
