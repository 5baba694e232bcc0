"""Whom a gang may stop in Volcano: who is below it in its queue, and what others owe its queue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView

from ..quota import volcano
from .evicting import Choose

Offer = tuple[NDArray[np.void], Choose]
"""Running gangs, and which of some of them may go, in their order."""


def below_it(
    view: ClusterView, deserved: NDArray[np.float64], gang: np.void, running: NDArray[np.void]
) -> Offer:
    """Return gangs of lower priority in the same queue (action ``preempt``).

    Args:
        view: the cluster.
        deserved: float64 (queues,), GPUs.
        gang: that waits.
        running: gangs that may be stopped at all, the first to go first.
    """
    lower = (running["tenant"] == gang["tenant"]) & (running["priority"] < gang["priority"])
    return running[lower], lambda some: range(len(some))


def by_deserved(
    view: ClusterView, deserved: NDArray[np.float64], gang: np.void, running: NDArray[np.void]
) -> Offer:
    """Return gangs of queues that hold more than they deserve (action ``reclaim``).

    None unless the gang's queue stays within what it deserves; arguments as of :func:`below_it`.
    """
    table, queue = view.queues, int(gang["tenant"])
    held = table["held"].astype(float)

    def choose(some: NDArray[np.void]) -> list[int]:
        owned = [(int(v["tenant"]), float(v["gpus"])) for v in some]
        parent, guarantee = table["parent"], table["guarantee"]
        return volcano.victims_of(parent, held, deserved, guarantee, queue, owned)

    allowed = volcano.may_reclaim(held, deserved, queue, float(gang["gpus"]))
    return running[(running["tenant"] != queue) & allowed], choose


def by_drf(
    view: ClusterView, weighed: NDArray[np.float64], gang: np.void, running: NDArray[np.void]
) -> Offer:
    """Return gangs of tenants whose dominant share stays no lower than that of the gang's then.

    Arguments as of :func:`below_it`, but ``weighed``: GPUs of the cluster times a queue's weight.
    """
    mine = int(gang["tenant"])
    own = volcano.dominant_share(view.queues["held"][mine] + gang["gpus"], weighed[mine])

    def choose(some: NDArray[np.void]) -> list[int]:
        remaining, found = view.queues["held"].astype(float), []
        for at, victim in enumerate(some):
            queue, left = victim["tenant"], remaining[victim["tenant"]] - victim["gpus"]
            if volcano.drf_may_preempt(own, volcano.dominant_share(left, weighed[queue])):
                remaining[queue] = left
                found.append(at)
        return found

    return running[running["tenant"] != mine], choose
