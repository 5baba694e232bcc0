"""Replicas on several nodes for the naive reference: each step computes, then sends its bytes.

A step is a gang of one iteration in the network of the reference: it computes as long as the step
takes by itself, less what NICs alone take for its bytes, and ends when these have arrived.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reference_cluster import Cluster
from reference_network import Gang, Uplinks
from reference_replica import ClusterReplica

Phases = tuple[tuple[int, int, int, int, float], ...]
"""Ranks, stride, shift, mode and bytes for a token, as of the engine's PHASE."""

_OPEN_S = 1e18  # end of a step that the network will say
_FIRST = 1_000_000  # number of the first replica among gangs


@dataclass(frozen=True)
class Stand:
    """Where a replica got devices: its GPUs in rank order, and uplinks that others keep then."""

    gpus: tuple[int, ...]
    reserved: Uplinks


class SendingCluster(Cluster):
    """A service all of whose replicas lie on several nodes.

    Attributes:
        stands: of each replica, in the order in which it gets devices.
        phases: what the ranks of a replica send for each token.
    """

    def __init__(
        self, *given: Any, stands: Mapping[int, list[Stand]], phases: Phases, **named: Any
    ) -> None:
        self.stands, self.phases = {r: list(found) for r, found in stands.items()}, phases
        self.here: dict[int, Stand] = {}
        self.sent: dict[int, Gang] = {}  # steps under way, by replica
        self.waited_s = 0.0  # by all steps together, for links that others use
        super().__init__(*given, **named)

    def load(self, replica: ClusterReplica) -> None:
        """Let a replica load where it has got devices."""
        self.here[replica.number] = self.stands[replica.number].pop(0)
        super().load(replica)

    def start(self, replica: ClusterReplica) -> None:
        """Begin a step, whose end the network will say."""
        super().start(replica)
        if replica.end_s < math.inf:
            self.sent[replica.number] = self.step_of(replica)
            self.network.gangs.append(self.sent[replica.number])
            replica.end_s = _OPEN_S

    def step_of(self, replica: ClusterReplica) -> Gang:
        """Return the step that a replica has begun."""
        stand = self.here[replica.number]
        tokens = sum(
            new + (replica.drafted if replica.decodes(seq) else 0) for seq, new in replica.plan
        )
        nic_s = sum(phase[-1] for phase in self.phases) / self.network.wires.nic_bytes_per_s
        computes_s = max(replica.end_s - self.now - nic_s * tokens, 0.0)
        phases = tuple((*phase[:-1], phase[-1] * tokens) for phase in self.phases)
        return Gang(
            *(_FIRST + replica.number, self.now, stand.gpus, 1.0, computes_s, 0.0, phases),
            reserved=stand.reserved,
        )

    def events(self) -> list[tuple[float, float, int, Callable[[], None]]]:
        """Return all that may happen next, ends of steps whose bytes have arrived among it."""
        ended = [r for r, gang in self.sent.items() if not math.isnan(gang.finish_s)]
        return super().events() + [
            (self.sent[r].finish_s, 0, r, lambda it=self.replicas[r]: self.end_step(it))
            for r in ended
        ]

    def end_step(self, replica: ClusterReplica) -> None:
        """End a step and begin the next one."""
        self.network.gangs.remove(self.sent.pop(replica.number))
        self.waited_s += self.now - replica.under_way.end_s
        replica.under_way = replace(replica.under_way, end_s=self.now)
        self.step(replica)

    def lose(self, replica: ClusterReplica) -> None:
        """Let a replica lose its devices, and a step under way end nowhere."""
        gang = self.sent.pop(replica.number, None)
        if gang is not None:
            self.network.gangs.remove(gang)
            if gang.flow is not None:
                self.network.flows.remove(gang.flow)
        super().lose(replica)
