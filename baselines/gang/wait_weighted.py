"""Orders that weigh the wait against the size: WFP3 and UNICEP."""

from __future__ import annotations

from .keys import Array, Queue, unicep, wfp3
from .order import QueueOrder


class WFP3(QueueOrder):
    """The gang of the highest (w / r)^3 n that fits: favours old, short and big gangs.

    Source: W. Tang et al., IEEE Cluster 2009 (the Blue Gene/P queue of Argonne), as RLScheduler
    (SC 2020) writes it, with wait w, estimate r and GPUs n.
    """

    def key(self, queue: Queue) -> Array:
        """Return minus (w / r)^3 n."""
        return wfp3(queue)


class UNICEP(QueueOrder):
    """The gang of the highest w / (log2(n) r) that fits: favours old, short and small gangs.

    Source: W. Tang et al., IEEE Cluster 2009 (UNICEF), as RLScheduler (SC 2020) writes it. One
    GPU counts as two, for log2(1) = 0.
    """

    def key(self, queue: Queue) -> Array:
        """Return minus w / (log2(n) r)."""
        return unicep(queue)
