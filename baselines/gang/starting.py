"""The next start of a planner that keeps all gangs in one order, stopping later ones if it may."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..placement import Placement
from ..room import Room, startable

Keys = NDArray[np.floating]


def remaining_s(gangs: NDArray[np.void]) -> NDArray[np.float64]:
    """Return the run time that each gang is believed to have left at speed 1, at least 0."""
    return np.maximum(gangs["estimate_s"] - gangs["executed_s"], 0.0)


def next_start(
    view: ClusterView,
    placement: Placement,
    keys: Keys,
    running_keys: Keys | None = None,
    claims: Keys | None = None,
    preferences: NDArray[np.float64] | None = None,
    blocks: bool = False,
) -> Plan | None:
    """Return the start of the first gang in order that fits, or None.

    A gang that does not fit may stop running gangs that come strictly later in the order, the last
    ones first, and only those whose GPUs it takes.

    Args:
        view: the cluster.
        placement: where gangs go.
        keys: of the pending gangs, lower first; ties go to the oldest.
        running_keys: of the running gangs, -inf: never stopped; None: none is stopped.
        claims: keys by which pending gangs stop others, inf: it stops nobody; by default ``keys``.
        preferences: (pending, pools), higher first, 0: not there; by default the fastest.
        blocks: whether the first gang that may start and does not fit blocks all behind it.
    """
    preferences = view.speeds if preferences is None else preferences
    claims = keys if claims is None else claims
    room, failed = Room(view), set()
    fits = view.pending["gpus"] <= room.node_free.sum()
    for row in np.argsort(keys, kind="stable"):
        gang = view.pending[row]
        if not startable(view, gang):
            continue
        shape = (int(gang["gpus"]), *placement.shape(gang), preferences[row].tobytes())
        if fits[row] and shape not in failed:
            gpus = placement.place(room, gang, preferences[row])
            if gpus is not None:
                return placement.commit(room, gang, gpus)
            failed.add(shape)
        if running_keys is not None and view.preemption:
            later = (running_keys > claims[row]) & (view.running["blocked"] == 0)
            last_first = np.argsort(-running_keys[later], kind="stable")
            victims = view.running[later][last_first]
            plan = _displace(view, placement, room, gang, preferences[row], victims)
            if plan is not None:
                return plan
        if blocks:
            break
    return None


def _displace(
    view: ClusterView,
    placement: Placement,
    room: Room,
    gang: np.void,
    preferences: NDArray[np.float64],
    victims: NDArray[np.void],
) -> Plan | None:
    trial = room.copy()
    for victim in victims:
        trial.vacate(view, victim["id"])
        if trial.node_free.sum() < gang["gpus"]:
            continue
        gpus = placement.place(trial, gang, preferences)
        if gpus is not None:
            owners = np.unique(view.gpu_job[gpus])
            stopped = tuple(int(owner) for owner in owners if owner >= 0)
            freed = room.without(view, stopped)
            if freed.joins(gpus):  # circuits of gangs that run on are not to be had
                return placement.commit(freed, gang, gpus, stopped)
    return None
