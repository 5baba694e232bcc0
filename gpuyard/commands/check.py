"""``gpuyard check``: whether scenarios can be played, and what they are made of."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.add_argument("scenarios", nargs="+", metavar="FILE", help="files, or names")


def run(options: argparse.Namespace) -> int:
    """Check all of them, whatever is wrong with the first; return the exit status."""
    from gpuyard.envs.scenario import load

    wrong = 0
    for name in options.scenarios:
        try:
            scenario = load(name)
        except (ValueError, OSError) as error:
            wrong += 1
            print(f"gpuyard check: error: {error}", file=sys.stderr)
            continue
        print(f"{name}: sound")
        for line in parts(scenario):
            print(f"  {line}")
    return 2 if wrong else 0


def parts(scenario: Scenario) -> Iterator[str]:
    """Yield lines on what a scenario is made of, and on what in it nobody measured."""
    from gpuyard.envs.scenario.provenance import provenance
    from gpuyard.ids import id_for

    yield f"decisions: {', '.join(sorted(scenario.decisions))} ({id_for(scenario)})"
    if scenario.cluster is not None:
        pools = ", ".join(
            f"{pool.nodes} x {pool.gpus_per_node} {pool.gpu.name}"
            for pool in scenario.cluster.pools
        )
        yield f"cluster: {pools}"
    fleet = Counter(
        f"{replica.deployment.model.name} on {replica.deployment.gpus} "
        f"{replica.deployment.gpu.name}, {replica.kv_blocks * replica.deployment.block_size:,} "
        "tokens of KV cache"
        for replica in scenario.replicas
    )
    for replica, count in fleet.items():
        yield f"replicas: {'at most ' if scenario.services else ''}{count} x {replica}"
    if scenario.workload is not None:
        yield f"requests: {scenario.workload.num_requests:,} an episode"
    if scenario.jobs is not None:
        yield f"jobs: {scenario.jobs.num_jobs:,} an episode"
    facts = provenance(scenario)
    trust = Counter(fact.confidence for fact in facts)
    yield f"constants: {', '.join(f'{count} {how}' for how, count in trust.most_common())}"
    for fact in facts:
        if fact.confidence == "analogy":
            yield f"  by analogy, expect 30 % error: {fact.subject} {fact.what}, as {fact.of}"
