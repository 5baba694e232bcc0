"""LoRA adapters: a replica keeps a few on its GPUs, and loads others from host memory.

The running requests of a replica name at most ``max_loras`` adapters. A waiting request whose
adapter has no place yet, where all places are taken by running requests, is passed over; who stands
behind may be admitted. An adapter that is not there is loaded, in place of the one that nobody has
used for longest, when its request is admitted: the step waits for it. Source: vLLM's scheduler
(``vllm/v1/core/sched/scheduler.py``: ``max_loras``, skipped waiting requests) and its LRU of
adapters (``vllm/lora/worker_manager.py``). Left out: the adapters' own arithmetic, and prefetching.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.compile import kernel
from ..core.records import records
from .runs import stop_for

LORA_RULES = np.dtype([("load_s", "f8")])  # one record where requests name adapters, else none

LORA_PLACE = np.dtype(  # one place for an adapter on a replica
    [
        ("adapter", "i4"),  # -1: none
        ("users", "i4"),  # running requests that name it
        ("used", "i8"),  # how many requests had been admitted here when it was last taken
        ("loads", "i4"),  # adapters that were loaded into it
    ],
    align=True,
)


def allocate_adapters(num_envs: int, num_replicas: int, max_loras: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of adapters by name, none if ``max_loras`` is 0."""
    if max_loras == 0:
        return {}
    return {"lora_places": records((num_envs, num_replicas, max_loras), LORA_PLACE)}


def empty_adapters(arrays: dict[str, NDArray[Any]], e: int) -> None:
    """Take all adapters from the replicas of environment ``e``."""
    if "lora_places" in arrays:
        arrays["lora_places"][e] = 0
        arrays["lora_places"]["adapter"][e] = -1


@kernel
def names_adapters(w):
    """Tell whether requests of this world name adapters."""
    return len(w.lora_rules) > 0


@kernel
def place_of(w, e, r, adapter):
    """Return where an adapter is, else the idle place whose adapter was used least recently.

    -1 if there is none: all are used by running requests.
    """
    best = -1
    for at in range(w.lora_places.shape[2]):
        place = w.lora_places[e, r, at]
        if place.adapter == adapter:
            return at
        if place.users == 0 and (best < 0 or place.used < w.lora_places[e, r, best].used):
            best = at
    return best


@kernel
def has_adapter(w, e, r, adapter):
    """Tell whether an adapter is on a replica; the base model, -1, always is."""
    if adapter < 0:
        return True
    at = place_of(w, e, r, adapter)
    return at >= 0 and w.lora_places[e, r, at].adapter == adapter


@kernel
def has_place(w, e, r, adapter):
    """Tell whether a request with this adapter may be admitted."""
    return adapter < 0 or place_of(w, e, r, adapter) >= 0


@kernel(inline=False)
def take_place(w, e, r, adapter):
    """Let an admitted request use its adapter; returns the seconds to load it."""
    if adapter < 0:
        return 0.0
    place = w.lora_places[e, r, place_of(w, e, r, adapter)]
    place.users += 1
    w.replicas[e, r].admitted += 1
    place.used = w.replicas[e, r].admitted
    if place.adapter == adapter:
        return 0.0
    place.adapter = adapter
    place.loads += 1
    return w.lora_rules[0].load_s


@kernel
def leave_place(w, e, r, adapter):
    """Let a request that runs no more be done with its adapter, which stays."""
    if adapter >= 0:
        w.lora_places[e, r, place_of(w, e, r, adapter)].users -= 1


@kernel(inline=False)
def stop_for_unseen(w, e, seen_s, replica, spec):
    """Cut a new run for the first request of the queue that was not seen, whoever stands before."""
    at = int(replica.head) if replica.running < spec.max_num_seqs else -1
    while at >= 0 and w.requests[e, at].queued_s <= seen_s:
        at = int(w.requests[e, at].next)
    if at >= 0:
        stop_for(w.requests[e, at].queued_s, replica, spec)
