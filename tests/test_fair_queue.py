"""A replica's queue that serves clients evenly (VTC): exact, bounded, and against FCFS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_worlds import cost_table, engine_world, random_spec, random_stream, reference_requests
from reference_kv import Served
from reference_serving import Replica, Result
from test_engine_exact import same_events

from gpuyard.envs.engine.core.records import START, STEP, records
from gpuyard.envs.engine.serving.clients import CLIENT
from gpuyard.envs.world import World


class FairReplica(Replica):
    """A replica that admits by virtual token counters, algorithm 2 of the paper word for word."""

    def __init__(self, spec, cost, result: Result, clients, weights) -> None:
        super().__init__(spec, cost, result)
        self.clients, self.weights = clients, weights
        self.counter = [0.0] * len(weights)
        self.service = [0.0] * len(weights)
        self.in_line: list[Served] = []
        self.last: int | None = None
        self.log: list[tuple[float, list[float], list[bool]]] = []

    def client(self, seq: Served) -> int:
        return int(self.clients[seq.index])

    def charge(self, client: int, tokens: float) -> None:
        self.counter[client] += tokens / self.weights[client]
        self.service[client] += tokens

    def join_line(self) -> None:
        for seq in self.waiting:
            if seq in self.in_line:
                continue
            client, others = self.client(seq), {self.client(s) for s in self.in_line}
            if self.result.cached_tokens[seq.index] < 0 and client not in others:
                least = min((self.counter[c] for c in others), default=None)
                if least is None:
                    least = 0.0 if self.last is None else self.counter[self.last]
                self.counter[client] = max(self.counter[client], least)
            self.in_line.append(seq)

    def preempt(self, now: float) -> Served:
        seq = super().preempt(now)
        self.in_line.append(seq)
        return seq

    def schedule_waiting(self, now: float, budget: int) -> list[tuple[Served, int]]:
        plan: list[tuple[Served, int]] = []
        if len(self.running) < self.spec.max_num_seqs:
            self.join_line()
        while self.waiting and budget > 0 and len(self.running) < self.spec.max_num_seqs:
            seq = min(self.waiting, key=lambda seq: self.counter[self.client(seq)])
            is_first = self.result.cached_tokens[seq.index] < 0
            new = self.try_to_admit(now, seq, budget)
            if new == 0:
                break
            self.in_line.remove(seq)
            self.last = self.client(seq)
            if is_first:
                self.charge(self.last, seq.request.prompt_tokens)
            plan.append((seq, new))
            budget -= new
        return plan

    def sample(self, seq: Served, end_s: float) -> None:
        self.charge(self.client(seq), 2.0)
        super().sample(seq, end_s)

    def end_step(self) -> None:
        super().end_step()
        waits = {self.client(seq) for seq in self.in_line}
        backlogged = [client in waits for client in range(len(self.weights))]
        self.log.append((self.under_way.end_s, list(self.service), backlogged))

    def run(self, arrivals: list[Served]) -> None:
        now = 0.0
        while arrivals or self.waiting or self.running:
            if not self.running:
                now = max(now, self.start_s(arrivals))
            seen = self.sees_until(now)
            while arrivals and arrivals[0].request.arrival_s + self.spec.frontend_s <= seen:
                self.waiting.append(arrivals.pop(0))
            now = self.step(now, seen)


def reference(specs, tables, stream, assignment, weights) -> tuple[Result, list[FairReplica]]:
    requests, n = reference_requests(stream), len(stream)
    result = Result([np.nan] * n, [np.nan] * n, [-1] * n, [0] * n, [], [])
    replicas = []
    for r, (spec, table) in enumerate(zip(specs, tables, strict=True)):
        replica = FairReplica(spec, table, result, stream.client, weights)
        replica.run([Served(i, requests[i]) for i in range(n) if assignment[i] == r])
        result.steps.append(replica.steps)
        replicas.append(replica)
    result.events.sort(key=lambda event: event[0])
    return result, replicas


def client_records(weights):
    clients = records(len(weights), CLIENT)
    clients["weight"] = weights
    return clients


def served(specs, tables, stream, assignment, weights) -> World:
    world = engine_world(specs, tables, stream, clients=client_records(weights))
    outputs = world.outputs()
    world.run(np.array([START]), np.zeros(1, np.int64), outputs)
    for action in assignment:
        world.run(np.array([STEP]), np.array([action]), outputs)
    assert world.done[0]
    return world


@pytest.mark.parametrize("grid_s", [0.0, 0.2])
@pytest.mark.parametrize("prefill_first", [False, True])
@pytest.mark.parametrize("seed", range(500, 512))
def test_the_engine_is_the_reference(seed: int, prefill_first: bool, grid_s: float) -> None:
    rng = np.random.default_rng(seed)
    unit = int(rng.choice([0, 16, 32]))
    specs = []
    for _ in range(int(rng.integers(1, 3))):
        whole, lag, frontend = rng.random(3) < 0.5
        spec = random_spec(rng, unit, whole or prefill_first, lag, frontend)
        specs.append(replace(spec, policy="vtc", prefill_first=prefill_first))
    tables = [cost_table(rng, True, spec) for spec in specs]
    stream = random_stream(rng, int(rng.integers(20, 80)), unit)
    weights = rng.choice([0.5, 1.0, 2.0], int(rng.integers(1, 5)))
    stream = replace(stream, client=rng.integers(0, len(weights), len(stream)))
    if grid_s:
        stream = replace(stream, arrival_s=np.ceil(stream.arrival_s / grid_s) * grid_s)
    assignment = rng.integers(0, len(specs), len(stream))
    expected, replicas = reference(specs, tables, stream, assignment, weights)
    world = served(specs, tables, stream, assignment, weights)
    same_events(expected, world)
    counters = [replica.counter for replica in replicas]
    assert world.state["fair_counters"][0].tolist() == counters
