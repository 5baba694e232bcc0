"""A replica's queue that serves clients evenly (VTC): exact, bounded, and against FCFS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_worlds import (
    cost_table,
    engine_world,
    random_spec,
    random_stream,
    reference_requests,
    send_all,
)
from reference_engine import Replica
from reference_kv import Served
from reference_steps import Result
from test_engine_exact import same_events

from gpuyard.envs.engine.core.records import records
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
        self.log: list[tuple[list[float], list[bool]]] = []
        self.most_tokens = 0  # in a batch

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
            seq = self.waiting[0]
            if self.spec.policy == "vtc":
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
        self.log.append((list(self.service), backlogged))
        self.most_tokens = max(self.most_tokens, sum(seq.tokens for seq in self.running))


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
    send_all(world, assignment)
    return world


@pytest.mark.parametrize("grid_s", [0.0, 0.2])
@pytest.mark.parametrize("prefill_first", [False, True])
@pytest.mark.parametrize("seed", range(500, 508))
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


def differences(log, one: int, other: int):
    """Give the difference of service of two clients while both have requests in line."""
    run: list[float] = []
    for service, waits in [*log, ([], [False] * 3)]:
        if waits[one] and waits[other]:
            run.append(service[one] - service[other])
        elif run:
            yield np.array(run)
            run = []


def gap_over_bound(seed: int, policy: str) -> float:
    """Return the greatest difference of service of clients who wait, over the paper's bound.

    Theorem 4.4: 2 max(w_p L, w_q M), L the longest prompt, M the most tokens in a batch.
    """
    rng = np.random.default_rng(seed)
    spec = replace(random_spec(rng, 0), policy=policy, kv_blocks=1000)  # nobody is preempted
    stream = random_stream(rng, 80, 0)
    clients = rng.choice(3, 80, p=[0.7, 0.2, 0.1])
    stream = replace(stream, client=clients, arrival_s=stream.arrival_s / 50)
    table = cost_table(rng, True, spec)
    result, (replica,) = reference([spec], [table], stream, np.zeros(80, int), [1.0] * 3)
    assert not any(result.preemptions)
    tokens = stream.prompt_tokens + 2 * stream.output_tokens
    assert replica.log[-1][0] == np.bincount(clients, weights=tokens, minlength=3).tolist()
    pairs = ((0, 1), (0, 2), (1, 2))
    found = [d for pair in pairs for d in differences(replica.log, *pair)]
    assert sum(map(len, found)) > 50
    gap = max(difference.max() - difference.min() for difference in found)
    return gap / (2 * max(stream.prompt_tokens.max(), 2 * replica.most_tokens))


@pytest.mark.parametrize("seed", range(8))
def test_service_of_clients_that_wait_differs_by_no_more_than_the_bound(seed: int) -> None:
    assert gap_over_bound(seed, "vtc") <= 1.0


def test_first_come_first_served_knows_no_bound() -> None:
    assert gap_over_bound(1, "fcfs") > 1.5
