"""What a training job communicates in one iteration, and the bytes it puts on each GPU's NIC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...hardware.catalogue import GPU
from ..network import internode, nccl
from ..network.internode import Group, Network
from .patterns import Step, steps
from .training_job import GRAD_BYTES, TrainingJob
from .training_work import slowest_stage

SEND_RECV = "send_recv"
_USUAL = {"all_to_all": "pxn", "pp": "chain", "cp": "cycle"}


@dataclass(frozen=True)
class Communication:
    """One kind of message of a job: every rank of every such group takes part ``calls`` times.

    Attributes:
        axis: parallel axis it serves: tp, cp, ep, pp or dp.
        op: a collective, or ``send_recv`` with the next rank.
        where: the ranks of one group.
        stride: distance of neighbouring ranks in the job's GPU numbering.
        size_bytes: payload of a call (see :func:`gpuyard.envs.perf.network.nccl.bus_factor`).
        calls: per rank and iteration.
    """

    axis: str
    op: str
    where: Group
    stride: int
    size_bytes: float
    calls: float

    def members(self, gpus: int) -> NDArray[np.int64]:
        """Return the GPU numbers of every group of a job, int64 (groups, ranks)."""
        shape = gpus // (self.where.ranks * self.stride), self.where.ranks, self.stride
        return np.arange(gpus).reshape(shape).transpose(0, 2, 1).reshape(-1, self.where.ranks)

    def flows(self, algorithm: str | None = None) -> tuple[Step, ...]:
        """Return the steps of one call among the ranks of a group.

        Args:
            algorithm: one of :func:`.patterns.steps`; by default rings over all
                rails, PXN for an all-to-all, a chain between pipeline stages.
        """
        chosen = algorithm or _USUAL.get(self.axis if self.op == SEND_RECV else self.op, "ring")
        return steps(self.op, chosen, self.size_bytes, self.where)

    def seconds(self, device: GPU, network: Network) -> float:
        """Return seconds of one call."""
        if self.op != SEND_RECV:
            return internode.collective_s(self.op, self.size_bytes, self.where, device, network)
        if self.where.nodes == 1:
            return float(nccl.send_recv_s(self.size_bytes, device))
        return internode.send_recv_s(self.size_bytes, network)

    @property
    def nic_bytes(self) -> float:
        """Bytes that one rank sends through its NIC in an iteration.

        Of rings over all rails a NIC carries ``1/local``; of an all-to-all the ``(N-1)/N`` that is
        meant for other nodes, on the receiver's rail (PXN).
        """
        n, g = self.where.nodes, self.where.local
        if n == 1:
            return 0.0
        if self.op == SEND_RECV:
            return self.calls * self.size_bytes / g  # one neighbour in g is in another node
        if self.op == "all_to_all":
            return self.calls * self.size_bytes * (n - 1) / n
        return self.calls * nccl.bus_factor(self.op, self.where.ranks) * self.size_bytes / g

    @property
    def scale_up_bytes(self) -> float:
        """Bytes that one rank sends inside its node in an iteration."""
        g = self.where.local
        if g == 1:
            return 0.0
        if self.op == SEND_RECV:
            share = 1.0 if self.where.nodes == 1 else (g - 1) / g
            return self.calls * self.size_bytes * share
        ranks = g if self.op == "all_to_all" else self.where.ranks
        share = 1.0 if self.where.nodes == 1 or self.op == "all_to_all" else (g - 1) / g
        return self.calls * nccl.bus_factor(self.op, ranks) * self.size_bytes * share


def communications(job: TrainingJob, network: Network) -> tuple[Communication, ...]:
    """Return what a rank of the slowest stage communicates, axes without traffic left out.

    Tensor parallelism all-reduces a layer's output (as reduce-scatter and all-gather) twice forward
    and twice backward; context parallelism passes keys and values around a ring, once forward and
    twice backward; experts dispatch and combine tokens; stages send outputs and their gradients;
    data parallelism reduces gradients and gathers parameters.
    """
    layout, model = job.layout, job.model
    layers, _ = slowest_stage(model.layers, layout.pp)
    passes = 6 if job.recompute == "full" else 4
    per_layer = layers * job.micro_batches
    span = layout.tp * layout.cp

    def one(axis: str, op: str, ranks: int, stride: int, size: float, calls: float):
        where = internode.group(ranks, stride, network)
        return Communication(axis, op, where, stride, size, calls)

    heads = max(1, model.kv_heads // layout.tp)
    block = 2 * 2 * job.rank_tokens * heads * model.head_dim
    routed = job.activation_bytes * model.active_experts / layout.tp
    moe_calls = passes * per_layer * model.moe_layers / model.layers
    stage_calls = 2 * job.micro_batches * layout.vp
    found = [
        one("tp", "all_reduce", layout.tp, 1, job.activation_bytes, passes * per_layer),
        one("cp", SEND_RECV, layout.cp, layout.tp, block, 3 * (layout.cp - 1) * per_layer),
        one("ep", "all_to_all", layout.ep, layout.tp, routed, moe_calls),
        one(
            "pp",
            SEND_RECV,
            layout.pp,
            span * layout.dp,
            job.activation_bytes / layout.tp,
            stage_calls,
        ),
    ]
    ranks = layout.dp * layout.cp
    for params, size in zip(job.rank_params, (ranks, ranks // layout.ep), strict=True):
        stride = layout.tp * ranks // size
        grads = GRAD_BYTES[job.grad_dtype] * params
        if job.distributed_optimizer:
            found.append(one("dp", "reduce_scatter", size, stride, grads, 1))
            found.append(one("dp", "all_gather", size, stride, 2 * params, 1))
        else:
            found.append(one("dp", "all_reduce", size, stride, grads, 1))
    return tuple(c for c in found if c.where.ranks > 1 and c.size_bytes and c.calls)
