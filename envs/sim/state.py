"""All arrays of a batch of worlds in one bundle, as the engine's functions pass it around.

They take ``w``, a :class:`State`, with the environment ``e`` and the replica ``r`` they work on.
The arrays have no owner (see :mod:`.memory`) and the functions are inlined, so it costs nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class State(NamedTuple):
    """Arrays of records and numbers; E environments, R replicas, K kinds of replica.

    Attributes:
        envs: ENV (E,).
        config: CONFIG (1,).
        replicas: REPLICA (E, R).
        specs: SPEC (R,).
        costs: COST (K,).
        requests: REQUEST (E, N).
        slots: SLOT (E, R, S), the running batch in order of admission.
        phases: int32 (E, R, block size), decoding sequences by when they take their next block.
        nodes: NODE (E, H, R), by prefix id.
        holders: int16 (E, H, R), running requests that hold the node, or EVICTED or NEVER_SENT.
        ids: int32 (E, M), prefix ids of all requests.
        linear: float64 (K, T + 1), seconds by tokens in a step.
        head: float64 (K, S + 1), seconds by sequences sampling.
        cluster: float32 (E, G) and the other observation keys, written for each decision.
        memory: float32 (E, D).
        load: float32 (E, D).
        link_load: float32 (E, R).
        queue: float32 (E, Q, Fq).
        candidates: float32 (E, C, Fc).
        mask: int8 (E, C).
    """

    envs: Any
    config: Any
    replicas: Any
    specs: Any
    costs: Any
    requests: Any
    slots: Any
    phases: Any
    nodes: Any
    holders: Any
    ids: Any
    linear: Any
    head: Any
    cluster: Any
    memory: Any
    load: Any
    link_load: Any
    queue: Any
    candidates: Any
    mask: Any
