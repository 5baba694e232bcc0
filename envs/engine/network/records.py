"""The network's own records; jobs and usage entries stand in :mod:`..gangs.records`."""

from __future__ import annotations

import numpy as np

STEP = np.dtype(  # one phase of a running job that uses links
    [
        ("job", "i4"),
        ("begin", "i4"),  # its usage entries, counted from the job's first one
        ("count", "i4"),
        ("next", "i4"),  # scratch
        ("bytes", "f8"),  # of each flow, per iteration
        ("limit", "f8"),  # bytes/s that NIC or scale-up link give a flow
        ("rate", "f8"),  # bytes/s of a flow if no other job were there
        ("mark", "i8"),  # scratch, up to the end
        ("mine", "f8"),
        ("theirs", "f8"),
        ("my_links", "u8"),
        ("their_links", "u8"),
    ]
)

PAIR = np.dtype(  # how one job slows another, in the list of the one that is slowed
    [
        ("other", "i4"),  # who slows it
        ("twin", "i4"),  # the reverse
        ("next", "i4"),
        ("before", "i4"),
        ("effect_s", "f8"),  # longer communication per iteration if the other always communicated
        ("delay_s", "f8"),  # longer communication per iteration as things are
        ("duty", "f8"),  # share of the time in which the other communicates, without this job
        ("links", "u8"),  # a bit for each link where the other hurts most, by hash
    ]
)

LINK = np.dtype(
    [
        ("demand", "f8"),  # fluid: bytes/s that its jobs send in the long run
        ("slot", "i4"),  # scratch, up to the end: usage entry under construction
        ("members", "i4"),
        ("mark", "i8"),
        ("room", "f8"),
        ("weight", "f8"),
    ]
)
