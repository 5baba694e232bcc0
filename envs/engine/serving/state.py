"""All arrays of a batch of worlds in one bundle, as the engine's functions pass it around.

They take ``w``, a :class:`State`, with the environment ``e`` and the replica ``r`` they work on.
The arrays have no owner (see :mod:`.memory`) and the functions are inlined, so it costs nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...observation import Layout
from ...perf.serving.cost_table import COST
from ..core.bundle import array_at
from ..core.compile import kernel
from ..decide.columns import LAYOUT
from .records import CONFIG, ENV, NODE, REPLICA, REQUEST, SLOT, SPEC

INT8, INT16, INT32 = np.dtype(np.int8), np.dtype(np.int16), np.dtype(np.int32)
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
ROUTING = Layout({"route"})
NUM_CLUSTER, NUM_QUEUE, NUM_CANDIDATE = (
    len(ROUTING.columns(k)) for k in ("cluster", "queue", "candidates")
)


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
    layout: Any


@kernel
def bind(table, floats, mask):
    """Return the state whose sizes and addresses ``World`` wrote into ``table``, int64 (26,).

    ``floats`` holds the observation keys one behind the other, each with its environment axis.
    """
    num_envs, num_replicas, num_kinds = table[0], table[1], table[2]
    num_requests, num_ids, num_nodes = table[3], table[4], table[5]
    num_slots, num_phases, num_tokens = table[6], table[7], table[8]
    num_heads, num_devices, queue_rows, num_candidates = table[9], table[10], table[11], table[12]
    cluster_at = floats.ctypes.data
    memory_at = cluster_at + 4 * num_envs * NUM_CLUSTER
    load_at = memory_at + 4 * num_envs * num_devices
    link_load_at = load_at + 4 * num_envs * num_devices
    queue_at = link_load_at + 4 * num_envs * num_replicas
    candidates_at = queue_at + 4 * num_envs * queue_rows * NUM_QUEUE
    return State(
        array_at(table[13], (num_envs,), ENV),
        array_at(table[14], (1,), CONFIG),
        array_at(table[15], (num_envs, num_replicas), REPLICA),
        array_at(table[16], (num_replicas,), SPEC),
        array_at(table[17], (num_kinds,), COST),
        array_at(table[18], (num_envs, num_requests), REQUEST),
        array_at(table[19], (num_envs, num_replicas, num_slots), SLOT),
        array_at(table[20], (num_envs, num_replicas, num_phases), INT32),
        array_at(table[21], (num_envs, num_nodes, num_replicas), NODE),
        array_at(table[22], (num_envs, num_nodes, num_replicas), INT16),
        array_at(table[23], (num_envs, num_ids), INT32),
        array_at(table[24], (num_kinds, num_tokens), FLOAT64),
        array_at(table[25], (num_kinds, num_heads), FLOAT64),
        array_at(cluster_at, (num_envs, NUM_CLUSTER), FLOAT32),
        array_at(memory_at, (num_envs, num_devices), FLOAT32),
        array_at(load_at, (num_envs, num_devices), FLOAT32),
        array_at(link_load_at, (num_envs, num_replicas), FLOAT32),
        array_at(queue_at, (num_envs, queue_rows, NUM_QUEUE), FLOAT32),
        array_at(candidates_at, (num_envs, num_candidates, NUM_CANDIDATE), FLOAT32),
        array_at(mask.ctypes.data, (num_envs, num_candidates), INT8),
        array_at(table[26], (1,), LAYOUT),
    )
