"""Records of the KV tiers below the GPUs; worlds without them have none of these.

Times are seconds, counts are prefix units (:data:`.records.PREFIX_UNIT`).
"""

from __future__ import annotations

import numpy as np

TIER_SPEC = np.dtype(  # one tier: the host memory of a replica, or the store of all of them
    [
        ("units", "i4"),  # that it holds at most
        ("unit_s", "f8"),  # in which one unit passes its port, in each direction
    ]
)

REPLICA_TIERS = np.dtype(  # the tiers of one replica
    [
        ("host", "i4"),  # its own tier, -1: none
        ("store", "i4"),  # the tier that all share, -1: none
        ("write_back", "i4"),  # 1: the host gets a unit when the GPU evicts it, not when sealed
        ("nic_unit_s", "f8"),  # in which one unit passes its NICs, on the way to or from the store
    ]
)

TIER = np.dtype(  # where a tier stands
    [
        ("begin", "i4"),  # its places among the entries: from this one on
        ("units", "i4"),  # as many
        ("used", "i4"),  # of these, from the first one on
        ("oldest", "i4"),  # entry that was used least recently, -1: none
        ("newest", "i4"),
        ("read_free_s", "f8"),  # when its port has read what was asked for so far
        ("write_free_s", "f8"),
    ],
    align=True,
)

NIC = np.dtype([("read_free_s", "f8"), ("write_free_s", "f8")])  # of a replica, likewise

TIER_ENTRY = np.dtype(  # a unit in a tier
    [
        ("node", "i4"),  # its prefix id
        ("older", "i4"),  # in the order of use
        ("newer", "i4"),
        ("since_s", "f8"),  # when it has been written
    ],
    align=True,
)
