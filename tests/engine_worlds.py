"""Random small worlds for the compiled engine, and the same worlds for the naive reference."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from reference_kv import Request
from reference_speculation import Drafting
from reference_steps import ReplicaSpec

from gpuyard.envs.engine.core.records import START, STEP, fill_in, records, records_of
from gpuyard.envs.engine.serving.arrays import ServingStatic, load
from gpuyard.envs.engine.serving.records import OBJECTIVE, REPLICA_SPEC, SERVING_RULES
from gpuyard.envs.parts.serving import OUTSIDE, PLAIN, serving_part
from gpuyard.envs.perf.serving.cost_table import COST, CostTable
from gpuyard.envs.perf.serving.scheduling import BATCHING, POLICIES, RESERVATIONS
from gpuyard.envs.workload.requests.stream import RequestStream
from gpuyard.envs.world import World

WINDOWED = {  # Llama-3-8B, but every other layer looks back 64 tokens only
    **{"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "ffn": 14336},
    **{"vocab": 128256, "window": 64, "window_layers": 16},
}


def cost_table(rng: np.random.Generator, affine: bool, spec: ReplicaSpec) -> CostTable:
    """A made-up replica of plausible speed; ``affine`` drops what bends with the context."""
    cost = np.zeros((), COST)
    cost["dec_fixed_s"] = rng.uniform(1e-4, 1e-3)
    cost["dec_seq_s"] = rng.uniform(0, 1e-5)
    cost["dec_token_s"] = rng.uniform(1e-8, 2e-7)
    cost["dec_row_s"] = rng.uniform(0, 1e-6)
    cost["dec_again_s"] = 0.6 * cost["dec_token_s"]
    cost["pre_fixed_s"] = rng.uniform(0, 1e-3)
    cost["pre_flop_s"] = rng.uniform(1e-10, 2e-9)
    cost["pre_pad"] = rng.uniform(0, 300)
    cost["pre_tile_s"] = rng.uniform(0, 1e-6)
    cost["pre_query_s"] = rng.uniform(0, 1e-7)
    cost["pre_cache_s"] = rng.uniform(0, 1e-8)
    if rng.random() < 0.5:
        cost["mix_seq_s"] = rng.uniform(0, 1e-5)
        cost["mix_cell_s"] = rng.uniform(0, 1e-8)
        cost["mix_token_s"] = rng.uniform(1e-8, 2e-7)
    cost["flop_per_token"] = 1e10
    cost["peak_flops"] = 1e15
    if rng.random() < 0.5:
        cost["mix_seq_s"] = rng.uniform(0, 1e-4)
        cost["mix_cell_s"] = rng.uniform(0, 1e-6)
        cost["mix_token_s"] = rng.uniform(1e-8, 4e-7)
    if rng.random() < 0.5:  # slower than the GPU at first, or always, or never
        cost["host_s"] = rng.uniform(2e-3, 2e-2)
        cost["host_seq_s"] = rng.uniform(0, 1e-4)
    if not affine:
        cost["dec_log_s"] = rng.uniform(0, 1e-3)
        cost["dec_flop_s"] = rng.uniform(0, 2e-7)
    tokens = np.arange(spec.max_num_batched_tokens + 1)
    linear = rng.uniform(2e-3, 1e-2) + tokens * rng.uniform(1e-6, 3e-5)
    linear[0] = 0.0
    width = spec.drafting.length + 1 if spec.drafting else 1
    head = np.arange(spec.max_num_seqs * width + 1) * rng.uniform(0, 1e-5)
    if affine and spec.kv_blocks % 3 == 0:  # chunks are spread over ranks
        cost["other_shards"] = 1 + spec.kv_blocks % 2
        cost["pre_alone_s"] = 1e-6 * (spec.kv_blocks % 11)
    return CostTable(cost[()], linear, head)


def random_spec(
    rng: np.random.Generator,
    unit: int,
    whole_prompt: bool = False,
    lag: bool = False,
    frontend: bool = False,
    windows: bool = False,
    state: bool = False,
) -> ReplicaSpec:
    """A small replica that holds at least one request of 600 tokens, with these features."""
    max_num_seqs = int(rng.integers(1, 12))
    spec = ReplicaSpec(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=int(rng.integers(max_num_seqs + 1, 400)),
        kv_blocks=int(rng.integers(45, 150)),
        block_size=16,
        prefix_block_tokens=0 if state else unit,
        whole_prompt=whole_prompt,
        lag=lag,
        frontend_s=rng.uniform(0, 0.05) if frontend else 0.0,
        window_groups=int(rng.integers(1, 4)) if windows else 0,
        window_blocks=int(rng.integers(1, 12)) if windows else 0,
        state_blocks=int(rng.integers(1, 9)) if state else 0,
    )
    extra = spec.blocks_for(600) - math.ceil(600 / 16)
    return replace(spec, kv_blocks=spec.kv_blocks + extra * int(rng.integers(1, 4)))


def drafting_spec(
    rng: np.random.Generator, spec: ReplicaSpec, by_model: float = 0.7
) -> ReplicaSpec:
    """Let a replica draft, perhaps by a model, perhaps only while few sequences decode."""
    length = int(rng.integers(1, 7))
    low = rng.uniform(0.1, 0.9)
    drafting = Drafting(
        length=length,
        most=int(rng.integers(1, spec.max_num_seqs + 1)),
        lookahead=length * int(rng.integers(1, 3)),
        low=low,
        high=low if rng.random() < 0.5 else rng.uniform(low, 0.95),
        step_s=rng.uniform(0, 2e-3),
        sequence_s=rng.uniform(0, 1e-4),
        table=cost_table(rng, True, spec) if rng.random() < by_model else None,
    )
    tokens = max(spec.max_num_batched_tokens, spec.max_num_seqs * (length + 1) + 1)
    return replace(spec, drafting=drafting, max_num_batched_tokens=tokens)


def random_stream(rng: np.random.Generator, n: int, unit: int) -> RequestStream:
    """Requests whose prompts may share prefixes, some with ids that reach into the output."""
    prompt = rng.integers(1, 400, n)
    output = rng.integers(1, 200, n)
    rate = rng.uniform(2, 60)
    arrival = np.cumsum(rng.exponential(1 / rate, n))
    ids: list[int] = []
    offsets = [0]
    known: dict[tuple, int] = {}
    families = int(rng.integers(1, 5))
    for i in range(n):
        units = 0
        if unit:
            reach = prompt[i] + (output[i] if rng.random() < 0.3 else 0)
            units = int(reach // unit)
        family = int(rng.integers(families))
        shared = int(rng.integers(0, 12))
        for j in range(units):
            key = (family, j) if j < shared else (family, shared, i, j)
            ids.append(known.setdefault(key, len(known)))
        offsets.append(len(ids))
    return RequestStream(
        arrival_s=arrival,
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=output.astype(np.int32),
        max_tokens=np.minimum(output + rng.integers(0, 40, n), 600 - prompt).astype(np.int32),
        session=np.full(n, -1, np.int32),
        prefix_offsets=np.array(offsets, np.int64),
        prefix_ids=np.array(ids, np.int32),
        prefix_block_tokens=unit,
        priority=np.zeros(n, np.float32),
    )


def reference_requests(stream: RequestStream) -> list[Request]:
    return [
        Request(
            float(stream.arrival_s[i]),
            int(stream.prompt_tokens[i]),
            int(stream.output_tokens[i]),
            tuple(int(x) for x in stream.prefix_ids[begin : begin + count]),
            int(stream.max_tokens[i]),
            float(stream.priority[i]),
        )
        for i, (begin, count) in enumerate(
            zip(stream.prefix_begin, np.diff(stream.prefix_offsets), strict=True)
        )
    ]


def drafting_words(specs: list[ReplicaSpec], r: int) -> dict[str, float]:
    """Return how a replica drafts in the words of REPLICA_SPEC; tables of drafts follow all."""
    how = specs[r].drafting
    if how is None:
        return PLAIN
    drafts = [k for k, spec in enumerate(specs) if spec.drafting and spec.drafting.table]
    return {
        "draft_length": how.length,
        "most_drafting": how.most,
        "lookahead": how.lookahead,
        "draft_rows": len(specs) + drafts.index(r) - r if how.table else 0,
        "draft_s": how.step_s,
        "draft_sequence_s": how.sequence_s,
        "accept_low": how.low,
        "accept_high": how.high,
        "mean_accepted": 1.0,
    }


def engine_world(
    specs: list[ReplicaSpec],
    tables: list[CostTable],
    stream: RequestStream,
    seed: int = 0,
    ranks: int = 1,
    tiers: tuple = (),
    deadline_s: float = 0.0,
    may_reject: bool = False,
    lora: tuple = (),
    clients: NDArray[np.void] | None = None,
    encoders: tuple = (),
    encode_pool: tuple = (),
    migration: NDArray | None = None,
) -> World:
    """Return a world of replicas, of which ``ranks`` side by side step together.

    ``tiers``: TIER_SPEC and REPLICA_TIERS; ``lora``: LORA_RULES and the places of each replica;
    ``clients``: CLIENT, who sends the requests.
    ``encoders``: ENCODER_SPEC and IMAGE_COST; ``encode_pool``: ENCODE_POOL and IMAGE_COST.
    ``migration``: MIGRATION_RULES.
    """
    spec_records = records(len(specs), REPLICA_SPEC)
    for r, spec in enumerate(specs):
        unit = spec.prefix_block_tokens
        fill_in(
            spec_records[r : r + 1],
            max_num_seqs=spec.max_num_seqs,
            max_num_batched_tokens=spec.max_num_batched_tokens,
            block_size=spec.block_size,
            kv_blocks=spec.kv_blocks,
            window_groups=spec.window_groups,
            window_blocks=spec.window_blocks,
            state_blocks=spec.state_blocks,
            unit_tokens=unit,
            unit_blocks=unit // spec.block_size,
            whole_prompt=spec.whole_prompt,
            lag=spec.lag,
            frontend_s=spec.frontend_s,
            batching=BATCHING.index(spec.batching),
            batch_wait_s=spec.batch_wait_s,
            chunked=spec.chunked,
            most_chunk=spec.threshold or spec.max_num_batched_tokens,
            prefill_first=spec.prefill_first,
            policy=POLICIES.index(spec.policy),
            reserves=RESERVATIONS.index(spec.reserves),
            kind=r,
            first_device=r,
            num_devices=1,
            weight_share=0.2,
            kv_share=0.7,
            capacity=1.0,
            token_s=1e-3,
            price_per_h=2.0,
            ring_key=r + 1,
            **OUTSIDE,
            step_ranks=ranks,
            step_rank=r % ranks,
            **drafting_words(specs, r),
        )
    tables = tables + [s.drafting.table for s in specs if s.drafting and s.drafting.table]
    linear = np.zeros((len(tables), max(len(t.linear_s) for t in tables)))
    head = np.zeros((len(tables), max(len(t.head_s) for t in tables)))
    for r, table in enumerate(tables):
        linear[r, : len(table.linear_s)] = table.linear_s
        head[r, : len(table.head_s)] = table.head_s
    costs = records(len(tables), COST)
    costs[:] = [t.coefficients for t in tables]
    rules = records(1, SERVING_RULES)
    rules["w_waiting"], rules["deadline_s"] = 1.0, deadline_s
    rules["may_reject"], rules["gated"] = may_reject, deadline_s > 0 or may_reject
    objectives = records_of(OBJECTIVE, ttft_s=1.0, tpot_s=0.05)
    static = ServingStatic(spec_records, costs, linear, head, rules, objectives, *tiers)
    max_loras = 0
    if lora:
        static, max_loras = replace(static, lora_rules=lora[0]), lora[1]
    if clients is not None:
        static = replace(static, clients=clients)
    if encoders:
        static = replace(static, encoder_specs=encoders[0], image_costs=encoders[1])
    if encode_pool:
        static = replace(static, encode_pool=encode_pool[0], image_costs=encode_pool[1])
    if migration is not None:
        static = replace(static, migration_rules=migration)
    nodes = int(stream.prefix_ids.max(initial=0)) + 1
    sessions = 0 if stream.think_s is None else len(np.unique(stream.session))
    part = serving_part(
        *(static, 1, len(stream), len(stream.prefix_ids), nodes, 4),
        more_rows=int(may_reject),
        max_loras=max_loras,
        options=() if clients is None else ("clients",),
        classes=() if clients is None else ("all",),
        num_sessions=sessions,
        in_steps=stream.steps is not None,
    )
    world = World([part], 1)
    load(part.state, static, 0, stream, stream.output_tokens, seed)
    world.begin(0)
    return world


def cached_here(world: World, r: int) -> NDArray[np.int64]:
    """Return the entries of the prefix units that are cached on replica ``r``."""
    entries = world.state["prefix_entries"][0][: world.state["router"]["entries"][0]]
    return np.flatnonzero((entries["node"] >= 0) & (entries["replica"] == r))


def send_all(world: World, assignment: Iterable[int]) -> None:
    """Play an episode in which each request goes to the replica that stands for it."""
    outputs = world.outputs()
    world.run(np.array([START]), np.zeros(1, np.int64), outputs)
    for action in assignment:
        world.run(np.array([STEP]), np.array([action]), outputs)
    assert world.done[0]
