"""Requests and the replicas that serve them: from a scenario to records, and back to results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.core import units
from ..engine.core.compile import is_warm
from ..engine.core.records import fill_in, records, records_of
from ..engine.serving import arrays
from ..engine.serving.adapters import LORA_RULES
from ..engine.serving.arrays import ServingStatic
from ..engine.serving.records import (
    AGGREGATED,
    DRAINING,
    OBJECTIVE,
    QUEUED,
    REPLICA_SPEC,
    SERVING,
    SERVING_RULES,
    STARTING,
    WHOLE,
)
from ..hardware.cluster import LEVELS
from ..perf import capability, tabulate
from ..perf.serving.cost_table import COST, CostTable
from ..perf.serving.deployment import Deployment
from ..perf.serving.drafting import draft_table, host_draft_s
from ..perf.serving.kv_groups import kv_groups
from ..perf.serving.own_ranks import of_one_rank
from ..perf.serving.speculation import mean_accepted_length
from ..rendering import replicas as rendering
from ..scenario import Scenario
from ..scenario.lora import draw_adapters, of_sessions
from ..scenario.services import KINDS
from ..scene import REPLICA_SCENE, REQUEST_PHASES, REQUEST_SCENE
from .clients import build_clients, table_of_clients
from .images import build_images
from .migration import migration_rules
from .part import Part, Sizes, Table
from .scheduling import scheduling
from .tiers import build_tiers

COLUMNS = (
    *("arrival_s", "first_token_s", "finish_s", "prompt_tokens", "output_tokens", "replica"),
    *("cached_tokens", "preemptions", "priority", "session", "service"),
)
"""Of the table of requests."""

DRAWN = {SERVING: "", QUEUED: "waits for GPUs", STARTING: "starts", DRAINING: "drains"}
"""Phases in which a replica is drawn, and what is said of it."""


NOT_YET = -1
AT_ROUTER, IN_QUEUE, IN_PREFILL, IN_TRANSFER, IN_DECODE, DONE = range(len(REQUEST_PHASES))


class Serving:
    """Requests and replicas of ``num_envs`` worlds."""

    def __init__(self, scenario: Scenario, num_envs: int) -> None:
        assert scenario.workload is not None
        self.scenario, self.workload = scenario, scenario.workload
        self.static = build_static(scenario)
        num_ids, num_nodes = self.workload.room
        self.part = serving_part(
            self.static,
            num_envs,
            self.workload.num_requests,
            num_ids,
            num_nodes,
            scenario.observation.queue_rows,
            more_rows=int(scenario.router.hold_s > 0) + int(scenario.router.may_reject),
            options=scenario.options,
            max_loras=scenario.lora.max_loras if scenario.lora.adapters else 0,
            num_sessions=self.workload.num_sessions,
            classes=tuple(group.name for group in scenario.clients.classes),
            in_steps=self.workload.num_steps > 1,
        )

    def load(self, e: int, rng: np.random.Generator) -> None:
        """Draw the requests of the next episode of environment ``e``."""
        stream = self.workload.sample(rng)
        estimate = self.scenario.estimate_tokens(rng, stream.output_tokens)
        stream = self.scenario.clients.sending(stream, rng)
        seed = 0
        if self.static.replica_specs["draft_length"].any():  # otherwise nothing is drawn
            seed = int(rng.integers(2**64 - 1, dtype=np.uint64, endpoint=True))
        arrays.load(self.part.state, self.static, e, stream, estimate, seed)
        rules = self.scenario.router
        if rules.signal_interval_max_s > 0:
            drawn_s = rng.uniform(rules.signal_interval_s, rules.signal_interval_max_s)
            self.part.state["router"]["signal_interval_s"][e] = drawn_s
        if self.scenario.lora.adapters:
            named = draw_adapters(rng, self.scenario.lora, len(stream))
            if stream.think_s is not None:
                named = of_sessions(named, stream.session)
            self.part.state["requests"]["adapter"][e, : len(stream)] = named

    def is_warm(self) -> bool:
        """Tell whether what draws requests is compiled."""
        return all(is_warm(function) for function in self.workload.compiled)

    def warm_up(self) -> None:
        """Draw a few requests, which compiles what draws them or loads it."""
        self.workload.rehearse()

    def results(self, e: int) -> dict[str, Table]:
        """Return the table of requests of environment ``e``'s episode; times NaN if not reached.

        Columns, all of shape (N,): `arrival_s`, `first_token_s`, `finish_s`, `prompt_tokens`,
        `output_tokens`, `replica` (-1: none), `cached_tokens`, `preemptions`, `priority`,
        `session`, `service` (number of the deployment, 0 where there are none). With KV tiers also
        `fetched_tokens`, which came from there; with images `image` (-1: none) and
        `encoded_tokens`, the visual tokens encoded for the request; with encode replicas
        `encoded_s` and `here_s`, when its image was encoded and when its embeddings came (NaN: it
        brought none, or was not sent); where requests may end unserved `outcome` (0: served or
        under way, 1: refused, 2: expired, 3: a turn never asked, as its session had failed); where
        there are clients `client` and `class`, their numbers, and a table `clients`, (C,): `class`,
        `arrived`, `finished`, `slo_met`, `rejected`, `expired` and `service`, tokens of finished
        requests, those of outputs twice.
        """
        state = self.part.state
        rows = state["requests"][e][: int(state["router"]["num_requests"][e])]
        table = {name: np.array(rows[name]) for name in COLUMNS}
        table["cached_tokens"] = np.maximum(table["cached_tokens"], 0)
        if len(self.static.tier_specs):
            table["fetched_tokens"] = np.array(rows["fetched_tokens"])
        if self.scenario.lora.adapters:
            table["adapter"] = np.array(rows["adapter"])
        if "request_images" in state:
            images = state["request_images"][e][: len(rows)]
            table["image"] = np.array(images["image"])
            table["encoded_tokens"] = np.array(images["encoded"])
        if "encodings" in state:
            for name in ("encoded_s", "here_s"):
                table[name] = np.array(state["encodings"][name][e][: len(rows)])
        if "gate" in self.scenario.options:
            table["outcome"] = np.array(rows["outcome"])
        if not self.scenario.clients.classes:
            return {"requests": table}
        table["client"] = np.array(rows["client"])
        table["class"] = np.array(rows["objective"])
        found = table_of_clients(self.static.clients, state["client_states"][e])
        return {"requests": table, "clients": found}

    def scene(self, e: int, first_request: int) -> dict[str, Any]:
        """Return what may be seen of requests and replicas of environment ``e``."""
        state, specs = self.part.state, self.static.replica_specs
        replicas = np.zeros(len(specs), REPLICA_SCENE)
        rows = state["replicas"][e]
        replicas["phase"], replicas["ready_s"] = rows["phase"], rows["ready_s"]
        replicas["kv_share"] = 1.0 - rows["free_blocks"] / specs["kv_blocks"]
        replicas["link_load"] = rows["report_link_load"]
        router = state["router"][e]
        last = int(router["num_requests"] if router["answers"] else router["arrived"])
        requests = _seen(state["requests"][e][first_request:last])
        if router["answers"]:  # those that have not arrived stand among the others
            come = np.isfinite(state["requests"][e]["arrival_s"])
            come[int(router["begun"]) : int(router["openers"])] = False
            come[state["due_requests"][e][: int(router["due"])]] = False
            requests["phase"][~come[first_request:last]] = NOT_YET
        return {
            "replicas": replicas,
            "requests": requests,
            "first_request": first_request,
            "deciding": int(router["deciding"]),
        }

    def render(self, e: int, now_s: float, mode: str) -> Any:
        """Return environment ``e`` as text ("ansi") or as a uint8 image ("rgb_array")."""
        state = self.part.state
        picture = rendering.Picture.of(
            self.scenario, now_s, state["router"][e], state["replicas"][e], DRAWN
        )
        return rendering.as_text(picture) if mode == "ansi" else rendering.as_image(picture)


def _seen(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Return REQUEST_SCENE records of requests that have arrived."""
    seen = np.zeros(len(rows), REQUEST_SCENE)
    for name in ("replica", "source", "arrival_s", "first_token_s", "finish_s"):
        seen[name] = rows[name]
    moved = rows["source"] >= 0
    seen["landed_s"] = np.where(moved, rows["arrive_s"], np.nan)
    begun = moved | np.isfinite(rows["first_token_s"])  # and still is, unless it was preempted
    here = np.where(rows["blocks"] == 0, IN_QUEUE, np.where(begun, IN_DECODE, IN_PREFILL))
    here = np.where(rows["replica"] < 0, AT_ROUTER, here)
    here = np.where(rows["stage"] != WHOLE, IN_TRANSFER, here)
    is_over = np.isfinite(rows["finish_s"]) | (rows["outcome"] > 0)
    seen["phase"] = np.where(is_over, DONE, here)
    return seen


def serving_part(
    static: ServingStatic,
    num_envs: int,
    num_requests: int,
    num_ids: int,
    num_nodes: int,
    queue_rows: int,
    more_rows: int = 0,
    options: tuple[str, ...] = (),
    max_loras: int = 0,
    num_sessions: int = 0,
    classes: tuple[str, ...] = (),
    in_steps: bool = False,
) -> Part:
    """Return the arrays of requests and replicas.

    Args:
        static: what all environments share.
        num_envs: E.
        num_requests: N, room for requests per episode.
        num_ids: M, room for the prefix ids of an episode's requests.
        num_nodes: H, room for distinct prefix ids.
        queue_rows: Q, rows of the observed queue.
        more_rows: candidates behind the replicas: to hold the request back, to refuse it.
        options: further blocks of columns.
        max_loras: places for adapters on each replica.
        num_sessions: S, room for sessions that answer back, 0: none do.
        classes: names of classes of clients.
        in_steps: whether they do so in several steps of rollouts.
    """
    specs, may_move = static.replica_specs, len(static.migration_rules) > 0
    outside = specs["role"] < 0  # the devices and links of the others are the cluster's
    return Part(
        kind="route",
        more_kinds=("migrate",) * may_move,
        units=units.OF_SERVING + units.OF_MIGRATION * may_move,
        sizes=Sizes(
            candidates=len(specs) + max(more_rows, int(may_move)),
            queue=queue_rows,
            devices=int(specs["num_devices"].sum()),
            links=int(outside.sum()),
        ),
        state=arrays.allocate(
            static, num_envs, num_requests, num_ids, num_nodes, max_loras, num_sessions
        ),
        shared=dict(vars(static)),
        options=options,
        closed_loop=num_sessions > 0,
        classes=classes,
        in_steps=in_steps,
    )


def build_static(scenario: Scenario) -> ServingStatic:
    """Turn a scenario into the records and tables that the engine reads."""
    rows, first_kinds = cost_rows(scenario)
    tables = [table for _, table in rows]
    costs = records(len(tables), COST)
    linear_s = np.zeros((len(tables), max(len(table.linear_s) for table in tables)))
    head_s = np.zeros((len(tables), max(len(table.head_s) for table in tables)))
    for row, table in enumerate(tables):
        costs[row] = table.coefficients
        linear_s[row, : len(table.linear_s)] = table.linear_s
        head_s[row, : len(table.head_s)] = table.head_s
    rules, objectives = _rules(scenario), _objectives(scenario)
    specs, tiers = _specs(scenario, first_kinds), build_tiers(scenario)
    lora = records(int(scenario.lora.adapters > 0), LORA_RULES)
    lora["load_s"] = scenario.lora.load_ms * 1e-3
    found = specs, costs, linear_s, head_s, rules, objectives, *tiers, lora
    static = ServingStatic(*found, build_clients(scenario.clients))
    static = replace(static, migration_rules=migration_rules(scenario))
    return replace(static, **build_images(scenario))


def cost_rows(scenario: Scenario) -> tuple[list[tuple[Deployment, CostTable]], list[int]]:
    """Return the rows of the cost tables, whose each is, and the first row of each replica.

    A replica whose gang may lie on more nodes than it must has further rows behind that one; the
    rows of a model that drafts for it follow, as many.
    """
    rows: list[tuple[Deployment, CostTable]] = []
    begin: dict[tuple[Deployment, ...], int] = {}
    first_kinds = []
    for row in range(len(scenario.replicas)):
        ways = _ways(scenario, row)
        if ways not in begin:
            begin[ways] = len(rows)
            tables = [(way, tabulate(way)) for way in ways]
            tables += [(way, table) for way in ways if (table := draft_table(way))]
            rows += [(way, of_one_rank(table, way.own_ranks)) for way, table in tables]
        first_kinds.append(begin[ways])
    return rows, first_kinds


def _ways(scenario: Scenario, row: int) -> tuple[Deployment, ...]:
    """Return how a replica may lie on nodes, on as few as can be first."""
    deployment = scenario.replicas[row].deployment
    if scenario.services and scenario.services[scenario.slots[row].service].required > NODE:
        return deployment.spreads
    return (deployment,)


NODE = LEVELS.index("node")


def _rules(scenario: Scenario) -> NDArray[np.void]:
    weights = {f"w_{term}": weight for term, weight in scenario.reward["route"].items()}
    gated = "gate" in scenario.options
    return records_of(SERVING_RULES, **vars(scenario.router), gated=gated, **weights)


def _objectives(scenario: Scenario) -> NDArray[np.void]:
    """Return one OBJECTIVE record per service, or one where there are none."""
    found = records(len(scenario.objectives), OBJECTIVE)
    for row, slo in enumerate(scenario.objectives):
        fill_in(found[row : row + 1], **vars(slo))
    return found


def _specs(scenario: Scenario, first_kinds: list[int]) -> NDArray[np.void]:
    """Return one REPLICA_SPEC record per replica."""
    fastest = max(replica.capacity for replica in scenario.replicas)
    specs = records(len(scenario.replicas), REPLICA_SPEC)
    device = 0
    for row, replica in enumerate(scenario.replicas):
        deployment, workload = replica.deployment, scenario.workload_of(row)
        ranks = deployment.own_ranks
        prompt, output = workload.mean_lengths()
        unit = workload.prefix_block_tokens
        able = capability(deployment)
        batch = able.max_batch(prompt, output)
        place = _place(scenario, row)
        groups = kv_groups(deployment)
        unit *= groups.reuses_prefix and deployment.prefix_caching
        fill_in(
            specs[row : row + 1],
            max_num_seqs=deployment.max_num_seqs // ranks,
            max_num_batched_tokens=deployment.max_num_batched_tokens // ranks,
            block_size=deployment.block_size,
            kv_blocks=replica.kv_blocks,
            window_groups=groups.window_groups,
            window_blocks=groups.window_blocks,
            state_blocks=groups.state_blocks,
            unit_tokens=unit,
            unit_blocks=unit // deployment.block_size,
            lag=deployment.rules.asynchronous,
            frontend_s=deployment.frontend_ms * 1e-3,
            kind=first_kinds[row],
            first_device=device,
            num_devices=replica.gpus if place["role"] < 0 else 0,
            weight_share=replica.weight_share,
            kv_share=replica.kv_share,
            capacity=replica.capacity / fastest,
            token_s=ranks * able.decode_s(batch, batch * (prompt + output / 2)) / batch,
            price_per_h=replica.price_per_h,
            ring_key=np.random.SeedSequence(row).generate_state(1, np.uint64)[0],
            **scheduling(deployment),
            **place,
            **_speculation(scenario, row),
            step_ranks=ranks,
            step_rank=replica.rank,
        )
        device += replica.gpus
    return specs


PLAIN: dict[str, float] = {
    **{"draft_length": 0, "most_drafting": 0, "lookahead": 0, "draft_rows": 0, "draft_s": 0.0},
    **{"draft_sequence_s": 0.0, "accept_low": 0.0, "accept_high": 0.0, "mean_accepted": 1.0},
}
"""A replica that does not speculate, in the words of REPLICA_SPEC."""


def _speculation(scenario: Scenario, row: int) -> dict[str, float]:
    """Return how a replica speculates."""
    deployment = scenario.replicas[row].deployment
    how = deployment.speculation
    if how is None:
        return PLAIN
    host_s, host_sequence_s = host_draft_s(deployment)
    ranks = deployment.own_ranks
    low, high = how.acceptance
    return {
        "draft_length": how.draft_length,
        "most_drafting": (how.most_sequences or deployment.max_num_seqs) // ranks,
        "lookahead": how.lookahead,
        "draft_rows": len(_ways(scenario, row)) if draft_table(deployment) else 0,
        "draft_s": host_s,
        "draft_sequence_s": host_sequence_s * ranks,
        "accept_low": low,
        "accept_high": high,
        "mean_accepted": mean_accepted_length(how),
    }


OUTSIDE: dict[str, float] = {
    **{"service": 0, "role": -1, "gang": -1, "rank": 0, "gpus": 0, "startup_s": 0.0},
    **{"is_base": 0, "base_rank": 0, "node_gpus": 0, "does": AGGREGATED, "local_tokens": 0},
}
"""Where a replica stands that is on no cluster, in the words of REPLICA_SPEC."""


def _place(scenario: Scenario, row: int) -> dict[str, float]:
    """Return where a replica stands: outside any cluster, or in which gang of which service."""
    if not scenario.services:
        return OUTSIDE
    slot = scenario.slots[row]
    roles = [role for service in scenario.services for role in service.roles]
    role = roles[slot.role]
    return {
        "does": KINDS.index(role.kind),
        "local_tokens": role.handover.local_tokens if role.handover else 0,
        "service": slot.service,
        "role": slot.role,
        "gang": slot.gang,
        "rank": slot.rank,
        "is_base": slot.is_base,
        "base_rank": slot.base_rank,
        "gpus": scenario.replicas[row].deployment.gpus,
        "node_gpus": scenario.replicas[row].deployment.network.gpus_per_node,
        "startup_s": role.startup_s,
    }
