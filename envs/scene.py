"""What may be seen of a world from outside, to record it: where gangs, replicas and requests stand.

It says what has happened so far, nothing of what is to come. Policies do not read it: it says of
requests and gangs what no router or scheduler knows at that moment. Arrays are copies; those of a
part that a scenario lacks are empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

GANG_STATES = ("pending", "running", "finished", "absent")
"""What a gang does; a service's gang is absent while nobody asks for it."""

REPLICA_PHASES = ("serving", "off", "queued", "starting", "draining", "turning")
"""What a replica does; one that stands outside any cluster serves all the time. One that turns
waits for the devices of one of another role, which drains."""

REQUEST_PHASES = ("router", "queue", "prefill", "transfer", "decode", "done")
"""Where a request is, in the order in which it goes: at the router (also parked or held back), in
the queue of a replica, in its batch before the first token; its prompt is computed and its KV cache
goes to a decode replica; it is decoded; it has finished. A request that a replica preempts goes
back to the queue, and one that a failing replica loses to the router."""

GANG_SCENE = np.dtype(
    [
        ("state", "i4"),  # index into GANG_STATES
        ("service", "i4"),  # whose replicas it is, -1: a job
        ("gpus", "i4"),
        ("memory_bytes", "f8"),  # that it holds on each of them
        ("arrival_s", "f8"),
        ("start_s", "f8"),  # of its last run; times are NaN if not reached
        ("stopped_s", "f8"),  # end of its last run that was cut short
        ("finish_s", "f8"),
        ("ran_s", "f8"),  # in the runs that have ended
        ("preemptions", "i4"),
        ("failures", "i4"),
        ("first_gpu", "i4"),  # of those that it holds, -1: none
    ]
)

REPLICA_SCENE = np.dtype(
    [
        ("phase", "i4"),  # index into REPLICA_PHASES
        ("ready_s", "f8"),  # when it has started, or will have
        ("kv_share", "f8"),  # KV blocks held
        ("link_load", "f8"),  # of its scale-up links by tensor parallelism, as last reported
    ]
)

REQUEST_SCENE = np.dtype(
    [
        ("phase", "i4"),  # index into REQUEST_PHASES
        ("replica", "i4"),  # that has it, or to which its KV cache goes; -1: none
        ("source", "i4"),  # prefill replica from which its KV cache came, -1: none
        ("arrival_s", "f8"),
        ("landed_s", "f8"),  # when that cache was there, or will be
        ("first_token_s", "f8"),
        ("finish_s", "f8"),
    ]
)


@dataclass(frozen=True)
class Scene:
    """A world at a decision or at its end.

    Attributes:
        now_s: time.
        gangs: GANG_SCENE, those of services, then the jobs that have arrived.
        gpu_next: int32 (D,), the GPU of the next rank of the gang that holds one, -1: it is the
            last.
        last_start: int32 (D,); its first entries are the GPUs, in rank order, that were given to
            the gang which was placed last.
        link_load: float64 (L,), share of each directed link's capacity in use.
        repairs_s: float64 (N,), when each failed node is repaired; inf: it works.
        next_failure_s: when a node fails next; inf: none does.
        replicas: REPLICA_SCENE (R,).
        requests: REQUEST_SCENE, those that have arrived, from the one that was asked for on; where
            sessions answer back all of them, with phase -1 until they arrive.
        first_request: number of the first of these.
        deciding: request that is to be routed now, -1: none.
        is_current: whether replicas and requests are up to date: they are advanced when a request
            is to be routed or replicas are decided about, not when gangs are placed.
    """

    now_s: float
    gangs: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, GANG_SCENE))
    gpu_next: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    last_start: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    link_load: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0, np.float64))
    repairs_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0, np.float64))
    next_failure_s: float = np.inf
    replicas: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, REPLICA_SCENE))
    requests: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, REQUEST_SCENE))
    first_request: int = 0
    deciding: int = -1
    is_current: bool = True

    def held_by(self, gang: int) -> NDArray[np.int32]:
        """Return the GPUs that a gang holds, in rank order."""
        gpu, found = int(self.gangs["first_gpu"][gang]), []
        while gpu >= 0:
            found.append(gpu)
            gpu = int(self.gpu_next[gpu])
        return np.array(found, np.int32)
