"""What replicas on several nodes send: from a scenario to patterns of the network."""

from __future__ import annotations

from functools import cache
from typing import Any

from numpy.typing import NDArray

from ..engine.core.records import fill_in, records
from ..engine.network.names import FIDELITIES, UNCONTENDED
from ..engine.network.records import PATTERN, PHASE
from ..engine.services.records import TRAFFIC
from ..perf.serving.deployment import Deployment
from ..perf.serving.traffic import Traffic, traffic
from ..scenario import Scenario
from .serving import cost_rows

_traffic = cache(traffic)


def sent_by_replicas(scenario: Scenario) -> list[tuple[Deployment, Traffic]]:
    """Return what each row of the cost tables sends; nothing at all if no row sends over NICs.

    Replicas are senders where somebody meets somebody, and only where they stand on a cluster.
    """
    if not scenario.services or scenario.network.fidelity == FIDELITIES[UNCONTENDED]:
        return []
    found = [(kind, _traffic(kind)) for kind, _ in cost_rows(scenario)[0]]
    return found if any(sent.phases for _, sent in found) else []


def build_traffic(
    scenario: Scenario, first_pattern: int, first_phase: int
) -> dict[str, NDArray[Any]]:
    """Return TRAFFIC (K,) of the rows of the cost tables, and their PATTERN and PHASE records.

    A pattern computes for a second and sends the bytes of one token; senders scale both.

    Args:
        scenario: the scenario.
        first_pattern: number of the first of these patterns.
        first_phase: likewise.
    """
    sent = sent_by_replicas(scenario)
    senders = [(row, kind, what) for row, (kind, what) in enumerate(sent) if what.phases]
    found = records(len(sent), TRAFFIC)
    found["pattern"] = -1
    patterns = records(len(senders), PATTERN)
    phases = records(sum(len(what.phases) for _, _, what in senders), PHASE)
    at = 0
    for number, (row, kind, what) in enumerate(senders):
        fill_in(
            found[row : row + 1],
            pattern=first_pattern + number,
            token_s=what.bytes_per_token / kind.gpu.nic_bytes_per_s,
            quick_tokens=what.quick_tokens,
            quick_scale=what.quick_scale,
        )
        fill_in(
            patterns[number : number + 1],
            ranks=kind.gpus,
            first_phase=first_phase + at,
            num_phases=len(what.phases),
            compute_s=1.0,
            hidden_s=0.0,
        )
        for phase in what.phases:
            fill_in(phases[at : at + 1], **vars(phase))
            at += 1
    return {"traffic": found, "patterns": patterns, "phases": phases}
