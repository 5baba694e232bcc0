"""Sessions that answer back, served naively: step by step, event by event, in plain Python.

At one moment steps end and the next ones begin, then requests arrive: those by the clock, then
turns in the order of their numbers. An idle engine begins a step after all of that. Where a step of
rollouts begins, every engine ends its step, and begins none before it has new weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from reference_engine import Replica
from reference_kv import KVBlocks, Request, Served
from reference_steps import ReplicaSpec, Result

from gpuyard.envs.perf.serving.cost_table import CostTable


@dataclass(frozen=True)
class Turn:
    """What a request waits for: all of ``after`` were answered ``think_s`` ago; -1: it has a time.

    A first turn may wait for ``step`` of rollouts instead, or until ``ends`` sessions have ended,
    and then for ``think_s``.
    """

    after: int | tuple[int, ...] = -1
    think_s: float = 0.0
    step: int = 0
    ends: int = 0

    @property
    def answers(self) -> tuple[int, ...]:
        """Requests that it waits for."""
        if isinstance(self.after, tuple):
            return self.after
        return (self.after,) if self.after >= 0 else ()


@dataclass
class Rollouts:
    """Steps of rollouts, and what became of them."""

    last: list[int]  # of each session, the request that ends it
    sessions: int  # of each step
    most: int  # of these, after whose end the next one begins
    update_s: float
    keep_cache: bool
    begun_s: list[float] = field(default_factory=lambda: [0.0])
    stale: int = 0

    def begins(self, result: Result, now: float) -> bool:
        """Tell whether a further step begins."""
        step = len(self.begun_s) - 1
        own = self.last[step * self.sessions : (step + 1) * self.sessions]
        ended = sum(not math.isnan(result.finish_s[i]) for i in own)
        return ended >= self.most and (step + 1) * self.sessions < len(self.last)


@dataclass
class Failures:
    """Sessions that have failed, and when: a turn of theirs ended unserved."""

    session: Sequence[int]  # of each request
    failed_s: dict[int, float] = field(default_factory=dict)

    def ended_s(self, result: Result, i: int) -> float:
        """Return when the session that a request ends was over, NaN: not yet."""
        return self.failed_s.get(self.session[i], result.finish_s[i])

    def note(self, expired: list[int], now: float) -> bool:
        """Let the sessions of requests fail now; tell whether there were any."""
        for i in expired:
            self.failed_s.setdefault(self.session[i], now)
        has_failed = bool(expired)
        expired.clear()
        return has_failed


@dataclass
class Engine:
    """A replica whose steps are events, and what was sent to it and is not seen by a step yet."""

    replica: Replica
    end_s: float = math.inf  # of the step under way
    sent: list[tuple[float, Served]] = field(default_factory=list)
    resume_s: float = -math.inf  # when new weights are there
    keep_cache: bool | None = None  # None: it has them, or none are to come
    paused: bool = False  # with requests running
    version: int = 0  # of the weights
    expired: list[int] = field(default_factory=list)  # requests that it has just dropped

    def next_s(self) -> float:
        """Return when it does something next."""
        if self.end_s < math.inf or (not self.sent and not self.replica.waiting):
            return self.end_s
        come_s = [self.resume_s] if self.replica.waiting else [seen_s for seen_s, _ in self.sent]
        return max(self.resume_s, min(come_s))

    def start(self, now: float) -> None:
        """Begin a step if there is anything to compute, and the weights are there."""
        seen = now if self.paused else self.replica.sees_until(now)
        self.end_s, self.paused = math.inf, False
        self.take_weights()
        if now < self.resume_s:
            if self.replica.running:
                self.end_s, self.paused = self.resume_s, True
            return
        self.replica.waiting += [seq for queued_s, seq in self.sent if queued_s <= seen]
        self.sent = [(queued_s, seq) for queued_s, seq in self.sent if queued_s > seen]
        if self.replica.waiting or self.replica.holders():
            self.begin_step(now, seen)

    def begin_step(self, now: float, seen: float) -> None:
        """Let the replica begin a step with those who have come."""
        self.end_s = self.replica.begin_step(now, seen)

    def end_step(self) -> None:
        """End the step under way, if it is one and no pause."""
        if not self.paused:
            self.replica.end_step()

    def take_weights(self) -> None:
        """Have new weights if they have been announced; what runs is preempted with its cache."""
        if self.keep_cache is None:
            return
        self.version += 1
        if not self.keep_cache:
            self.forget()
        self.keep_cache = None

    def forget(self) -> None:
        """Preempt all that run, and have nothing cached."""
        spec = self.replica.spec
        while self.replica.running:
            self.replica.preempt(self.resume_s)
        assert len(self.replica.kv.free) == spec.kv_blocks
        self.replica.kv = KVBlocks(spec.kv_blocks, spec.block_size, spec.prefix_block_tokens)


def simulate_sessions(
    specs: Sequence[ReplicaSpec],
    costs: Sequence[CostTable],
    requests: Sequence[Request],
    turns: Sequence[Turn],
    assignment: Sequence[int],
    rollouts: Rollouts | None = None,
    last: Sequence[int] = (),
    make: Callable[[int, Result], Engine] | None = None,
    failures: Failures | None = None,
) -> tuple[Result, list[float]]:
    """Serve requests, those that wait for an answer too; returns also when each one arrived.

    Where turns wait for the ends of sessions, ``last`` is the request that ends each of these.
    ``make`` builds the engine of a number, if not a plain one; one below 0 refuses requests.
    """
    n = len(requests)
    failures = failures or Failures(range(n))
    result = Result([math.nan] * n, [math.nan] * n, [-1] * n, [0] * n, [], [])
    engines = [
        make(number, result) if make else Engine(Replica(spec, cost, result))
        for number, (spec, cost) in enumerate(zip(specs, costs, strict=True))
    ]
    first = [not t.answers and t.step == t.ends == 0 for t in turns]
    arrival_s = [r.arrival_s if f else math.nan for r, f in zip(requests, first, strict=True)]
    to_come = [(arrival_s[i], i) for i in range(n) if first[i]]
    known: set[int] = set()
    ended: set[int] = set()

    def reveal() -> None:
        """Let turns be known whose answers have just been given."""
        ends_s = sorted(s for s in (failures.ended_s(result, i) for i in last) if s == s)
        for i in range(n):
            turn = turns[i]
            from_s = [result.finish_s[after] for after in turn.answers[:1]]
            from_s += [failures.ended_s(result, after) for after in turn.answers[1:]]
            if turn.step and rollouts and turn.step < len(rollouts.begun_s):
                from_s = [rollouts.begun_s[turn.step]]
            if 0 < turn.ends <= len(ends_s):
                from_s = [ends_s[turn.ends - 1]]
            if from_s and i not in known and not any(map(math.isnan, from_s)):
                known.add(i)
                arrival_s[i] = max(from_s) + turn.think_s
                to_come.append((arrival_s[i], i))

    while to_come or any(engine.next_s() < math.inf for engine in engines):
        now = min([engine.next_s() for engine in engines] + [moment for moment, _ in to_come])
        for engine in engines:
            if engine.end_s == now:
                engine.end_step()
                if rollouts:
                    count_ended(rollouts, result, engine, ended)
                    if rollouts.begins(result, now):
                        for other in engines:
                            other.resume_s = now + rollouts.update_s
                            other.keep_cache = rollouts.keep_cache
                            if other.end_s == math.inf:
                                other.take_weights()
                        rollouts.begun_s.append(now + rollouts.update_s)
                engine.start(now)
                failures.note(engine.expired, now)
        reveal()
        while to_come and min(to_come)[0] == now:
            to_come.remove((now, i := min(to_come)[1]))
            if assignment[i] < 0:
                failures.note([i], now)
                reveal()
                continue
            engine = engines[assignment[i]]
            request = replace(requests[i], arrival_s=now)
            engine.sent.append((now + engine.replica.spec.frontend_s, Served(i, request)))
        for engine in engines:
            if engine.end_s == math.inf and engine.next_s() == now:
                engine.start(now)
                if failures.note(engine.expired, now):  # turns may come at this moment
                    break
        if failures.failed_s:
            reveal()
    result.steps = [engine.replica.steps for engine in engines]
    return result, arrival_s


def count_ended(rollouts: Rollouts, result: Result, engine: Engine, ended: set[int]) -> None:
    """Count sessions that ended under later weights than their step's."""
    for session, i in enumerate(rollouts.last):
        if i not in ended and not math.isnan(result.finish_s[i]):
            ended.add(i)
            rollouts.stale += engine.version > session // rollouts.sessions
