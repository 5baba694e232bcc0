"""A batch of worlds in which requests are routed to serving replicas."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..engine.core.records import records
from ..engine.serving.arrays import ServingWorld, Static
from ..engine.serving.records import CONFIG, SPEC
from ..perf import capability, tabulate
from ..perf.serving.cost_table import COST
from ..rendering import replicas as rendering
from ..scenario import Scenario


def build_static(scenario: Scenario) -> Static:
    """Turn a scenario into the records and tables that the engine reads."""
    kinds = list(dict.fromkeys(replica.deployment for replica in scenario.replicas))
    tables = [tabulate(kind) for kind in kinds]
    costs = records(len(kinds), COST)
    linear_s = np.zeros((len(kinds), max(len(table.linear_s) for table in tables)))
    head_s = np.zeros((len(kinds), max(len(table.head_s) for table in tables)))
    for row, table in enumerate(tables):
        costs[row] = table.coefficients
        linear_s[row, : len(table.linear_s)] = table.linear_s
        head_s[row, : len(table.head_s)] = table.head_s
    config = records(1, CONFIG)
    values = {
        "ttft_slo_s": scenario.slo.ttft_s,
        "tpot_slo_s": scenario.slo.tpot_s,
        "signal_interval_s": scenario.router.signal_interval_s,
        "hold_s": scenario.router.hold_s,
        "hold_limit_s": scenario.router.hold_limit_s,
    }
    values |= {f"w_{term}": weight for term, weight in scenario.reward["route"].items()}
    for name, value in values.items():
        config[name] = value
    return Static(_specs(scenario, kinds), costs, linear_s, head_s, config)


def _specs(scenario: Scenario, kinds: list) -> NDArray[np.void]:
    """Return one SPEC record per replica."""
    assert scenario.workload is not None
    prompt, output = scenario.workload.mean_lengths()
    fastest = max(replica.capacity for replica in scenario.replicas)
    unit = scenario.workload.prefix_block_tokens
    specs = records(len(scenario.replicas), SPEC)
    device = 0
    for row, replica in enumerate(scenario.replicas):
        deployment = replica.deployment
        able = capability(deployment)
        batch = able.max_batch(prompt, output)
        memory = deployment.gpu.memory_bytes * deployment.gpus
        kv_bytes = deployment.model.kv_bytes_per_token(deployment.kv_dtype)
        kv_share = replica.kv_blocks * deployment.block_size * kv_bytes / memory
        kv_share = min(kv_share, deployment.gpu_memory_utilization)
        specs[row] = (
            deployment.max_num_seqs,
            deployment.max_num_batched_tokens,
            deployment.block_size,
            replica.kv_blocks,
            unit,
            unit // deployment.block_size,
            kinds.index(deployment),
            device,
            deployment.gpus,
            deployment.gpu_memory_utilization - kv_share,
            kv_share,
            replica.capacity / fastest,
            able.decode_s(batch, batch * (prompt + output / 2)) / batch,
            replica.price_per_h,
            np.random.SeedSequence(row).generate_state(1, np.uint64)[0],
        )
        device += deployment.gpus
    return specs


class ServingBatch(Batch):
    """Worlds in which requests are routed.

    Args:
        scenario: what to simulate.
        num_envs: how many.
    """

    scenario: Scenario
    world: ServingWorld

    def __init__(self, scenario: Scenario, num_envs: int) -> None:
        assert scenario.workload is not None
        self.scenario, self.workload = scenario, scenario.workload
        num_ids, num_nodes = self.workload.room
        self.world = ServingWorld(
            build_static(scenario),
            num_envs,
            self.workload.num_requests,
            num_ids,
            num_nodes,
            scenario.observation.queue_rows,
            hold=scenario.router.hold_s > 0,
        )
        self.compile()

    def load(self, e: int, rng: np.random.Generator) -> None:
        """Draw the next episode of environment ``e``."""
        stream = self.workload.sample(rng)
        self.world.load(e, stream, self.scenario.estimate_tokens(rng, stream.output_tokens))

    def results(self, e: int) -> dict[str, dict[str, NDArray]]:
        """Return the per-request table of environment ``e``'s episode; times NaN if not reached.

        Columns, all of shape (N,): `arrival_s`, `first_token_s`, `finish_s`, `prompt_tokens`,
        `output_tokens`, `replica` (-1: none), `cached_tokens`, `preemptions`, `priority`,
        `session`.
        """
        rows = self.world.requests[e][: int(self.world.envs["num_requests"][e])]
        table = {
            name: np.array(rows[name])
            for name in (
                "arrival_s",
                "first_token_s",
                "finish_s",
                "prompt_tokens",
                "output_tokens",
                "replica",
                "cached_tokens",
                "preemptions",
                "priority",
                "session",
            )
        }
        table["cached_tokens"] = np.maximum(table["cached_tokens"], 0)
        return {"requests": table}

    def render(self, e: int, mode: str) -> Any:
        """Return environment ``e`` as text ("ansi") or as a uint8 image ("rgb_array")."""
        picture = rendering.Picture.of(self.scenario, self.world, e)
        return rendering.as_text(picture) if mode == "ansi" else rendering.as_image(picture)
