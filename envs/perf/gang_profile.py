"""What a job does in an iteration, as the placement engine needs it: compute, then flows."""

from __future__ import annotations

from dataclasses import dataclass

CYCLIC, XOR, CHAIN = 0, 1, 2


@dataclass(frozen=True)
class Phase:
    """One step of communication: every rank sends one flow at most.

    Ranks are numbered over the whole job, node by node. The ranks of a group stand ``stride``
    apart, groups tile the job. Place q of a group of ``ranks`` sends to ``(q + shift) mod ranks``
    (CYCLIC), ``q ^ shift`` (XOR) or ``q + shift`` if there is such a place (CHAIN).

    Attributes:
        ranks: ranks per group.
        stride: distance of neighbouring ranks of a group.
        shift: how far a flow goes.
        mode: CYCLIC, XOR or CHAIN.
        bytes: of each flow, per iteration.
    """

    ranks: int
    stride: int
    shift: int
    mode: int
    bytes: float


@dataclass(frozen=True)
class GangProfile:
    """One type of job on ``gpus`` GPUs.

    An iteration takes ``compute_s + max(0, communication - hidden_s)``, where communication is the
    sum over phases of bytes / rate, the rate being that of its slowest flow.

    Attributes:
        name: of model and pattern.
        gpus: GPUs of the gang.
        compute_s: per iteration on ``gpu`` (everything but exposed communication).
        hidden_s: its last part, beside which communication runs.
        phases: communication; empty on one GPU.
        gpu: name of the reference GPU.
        memory_bytes: device memory taken on each GPU.
        load: share of peak FLOP/s in use while it computes.
    """

    name: str
    gpus: int
    compute_s: float
    hidden_s: float
    phases: tuple[Phase, ...]
    gpu: str
    memory_bytes: float
    load: float
