"""What a job does in an iteration, as the placement engine needs it: compute, then flows.

=================================  ===============================================================
name                               job
=================================  ===============================================================
a model, of the catalogue or own    language model with the layout of :mod:`.gang_layout`
a model of ``profiles.csv``        CNN or BERT, data parallel, ring all-reduce
``vclos/MODEL-bBATCH/PATTERN``     share of :mod:`.vclos`; halving_doubling, ring or pairwise
``vclos/Pangu/PATTERN``            the same, large model
=================================  ===============================================================
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from functools import cache

from ...hardware.catalogue import GPU, Model, model, model_names
from ...hardware.cells import did_you_mean
from ..network import internode, nccl
from ..network.internode import Network
from . import profiles, training, vclos
from .communication import communications
from .gang_layout import SEQ_LEN, USABLE, default_job, memory_bytes
from .gang_phases import (
    CHAIN,
    CYCLIC,
    XOR,
    Phase,
    fewer,
    halving_doubling,
    merged,
    pairwise,
    phases_of,
    ring,
    seconds,
)
from .training_job import Layout, TrainingJob
from .training_work import sequence_flops

__all__ = [
    "CHAIN",
    "CYCLIC",
    "XOR",
    "GangProfile",
    "Phase",
    "communication_s",
    "names",
    "profile",
    "speed",
]

VCLOS = "vclos/"
"""Prefix of jobs that are one iteration long, bytes and compute being per second of their run."""
VCLOS_MEMORY, VCLOS_LOAD = 0.5, 0.4
"""Shares of memory and peak that jobs of the vClos study are shown with (assumption)."""
PATTERNS = ("halving_doubling", "ring", "pairwise")


@dataclass(frozen=True)
class GangProfile:
    """One type of job on ``gpus`` GPUs.

    An iteration takes ``compute_s + max(0, communication - hidden_s)``, where communication is the
    sum over phases of bytes / rate, the rate being that of its slowest flow.

    Attributes:
        name: what it trains, as it was asked for.
        gpus: GPUs of the gang.
        compute_s: per iteration on ``gpu`` (everything but exposed communication).
        hidden_s: its last part, beside which communication runs.
        phases: communication; empty on one GPU.
        gpu: the reference GPU.
        memory_bytes: device memory taken on each GPU.
        load: share of peak FLOP/s in use while it computes.
        model: the language model that it trains, if it does.
    """

    name: str
    gpus: int
    compute_s: float
    hidden_s: float
    phases: tuple[Phase, ...]
    gpu: GPU
    memory_bytes: float
    load: float
    model: Model | None = None


@dataclass(frozen=True)
class _Site:
    """Where a job of ``gpus`` GPUs runs: full nodes, rate of a NIC and of a GPU inside its node."""

    gpus: int
    node_gpus: int
    nic_bytes_per_s: float
    scale_up_bytes_per_s: float

    @property
    def network(self) -> Network:
        """What collectives see: equal parts of nodes if the last node is not full."""
        even = self.gpus <= self.node_gpus or self.gpus % self.node_gpus == 0
        local = self.node_gpus if even else math.gcd(self.gpus, self.node_gpus)
        return Network(self.nic_bytes_per_s, local)

    def seconds(self, phases: tuple[Phase, ...]) -> float:
        """Return seconds of the phases if no two flows ever meet."""
        return seconds(
            phases, self.gpus, self.node_gpus, self.nic_bytes_per_s, self.scale_up_bytes_per_s
        )


@cache
def profile(
    job: str | Model,
    gpus: int,
    node_gpus: int,
    nic_bytes_per_s: float,
    scale_up_bytes_per_s: float,
    gpu: GPU,
) -> GangProfile:
    """Return the profile of a job on full nodes of one kind.

    Args:
        job: what it trains: a name, see above, or a model that no catalogue has.
        gpus: at least 1.
        node_gpus: GPUs of a node.
        nic_bytes_per_s: what one GPU gets of its node's NICs when all send.
        scale_up_bytes_per_s: of one GPU inside its node.
        gpu: the reference GPU.

    Raises:
        ValueError: naming the argument, its value and the remedy.
    """
    name = job if isinstance(job, str) else job.name
    if gpus < 1:
        raise ValueError(f"profile {name!r}: gpus = {gpus}: give at least 1")
    site = _Site(gpus, node_gpus, nic_bytes_per_s, scale_up_bytes_per_s)
    if isinstance(job, Model):
        return _language_model(job, gpus, site, gpu)
    if name.startswith(VCLOS):
        return _study_job(name, gpus, site, gpu)
    if name in profiles.models():
        return _data_parallel(name, gpus, site, gpu)
    if name in model_names():  # errors call a model as the caller does, by a second name, too
        return _language_model(replace(model(name), name=name), gpus, site, gpu)
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
    raise ValueError(f"unknown job profile {name!r}: {did_you_mean(near, names())}")


def names() -> list[str]:
    """Return every name that :func:`profile` knows; not every pattern suits every size."""
    study = [f"{name}-b{batch}" for name, row in vclos.SHARES.items() for batch in row]
    found = [f"{VCLOS}{name}/{pattern}" for name in (*study, "Pangu") for pattern in PATTERNS]
    return [*model_names(), *profiles.models(), *found]


def communication_s(
    job: GangProfile, node_gpus: int, nic_bytes_per_s: float, scale_up_bytes_per_s: float
) -> float:
    """Return seconds that an iteration communicates on full nodes with no other traffic."""
    return seconds(job.phases, job.gpus, node_gpus, nic_bytes_per_s, scale_up_bytes_per_s)


@cache
def speed(job: GangProfile, device: GPU) -> float:
    """Return how fast a job computes on another GPU type, 1 on its own; 0: does not fit in memory.

    A language model as one GPU trains it, CNN and BERT by their measured rates, jobs of the vClos
    study by the 16-bit peak.
    """
    if device != job.gpu and job.memory_bytes > USABLE * device.memory_bytes:
        return 0.0
    if job.model is not None:
        return _alone_s(job.model, job.gpu) / _alone_s(job.model, device)
    if job.name.startswith(VCLOS):
        return device.fp16_flops / job.gpu.fp16_flops
    rates = [profiles.profile(job.name, gpu).samples_per_s for gpu in (device, job.gpu)]
    return rates[0] / rates[1]


@cache
def _alone_s(shape: Model, kind: GPU) -> float:
    """Return seconds of compute for one sequence on one GPU, memory not minded."""
    dtype = "bf16" if kind.bf16_flops else "fp16"
    job = TrainingJob(kind, shape, Layout(), 1, 1, SEQ_LEN, dtype=dtype)
    return training.iteration(job).compute_s


def _language_model(shape: Model, gpus: int, site: _Site, device: GPU) -> GangProfile:
    job = default_job(shape, gpus, site.node_gpus, device)
    network = site.network
    parts = communications(job, network)
    times = training.iteration(job, network)
    across = {part.axis for part in parts if part.where.nodes > 1}
    exposed = sum(getattr(times, f"{axis}_s") for axis in across)
    stage = (times.compute_s + times.tp_s + times.cp_s + times.ep_s) / job.micro_batches
    batches = min(job.micro_batches, job.layout.pp) if job.layout.vp > 1 else 1
    flops = job.global_batch * sequence_flops(job.model, job.seq_len)
    return _assembled(
        GangProfile(
            name=shape.name,
            gpus=gpus,
            compute_s=times.total_s,
            hidden_s=stage * batches - times.network_s,
            phases=merged(phase for part in parts for phase in phases_of(part)),
            gpu=device,
            memory_bytes=memory_bytes(job),
            load=flops / (times.total_s * gpus * job.gpu.peak_flops(job.dtype)),
            model=shape,
        ),
        exposed,
        site,
    )


def _data_parallel(name: str, gpus: int, site: _Site, device: GPU) -> GangProfile:
    job = profiles.profile(name, device)
    network = site.network
    total, reduce = profiles.step_s(job, gpus, network)
    behind = profiles.OVERLAP * profiles.BACKWARD * job.batch / job.samples_per_s
    where = internode.group(gpus, 1, network)
    sent = nccl.bus_factor("all_reduce", gpus) * job.gradient_bytes
    across = sent / where.local if where.nodes > 1 else 0.0
    rate = gpus * job.samples_per_s
    return _assembled(
        GangProfile(
            name=name,
            gpus=gpus,
            compute_s=total,
            hidden_s=behind - reduce,
            phases=ring(where, 1, sent - across, across),
            gpu=device,
            memory_bytes=profiles.memory_bytes(job),
            load=rate * job.flops_per_sample / (gpus * job.gpu.fp16_flops),
        ),
        max(0.0, reduce - behind) if where.nodes > 1 else 0.0,
        site,
    )


def _assembled(draft: GangProfile, exposed_s: float, site: _Site) -> GangProfile:
    """Return the profile whose iteration takes ``draft.compute_s`` on full, quiet nodes.

    Exposed communication between nodes leaves ``compute_s``: it is what the fabric can stretch. The
    rest of the communication is hidden, and up to ``draft.hidden_s`` more could be. A job that
    communicates longer than it computes takes as long as it communicates.
    """
    there = site.seconds(draft.phases)
    exposed = min(exposed_s, there)
    compute = draft.compute_s - exposed
    spare = max(0.0, draft.hidden_s) if exposed == 0 else 0.0
    return replace(draft, compute_s=compute, hidden_s=min(compute, there - exposed + spare))


def _study_job(name: str, gpus: int, site: _Site, device: GPU) -> GangProfile:
    """Return a job that computes ``1 - share`` of a second and communicates for the rest.

    Bytes are such that phases at full rate take the share. The hierarchical ring counts the network
    part as ``1/g`` (as :func:`.vclos.unit_time_s`). Beyond 256 GPUs the last rounds are merged.
    """
    share, pattern = _study_share(name)
    where = internode.group(gpus, 1, site.network)
    g = where.local
    if pattern == "halving_doubling":
        unit = fewer(halving_doubling(gpus))
    elif pattern == "pairwise":
        unit = pairwise(gpus)
    else:
        inside = (g - 1) / g if where.nodes == 1 else 2 * (g - 1) / g
        unit = ring(where, 1, inside, 1 / g)
    unit_s = site.seconds(unit)
    share = share if unit else 0.0
    return GangProfile(
        name=name,
        gpus=gpus,
        compute_s=1.0 - share,
        hidden_s=0.0,
        phases=tuple(replace(phase, bytes=phase.bytes * share / unit_s) for phase in unit),
        gpu=device,
        memory_bytes=VCLOS_MEMORY * device.memory_bytes,
        load=VCLOS_LOAD,
    )


def _study_share(name: str) -> tuple[float, str]:
    """Return the share of communication and the pattern that a name stands for."""
    found = {"Pangu": math.fsum(vclos.PANGU.values())}
    for model_name, row in vclos.SHARES.items():
        found |= {f"{model_name}-b{batch}": share for batch, share in row.items()}
    job, _, pattern = name.removeprefix(VCLOS).partition("/")
    if job not in found:
        raise ValueError(f"unknown job {name!r}: use vclos/NAME/PATTERN with NAME of {list(found)}")
    if pattern not in PATTERNS:
        raise ValueError(f"unknown pattern in {name!r}: use one of {', '.join(PATTERNS)}")
    return found[job], pattern
