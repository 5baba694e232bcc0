"""What a replica whose ranks lie on several nodes sends over NICs, experts left out.

Engines all-reduce with kernels of their own inside a node only (:mod:`.collectives`); across nodes
they call NCCL (:mod:`..network.internode`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..network.internode import collective_s, send_recv_s
from ..network.nccl import send_recv_s as domain_send_recv_s
from .collectives import all_reduce_s
from .deployment import Deployment

STEP = 1.1
"""Ratio of the sizes between which times are straight lines: within 0.2 % of the curve."""


def reduce_s(deployment: Deployment, size_bytes: ArrayLike, ranks: int) -> NDArray[np.float64]:
    """Return seconds of an all-reduce of ``size_bytes`` per GPU over neighbouring ranks.

    Shape: that of ``size_bytes``.
    """
    d, size = deployment, np.asarray(size_bytes, np.float64)
    where = d.group(ranks)
    if where.nodes == 1:
        return all_reduce_s(size, ranks, d.gpu, links=d.links)
    low, high = max(size.min(initial=1.0), 1.0), max(size.max(initial=2.0), 2.0)
    count = 2 + int(np.log(high / low) / np.log(STEP))
    at = np.geomspace(low, high, count)
    curve = [collective_s("all_reduce", x, where, d.gpu, d.network) for x in at]
    return np.interp(size, at, curve)


def stages_s(deployment: Deployment, tokens: ArrayLike) -> NDArray[np.float64]:
    """Return seconds in which a micro-batch of ``tokens`` passes from stage to stage.

    Hidden state and residual in 16 bits, each rank of a stage sending its tp-th part, as vLLM does
    (``vllm/v1/worker``: intermediate tensors, gathered within the next stage).
    """
    d = deployment
    size = 2 * 2 * np.asarray(tokens, np.float64) * d.model.hidden / d.tp
    stages_per_node = max(1, d.network.gpus_per_node // d.stage_gpus)
    far = -(-d.pp // stages_per_node) - 1
    near = d.pp - 1 - far
    far_s = send_recv_s(0.0, d.network) + size / d.network.rate
    return far * far_s + near * domain_send_recv_s(size, d.gpu)
