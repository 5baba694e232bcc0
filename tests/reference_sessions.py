"""Sessions that answer back, served naively: step by step, event by event, in plain Python.

At one moment steps end and the next ones begin, then requests arrive: those by the clock, then
turns in the order of their numbers. An idle engine begins a step after all of that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from reference_kv import Request, Served
from reference_serving import Replica, ReplicaSpec, Result

from gpuyard.envs.perf.serving.cost_table import CostTable


@dataclass(frozen=True)
class Turn:
    """What a request waits for: ``after`` was answered ``think_s`` ago; -1: it has a time."""

    after: int = -1
    think_s: float = 0.0


@dataclass
class Engine:
    """A replica whose steps are events, and what was sent to it and is not seen by a step yet."""

    replica: Replica
    end_s: float = math.inf  # of the step under way
    sent: list[tuple[float, Served]] = field(default_factory=list)

    def next_s(self) -> float:
        """Return when it does something next."""
        if self.end_s < math.inf or not self.sent:
            return self.end_s
        return min(seen_s for seen_s, _ in self.sent)

    def start(self, now: float) -> None:
        """Begin a step if there is anything to compute."""
        seen = self.replica.sees_until(now)
        self.replica.waiting += [seq for queued_s, seq in self.sent if queued_s <= seen]
        self.sent = [(queued_s, seq) for queued_s, seq in self.sent if queued_s > seen]
        self.end_s = math.inf
        if self.replica.waiting or self.replica.running:
            self.end_s = self.replica.begin_step(now, seen)


def simulate_sessions(
    specs: Sequence[ReplicaSpec],
    costs: Sequence[CostTable],
    requests: Sequence[Request],
    turns: Sequence[Turn],
    assignment: Sequence[int],
) -> tuple[Result, list[float]]:
    """Serve requests, those that wait for an answer too; returns also when each one arrived."""
    n = len(requests)
    result = Result([math.nan] * n, [math.nan] * n, [-1] * n, [0] * n, [], [])
    engines = [Engine(Replica(spec, cost, result)) for spec, cost in zip(specs, costs, strict=True)]
    arrival_s = [
        r.arrival_s if t.after < 0 else math.nan for r, t in zip(requests, turns, strict=True)
    ]
    to_come = [(arrival_s[i], i) for i in range(n) if turns[i].after < 0]
    answered: set[int] = set()
    while to_come or any(engine.next_s() < math.inf for engine in engines):
        now = min([engine.next_s() for engine in engines] + [moment for moment, _ in to_come])
        for engine in engines:
            if engine.end_s == now:
                engine.replica.end_step()
                engine.start(now)
        for i in range(n):  # answers that have just been given make turns known
            after = turns[i].after
            if after >= 0 and i not in answered and not math.isnan(result.finish_s[after]):
                answered.add(i)
                arrival_s[i] = result.finish_s[after] + turns[i].think_s
                to_come.append((arrival_s[i], i))
        for moment, i in sorted(to_come):
            if moment == now:
                to_come.remove((moment, i))
                engine = engines[assignment[i]]
                request = replace(requests[i], arrival_s=moment)
                queued_s = moment + engine.replica.spec.frontend_s
                engine.sent.append((queued_s, Served(i, request)))
        for engine in engines:
            if engine.end_s == math.inf and engine.next_s() == now:
                engine.start(now)
    result.steps = [engine.replica.steps for engine in engines]
    return result, arrival_s
