"""The serving engine once more: naive, in plain Python, as the known answer for the compiled one.

Nothing here is clever on purpose. One step at a time, one Python object per KV block, every queue a
list; it shares no code with ``gpuyard.envs.engine``. ``reference_steps.py`` says what a replica is
and what its steps cost, ``reference_engine.py`` serves by vLLM v1's scheduler,
``reference_batches.py`` by batches as wholes; ``reference_kv.py`` is the block pool (LRU free
queue, prefix cache).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from reference_batches import Batches
from reference_engine import Replica
from reference_kv import Request, Served
from reference_steps import ReplicaSpec, Result

from gpuyard.envs.perf.serving.cost_table import CostTable


def simulate(
    specs: Sequence[ReplicaSpec],
    costs: Sequence[CostTable],
    requests: Sequence[Request],
    assignment: Sequence[int],
    seed: int = 0,
) -> Result:
    """Serve ``requests`` (in order of arrival), request i on replica ``assignment[i]``.

    Raises:
        ValueError: a request that could never fit into its replica's KV blocks, lengths below 1,
            arrivals out of order, or a prefix unit that is no multiple of the block size.
    """
    n = len(requests)
    result = Result([math.nan] * n, [math.nan] * n, [-1] * n, [0] * n, [], [])
    validate(specs, requests, assignment)
    for number, (spec, cost) in enumerate(zip(specs, costs, strict=True)):
        replica = (Replica if spec.batching == "continuous" else Batches)(spec, cost, result)
        replica.seed = seed
        replica.run([Served(i, requests[i]) for i in range(n) if assignment[i] == number])
        result.steps.append(replica.steps)
    result.events.sort(key=lambda event: event[0])  # stable: replicas keep their own order
    return result


def validate(
    specs: Sequence[ReplicaSpec], requests: Sequence[Request], assignment: Sequence[int]
) -> None:
    """Refuse what no engine could serve; see :func:`simulate`."""
    for spec in specs:
        if spec.prefix_block_tokens % spec.block_size:
            raise ValueError("prefix_block_tokens must be a multiple of block_size")
        if spec.max_num_batched_tokens < spec.max_num_seqs:
            raise ValueError("max_num_batched_tokens must be at least max_num_seqs")
    for i, (request, replica) in enumerate(zip(requests, assignment, strict=True)):
        tokens = request.prompt_tokens + request.output_tokens
        blocks, room = specs[replica].blocks_for(tokens), specs[replica].kv_blocks
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise ValueError(f"request {i}: prompt and output need at least one token each")
        if blocks > room:
            raise ValueError(f"request {i}: {blocks} blocks never fit into {room}")
        if i and request.arrival_s < requests[i - 1].arrival_s:
            raise ValueError(f"request {i}: arrives before the request ahead of it")
