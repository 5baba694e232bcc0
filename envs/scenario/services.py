"""Services: deployments whose replicas stand on a cluster, their roles, and the gangs they form.

They are read from the ``[[deployments]]`` tables of a scenario (:mod:`.service_tables`). A base
gang holds the ``min`` replicas of every role, all or none of which start.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from ..hardware.cluster import LEVELS
from ..perf import capability
from ..rules import SLO
from ..workload.requests.source import Workload
from .deployments import Replica, same_weights

PREEMPTIBILITIES = ("non-preemptible", "semi-preemptible", "preemptible")
NON_PREEMPTIBLE, SEMI_PREEMPTIBLE, PREEMPTIBLE = PREEMPTIBILITIES
"""Which gangs of a service may be preempted: none, those beyond the base gang, all. Source:
kai-scheduler/KAI-Scheduler, ``docs/developer/designs/semi-preemptible``; inference is not by
default (its priority class is 125, and those from 100 on are not, ``docs/priority``)."""

KINDS = ("aggregated", "prefill", "decode")
"""What replicas of a role do, in the order of the engine's numbers: both, or one of them."""


@dataclass(frozen=True)
class Handover:
    """What it takes to hand a request over from a prefill to a decode replica.

    Attributes:
        local_tokens: uncached prompt tokens up to which it is not done.
        lacking: whether only blocks move that the decode replica's prefix cache lacks.
        handover_s: software around the transfer.
        kv_block_bytes: of a block of the KV cache on all ranks.
        nic_block_post_s: host time of posting it over NICs, beside the bytes' way.
        nic_start_s: over NICs, before and after the bytes.
        domain_block_post_s, domain_start_s: the same inside a node.
    """

    local_tokens: int
    lacking: bool
    handover_s: float
    kv_block_bytes: float
    nic_block_post_s: float
    nic_start_s: float
    domain_block_post_s: float
    domain_start_s: float


@dataclass(frozen=True)
class Role:
    """Replicas of one kind.

    Attributes:
        kind: of :data:`KINDS`.
        replica: each of them.
        least: replicas that must run; they are in the base gang.
        most: replicas at most.
        initial: replicas asked for from the start.
        startup_s: seconds from a replica's devices to its first request.
        handover: what a request costs that goes on there; of decode roles.
        starts_after: kind of the role of which ``least`` replicas must serve before one of this
            role starts to load, "": none.
        ports_bytes_per_s: that a replica's GPUs send or take of KV caches together, over their NICs
            and inside a node; of prefill and decode roles.
        layers: of a KV cache that goes layer by layer while its prompt is computed; 0: after that.
        farthest: widest domain that KV caches move in, index into ``hardware.cluster.LEVELS``.
        nearest: domain that they should move in, likewise.
    """

    kind: str
    replica: Replica
    least: int
    most: int
    initial: int
    startup_s: float
    handover: Handover | None = None
    starts_after: str = ""
    ports_bytes_per_s: tuple[float, float] = (0.0, 0.0)
    farthest: int = len(LEVELS) - 1
    nearest: int = len(LEVELS) - 1
    layers: int = 0

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.replica.deployment.gpus

    def prefill_tokens_per_s(self, prompt_tokens: int) -> float:
        """Return the prompt tokens a second of one replica, on prompts of this length alone."""
        return prompt_tokens / self.prefill_s(prompt_tokens)

    def prefill_s(self, prompt_tokens: float) -> float:
        """Return the seconds of one prompt on an idle replica, estimated."""
        return capability(self.replica.deployment).prefill_s(prompt_tokens)

    def decode_curve(
        self, prompt_tokens: float, output_tokens: float
    ) -> tuple[tuple[float, float, float], ...]:
        """Return what a replica decodes by batch, at the mean context of such requests, estimated.

        Points of (sequences, seconds per token, tokens/s): powers of 2 up to what its memory and
        its limit hold, and that.
        """
        able = capability(self.replica.deployment)
        most, context = able.max_batch(prompt_tokens, output_tokens), output_tokens / 2
        batches = [2**k for k in range(most.bit_length()) if 2**k < most] + [most]
        steps_s = [able.decode_s(n, n * (prompt_tokens + context)) for n in batches]
        return tuple((n, step_s, n / step_s) for n, step_s in zip(batches, steps_s, strict=True))

    @property
    def kv_tokens(self) -> int:
        """Tokens that all KV blocks of a replica stand for, as engines report their cache."""
        return self.replica.kv_blocks * self.replica.deployment.block_size


@dataclass(frozen=True)
class Service:
    """One deployment on the cluster.

    Attributes:
        name: of the deployment.
        roles: what its replicas do.
        workload: the requests for it.
        pool: where its replicas stand.
        required: widest level allowed to a gang, index into ``hardware.cluster.LEVELS``.
        preferred: level wished for.
        priority: of its gangs.
        role_change_s: seconds from a replica's last request in one role to its first in another.
        termination_delay_s: seconds below its minimum after which it is ended and starts anew;
            0: a base gang that loses a node falls at once, and the rest of the service stays.
        asked_at_s: when its gangs queue for the first time, and its workload begins.
        slo: objectives of its requests; None: the scenario's.
        staleness_grace_s: seconds after which a base gang of which a part has no devices loses
            them all, if it does not fall at once; 0: it never does.
        preemptibility: which of its gangs may be preempted, of :data:`PREEMPTIBILITIES`.
        queue: of a tenant, whose GPUs its gangs hold; "": that of all services.
    """

    name: str
    roles: tuple[Role, ...]
    workload: Workload
    pool: int
    required: int
    preferred: int
    priority: float
    role_change_s: float = 0.0
    termination_delay_s: float = 0.0
    staleness_grace_s: float = 60.0
    asked_at_s: float = 0.0
    slo: SLO | None = None
    preemptibility: str = NON_PREEMPTIBLE
    queue: str = ""

    def may_stop(self, is_base: bool) -> bool:
        """Return whether a gang of it may be preempted: its base gang, or one beyond."""
        both = self.preemptibility == PREEMPTIBLE
        return both or (self.preemptibility == SEMI_PREEMPTIBLE and not is_base)

    @property
    def prefers_transfers(self) -> bool:
        """Whether its KV caches should move in a domain that is not the whole cluster."""
        return any(role.nearest < len(LEVELS) - 1 for role in self.roles)

    @property
    def base_gpus(self) -> int:
        """GPUs of the base gang, 0 if nothing must run."""
        return sum(role.least * role.gpus for role in self.roles)

    @property
    def splits(self) -> bool:
        """Whether a replica of the base gang may fail, and start again, without the others."""
        return self.termination_delay_s > 0 and sum(role.least for role in self.roles) > 1


@dataclass(frozen=True)
class Slot:
    """Where one replica stands among the gangs of services.

    Attributes:
        service, role: numbered over the whole scenario.
        gang: in which it stands, numbered over all services; a service's base gang comes first.
        rank: of its first GPU in that gang.
        is_base: whether it starts with the base gang, in which it stands unless that splits.
        base: that gang of its service, -1: there is none.
        base_rank: of its first GPU there, if it starts with it.
    """

    service: int
    role: int
    gang: int
    rank: int
    is_base: bool
    base: int
    base_rank: int


def slots(services: tuple[Service, ...]) -> tuple[Slot, ...]:
    """Return the place of every replica, in the order of services, roles and replicas.

    In a base gang larger replicas come first, so that none straddles two nodes where sizes divide
    each other.
    """
    found: list[Slot] = []
    role_number = gang = 0
    for number, service in enumerate(services):
        base, rank = gang, {}
        gang += service.base_gpus > 0
        at = 0
        for k, role in sorted(enumerate(service.roles), key=lambda kr: -kr[1].gpus):
            rank[k] = at
            at += role.least * role.gpus
        for k, role in enumerate(service.roles):
            for i in range(role.most):
                is_base = i < role.least
                base_rank = rank[k] + i * role.gpus if is_base else 0
                shares = is_base and not service.splits
                place = (base, base_rank) if shares else (gang, 0)
                first = base if service.base_gpus else -1
                found.append(Slot(number, role_number, *place, is_base, first, base_rank))
                gang += not shares
            role_number += 1
    return tuple(found)


def turns(services: tuple[Service, ...]) -> list[tuple[int, int]]:
    """Return between which roles replicas may change: those of a service with the same weights.

    From and to, the roles numbered over all services.
    """
    found: list[tuple[int, int]] = []
    first = 0
    for service in services:
        roles = [role.replica.deployment for role in service.roles]
        for giver, taker in permutations(range(len(roles)), 2):
            if same_weights(roles[giver], roles[taker]):
                found.append((first + giver, first + taker))
        first += len(roles)
    return found


def replicas_of(services: tuple[Service, ...]) -> tuple[Replica, ...]:
    """Return every replica that there may be, in the order of :func:`slots`."""
    return tuple(
        role.replica for service in services for role in service.roles for _ in range(role.most)
    )
