"""What a router may see, read slowly: from the naive reference's log and plain bookkeeping.

Nothing here looks at the engine's records. A :class:`Play` is one episode with what the router did;
an :class:`Observer` has the naive reference serve it and says what each observation should be.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

import numpy as np
import reference_serving
from reference_kv import Node, Request, Served
from reference_serving import simulate
from reference_steps import ReplicaSpec, Result, step_cost_s

from gpuyard.envs.observation import Column, Layout
from gpuyard.envs.perf import capability
from gpuyard.envs.perf.serving.cost_table import CostTable
from gpuyard.envs.scenario import Scenario
from gpuyard.envs.scenario.deployments import Replica
from gpuyard.envs.workload.requests.stream import RequestStream

LAYOUT = Layout({"route"})
MASK64 = (1 << 64) - 1


@dataclass(frozen=True)
class Decision:
    """The router was asked about ``request`` at ``time_s``, with ``held`` ones waiting."""

    time_s: float
    request: int
    held: tuple[int, ...]


@dataclass(frozen=True)
class Play:
    """One episode: its requests, decisions, and who was sent where when (in that order)."""

    stream: RequestStream
    estimate: np.ndarray
    decisions: list[Decision]
    sent: list[tuple[float, int, int]]  # (time_s, request, replica)


@dataclass(frozen=True)
class Snapshot:
    """One replica from ``time_s`` on; what reached it by ``since_s`` it has seen in its queue."""

    time_s: float
    since_s: float
    running: int
    waiting: int
    held_blocks: int
    queued_tokens: int
    context_tokens: int
    tokens_per_s: float
    cache: dict[int, Node]


NOTHING = Snapshot(-math.inf, -math.inf, 0, 0, 0, 0, 0, 0.0, {})


class Watched(reference_serving.Replica):
    """A replica of the reference that takes a snapshot whenever a step starts or ends."""

    made: list[Watched]

    def __init__(self, spec: ReplicaSpec, cost: CostTable, result: Result) -> None:
        super().__init__(spec, cost, result)
        self.log: list[Snapshot] = []
        Watched.made.append(self)

    def schedule(self, now: float) -> list[tuple[Served, int]]:
        plan = super().schedule(now)
        self.planned = {seq.index: new for seq, new in plan}
        self.note(now, self.seen_s, self.planned, 0.0)
        return plan

    def step(self, start: float, seen: float) -> float:
        self.seen_s = seen
        end = super().step(start, seen)
        rate = sum(self.planned.values()) / (end - start)
        began = self.log.pop()
        self.log.append(Snapshot(**{**vars(began), "tokens_per_s": rate}))
        self.note(end, seen, {}, 0.0)
        return end

    def note(self, now: float, since: float, planned: dict[int, int], rate: float) -> None:
        prompts = [seq for seq in self.running if seq.computed < seq.prefill_target]
        queued = sum(seq.tokens for seq in self.waiting)
        for seq in prompts:
            queued += seq.prefill_target - seq.computed - planned.get(seq.index, 0)
        context = sum(seq.computed for seq in self.running if seq not in prompts)
        held = self.spec.kv_blocks - len(self.kv.free)
        sizes = len(self.running), len(self.waiting), held, queued, context
        self.log.append(Snapshot(now, since, *sizes, rate, dict(self.kv.cache)))

    def at(self, time_s: float) -> Snapshot:
        """The state just before ``time_s``."""
        after = bisect.bisect_left(self.log, time_s, key=lambda snapshot: snapshot.time_s)
        return self.log[after - 1] if after else NOTHING


def squash(columns: tuple[Column, ...], row: dict[str, float]) -> list[float]:
    """Column values in order, from quantities in their own units."""
    assert set(row) == {column.name for column in columns}
    return [
        row[c.name] if c.scale is None else row[c.name] / (row[c.name] + c.scale) for c in columns
    ]


def common_prefix(ids: np.ndarray, known: object) -> int:
    """How many leading ids are in ``known``."""
    count = 0
    while count < len(ids) and ids[count] in known:  # type: ignore[operator]
        count += 1
    return count


def rendezvous(session: int, replicas: int) -> int:
    """The replica whose hash with the session is highest (splitmix64's finaliser, big integers)."""

    def weight(replica: int) -> int:
        seed = int(np.random.SeedSequence(replica).generate_state(1, np.uint64)[0])
        key = (seed + session) & MASK64
        key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 & MASK64
        key = (key ^ (key >> 27)) * 0x94D049BB133111EB & MASK64
        return key ^ (key >> 31)

    return max(range(replicas), key=weight)


def reference_spec(replica: Replica, unit: int) -> ReplicaSpec:
    """What the reference has to know of a scenario's replica."""
    d, model = replica.deployment, replica.deployment.model
    full = model.layers - model.window_layers
    windows = d.rules.windowed_kv and model.window_layers > 0
    return ReplicaSpec(
        d.max_num_seqs,
        d.max_num_batched_tokens,
        replica.kv_blocks,
        d.block_size,
        unit,
        whole_prompt=d.rules.whole_prompt,
        lag=d.rules.asynchronous,
        frontend_s=d.frontend_ms / 1000,
        window_groups=math.ceil(model.window_layers / full) if windows else 0,
        window_blocks=math.ceil(model.window / d.block_size) + 1 if windows else 0,
    )


class Observer:
    """Says what should have been observed in a :class:`Play` of ``scenario``."""

    def __init__(self, scenario: Scenario, tables: list[CostTable], play: Play) -> None:
        self.scenario, self.tables, self.play = scenario, tables, play
        stream = play.stream
        self.unit = stream.prefix_block_tokens
        self.specs = [reference_spec(replica, self.unit) for replica in scenario.replicas]
        requests = [
            Request(
                time_s,
                int(stream.prompt_tokens[i]),
                int(stream.output_tokens[i]),
                tuple(self.ids(i).tolist()),
            )
            for time_s, i, _ in play.sent
        ]
        Watched.made = []
        original, reference_serving.Replica = reference_serving.Replica, Watched
        try:
            result = simulate(self.specs, tables, requests, [r for _, _, r in play.sent])
        finally:
            reference_serving.Replica = original
        self.replicas = Watched.made
        nan = [math.nan] * len(stream)
        self.first_s, self.finish_s, self.cached = nan.copy(), nan.copy(), nan.copy()
        for order, (_, i, _) in enumerate(play.sent):
            self.first_s[i] = result.first_token_s[order]
            self.finish_s[i] = result.finish_s[order]
            self.cached[i] = result.cached_tokens[order]
        self.preemptions = sum(result.preemptions)

    def ids(self, request: int) -> np.ndarray:
        offsets = self.play.stream.prefix_offsets
        return self.play.stream.prefix_ids[offsets[request] : offsets[request + 1]]

    def prefill_s(self, replica: int, new: int, cached: int) -> float:
        """A prompt alone, one step per token budget."""
        budget = self.specs[replica].max_num_batched_tokens
        table = self.tables[replica]
        whole = step_cost_s(table, [], [(min(new, budget), cached)], 1)
        if new <= budget:
            return whole
        seconds, done = 0.0, 0
        while done < new:
            chunk = min(budget, new - done)
            seconds += step_cost_s(table, [], [(chunk, cached + done)], int(done + chunk == new))
            done += chunk
        return seconds

    def step_s(self, replica: int, sequences: int, context: int) -> float:
        decodes = [context] + [0] * (sequences - 1)
        return step_cost_s(self.tables[replica], decodes, [], sequences)

    def work_s(self, replica: int, request: int) -> float:
        """Prompt alone, then the estimated output at the batch that the replica usually has."""
        stream = self.play.stream
        able = capability(self.scenario.replicas[replica].deployment)
        prompt, output = float(stream.prompt_tokens.mean()), float(stream.output_tokens.mean())
        batch = able.max_batch(prompt, output)
        token_s = able.decode_s(batch, batch * (prompt + output / 2)) / batch
        prefill = self.prefill_s(replica, int(stream.prompt_tokens[request]), 0)
        return prefill + self.play.estimate[request] * token_s

    def report_s(self, time_s: float) -> float:
        interval = self.scenario.router.signal_interval_s
        return math.floor(time_s / interval) * interval if interval > 0 else time_s

    def before(self, time_s: float) -> list[tuple[float, int, int]]:
        return [sent for sent in self.play.sent if sent[0] < time_s]

    def finished(self, time_s: float) -> list[int]:
        return [i for _, i, _ in self.before(time_s) if self.finish_s[i] <= time_s]

    def cluster(self, at: Decision) -> list[float]:
        stream, slo = self.play.stream, self.scenario.slo
        arrived = max(at.request, *at.held, *(i for _, i, _ in self.before(at.time_s)), -1) + 1
        gap_s, prompt = 0.0, 0.0
        for i in range(arrived):
            prompt += (stream.prompt_tokens[i] - prompt) / min(i + 1, 32)
            if i:
                gap_s += (stream.arrival_s[i] - stream.arrival_s[i - 1] - gap_s) / min(i, 32)
        done = self.finished(at.time_s)
        met = 0
        for i in done:
            rest = int(stream.output_tokens[i]) - 1
            tpot_s = (self.finish_s[i] - self.first_s[i]) / rest if rest else 0.0
            ttft_s = self.first_s[i] - stream.arrival_s[i]
            met += ttft_s <= slo.ttft_s and tpot_s <= slo.tpot_s
        rate = 1 / gap_s if gap_s else 0.0
        row = {
            "kind_route": 1.0,
            "kind_place": 0.0,
            "kind_scale": 0.0,
            "progress": arrived / len(stream),
            "arrival_rate": rate,
            "prompt_rate": rate * prompt,
            "in_flight": len(self.before(at.time_s)) - len(done),
            "held": len(at.held),
            "slo_attainment": met / len(done) if done else 0.0,
            "prefix_hit_rate": sum(self.cached[i] for i in done)
            / max(1, sum(int(stream.prompt_tokens[i]) for i in done)),
            "report_age_s": at.time_s - self.report_s(at.time_s),
        }
        return squash(LAYOUT.columns("cluster"), row)

    def queue(self, at: Decision) -> list[list[float]]:
        stream, slo = self.play.stream, self.scenario.slo
        rows = []
        for i in (at.request, *at.held)[: self.scenario.observation.queue_rows]:
            row = {
                "is_request": 1.0,
                "is_gang": 0.0,
                "size": float(stream.prompt_tokens[i]),
                "estimate": float(self.play.estimate[i]),
                "age_s": at.time_s - float(stream.arrival_s[i]),
                "priority": float(stream.priority[i]),
                "ttft_slo_s": slo.ttft_s,
                "tpot_slo_s": slo.tpot_s,
            }
            rows.append(squash(LAYOUT.columns("queue"), row))
        empty = self.scenario.observation.queue_rows - len(rows)
        return rows + [[0.0] * len(LAYOUT.columns("queue"))] * empty

    def candidate(self, at: Decision, r: int) -> list[float]:
        stream, spec, replica = self.play.stream, self.specs[r], self.scenario.replicas[r]
        told_s = self.report_s(at.time_s)
        told, now = self.replicas[r].at(told_s), self.replicas[r].at(at.time_s)
        late = [
            i
            for s, i, to in self.play.sent
            if to == r and s < told_s and told.since_s < s + spec.frontend_s
        ]
        waiting = told.waiting + len(late)
        queued = told.queued_tokens + sum(int(stream.prompt_tokens[i]) for i in late)
        there = [i for _, i, to in self.before(at.time_s) if to == r]
        flying = [i for i in there if not self.finish_s[i] <= at.time_s]

        prompt = int(stream.prompt_tokens[at.request])
        ids = self.ids(at.request)
        seen = {i for i, node in told.cache.items() if now.cache.get(i) is node}
        units = min(common_prefix(ids, seen), (prompt - 1) // self.unit if self.unit else 0)
        hit = units * self.unit
        known = {i for request in there for i in self.ids(request).tolist()}
        sent = min(common_prefix(ids, known) * self.unit, prompt)

        sequences = min(told.running + waiting + 1, spec.max_num_seqs)
        step_s = self.step_s(r, sequences, told.context_tokens + queued + prompt)
        budget = spec.max_num_batched_tokens
        wait_s = spec.frontend_s + queued * self.tables[r].linear_s[budget] / budget
        if told.running:
            wait_s += step_s * (1.5 if spec.lag else 0.5)
        need = spec.blocks_for(prompt + int(self.play.estimate[at.request]))
        session = int(stream.session[at.request])
        same = [i for i in range(at.request) if session >= 0 and stream.session[i] == session]
        where = {i: to for _, i, to in self.before(at.time_s)}
        row = {
            "running": told.running,
            "waiting": waiting,
            "in_flight": len(flying),
            "in_flight_tokens": sum(
                int(stream.prompt_tokens[i]) + int(self.play.estimate[i]) for i in flying
            ),
            "queued_tokens": queued,
            "kv_usage": told.held_blocks / spec.kv_blocks,
            "kv_blocks": told.held_blocks,
            "kv_demand": min(1.0, (need - hit // spec.block_size) / spec.kv_blocks),
            "request_blocks": spec.blocks_for(prompt),
            "prefix_match": hit / prompt,
            "prefix_sent": sent / prompt,
            "session_last": float(bool(same) and where.get(same[-1]) == r),
            "session_home": float(session >= 0 and rendezvous(session, len(self.specs)) == r),
            "prefill_s": self.prefill_s(r, prompt - hit, hit),
            "wait_s": wait_s,
            "step_s": step_s,
            "work_s": sum(self.work_s(r, i) for i in flying),
            "capacity": replica.capacity / max(x.capacity for x in self.scenario.replicas),
            "load": min(1.0, len(flying) / spec.max_num_seqs),
            "price": replica.price_per_h,
            "is_hold": 0.0,
        }
        return squash(LAYOUT.columns("candidates"), row)

    def hold(self, at: Decision) -> list[float]:
        """The row of holding back: the quickest feasible replica's, ``hold_s`` later."""
        columns = LAYOUT.columns("candidates")
        names = [column.name for column in columns]
        fits = self.mask(at)[: len(self.specs)]
        rows = [self.candidate(at, r) for r, fit in enumerate(fits) if fit]

        def seconds(row: list[float], name: str) -> float:
            share, scale = row[names.index(name)], columns[names.index(name)].scale
            assert scale is not None
            return share * scale / (1 - share)

        best = min(rows, key=lambda row: seconds(row, "wait_s") + seconds(row, "prefill_s"))
        wait_s = seconds(best, "wait_s") + self.scenario.router.hold_s
        wait = columns[names.index("wait_s")]
        assert wait.scale is not None
        best = list(best)
        best[names.index("wait_s")] = wait_s / (wait_s + wait.scale)
        best[names.index("is_hold")] = 1.0
        return best

    def devices(self, at: Decision, r: int) -> tuple[float, float, float]:
        """Memory share and compute share of each device of replica ``r``, and its link's share."""
        replica, cost = self.scenario.replicas[r], self.tables[r].coefficients
        deployment = replica.deployment
        told = self.replicas[r].at(self.report_s(at.time_s))
        free_tokens = (replica.kv_blocks - told.held_blocks) * deployment.block_size
        free = free_tokens * deployment.model.kv_bytes_per_token(deployment.kv_dtype)
        free /= 1 + self.window_share(r)
        memory = deployment.gpu_memory_utilization
        memory -= free / (deployment.gpus * deployment.gpu.memory_bytes)
        load = told.tokens_per_s * cost["flop_per_token"] / cost["peak_flops"]
        link = 0.0
        if deployment.tp > 1:
            link = told.tokens_per_s * cost["comm_bytes_per_token"] / cost["comm_bytes_per_s"]
        return memory, min(load, 1.0), min(link, 1.0)

    def window_share(self, r: int) -> float:
        """Layers with a window per layer without one, where they are cached apart."""
        model = self.scenario.replicas[r].deployment.model
        full = model.layers - model.window_layers
        return model.window_layers / full if self.specs[r].window_groups else 0.0

    def mask(self, at: Decision) -> list[bool]:
        stream, router = self.play.stream, self.scenario.router
        tokens = int(stream.prompt_tokens[at.request]) + int(stream.max_tokens[at.request])
        fits = [spec.blocks_for(tokens) <= spec.kv_blocks for spec in self.specs]
        if router.hold_s > 0:
            waited_s = at.time_s - float(stream.arrival_s[at.request])
            fits.append(waited_s + router.hold_s <= router.hold_limit_s)
        return fits
