"""What the machines of a scenario should run, as plain text: ``gpuyard deploy``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from gpuyard.envs.perf import tabulate
from gpuyard.envs.perf.serving.deploy import (
    DEGREES,
    Chosen,
    Configuration,
    Demand,
    Machine,
    best,
    configurations,
    tokens_per_s,
    uniform,
)
from gpuyard.envs.perf.serving.phases import Pool, best_split
from gpuyard.envs.scenario.provenance import DECIDING
from gpuyard.evaluation.tables import text


def report(machines: Sequence[Machine], demand: Demand) -> str:
    """Return every configuration of every kind of machine, and what clusters of them serve."""
    rows = [["machine", "tp", "instances", "batch", "TPOT ms", "tokens/s"]]
    notes: list[str] = []
    guessed: set[str] = set()
    for count, machine in _alike(machines):
        found, refused = configurations(machine, demand)
        name = _name(count, machine)
        for configuration in found:
            rows.append([name, *_cells(configuration)])
            name = ""
            guessed |= _guessed(configuration)
        label = _name(count, machine)
        notes += [f"{label}, tp {p}: {why.split(';')[0]}" for p, why in refused.items()]
    if guessed:
        notes.append(f"by analogy with other GPUs, expect 30 % error: {', '.join(sorted(guessed))}")
    parts = [_asked(demand), text(rows), "\n".join(notes), text(list(_clusters(machines, demand)))]
    return "\n\n".join(part for part in parts if part)


def phases_report(machines: Sequence[Machine], demand: Demand) -> str:
    """Return the instances that should prefill and those that should decode on each machine.

    Raises:
        ValueError: one phase runs nowhere.
    """
    split = best_split(machines, demand)
    rows = [["machine", "prefill", "decode", "prefill req/s", "decode req/s"]]
    for machine, (prefill, decode) in zip(machines, split.pools, strict=True):
        cells = [_pool(prefill), _pool(decode), _rate(prefill), _rate(decode)]
        rows.append([_name(1, machine), *cells])
    prefills, decodes = split.ratio
    served = split.requests_per_s
    ends = (
        f"{prefills} prefill to {decodes} decode instances: {served:.2f} requests/s, "
        f"{served * demand.output_tokens:,.0f} output tokens/s"
    )
    return "\n\n".join((_asked(demand), text(rows), ends))


def _asked(demand: Demand) -> str:
    """Say what is served, and within which limits."""
    words = [
        f"{demand.prompt_tokens:,.0f} prompt and {demand.output_tokens:,.0f} output tokens a "
        f"request, {demand.longest_tokens:,} at most"
    ]
    for name, limit_s in (("prefill", demand.ttft_s), ("TPOT", demand.tpot_s)):
        if math.isfinite(limit_s):
            words.append(f"{name} up to {1e3 * limit_s:g} ms")
    return "; ".join(words)


def _clusters(machines: Sequence[Machine], demand: Demand) -> Iterator[list[str]]:
    """Yield rows that set the best of each machine against one degree on all of them."""
    chosen = best(machines, demand)
    total = tokens_per_s(chosen)
    yield ["cluster", "idle GPUs", "tokens/s", "search gains"]
    yield ["best of each machine", _idle(machines, chosen), f"{total:,.0f}", ""]
    for tp in DEGREES:
        same = uniform(machines, tp, demand)
        rate = tokens_per_s(same)
        gain = f"{100 * (total / rate - 1):+.1f} %" if rate else ""
        yield [f"tp {tp} everywhere", _idle(machines, same), f"{rate:,.0f}", gain]


def _idle(machines: Sequence[Machine], chosen: Chosen) -> str:
    pairs = zip(machines, chosen, strict=True)
    return str(sum(machine.gpus for machine, found in pairs if found is None))


def _alike(machines: Sequence[Machine]) -> Iterator[tuple[int, Machine]]:
    """Yield neighbours that are equal once, with their number."""
    for machine, group in groupby(machines):
        yield len(list(group)), machine


def _name(count: int, machine: Machine) -> str:
    name = f"{machine.gpus} x {machine.deployment.gpu.name}"
    return f"{count} of {name}" if count > 1 else name


def _cells(configuration: Configuration) -> list[str]:
    return [
        str(configuration.deployment.tp),
        str(configuration.instances),
        str(configuration.batch),
        f"{1e3 * configuration.tpot_s:.1f}",
        f"{configuration.tokens_per_s:,.0f}",
    ]


def _guessed(configuration: Configuration) -> set[str]:
    """Return the GPU's name if an analogy decides its speed."""
    sources = tabulate(configuration.deployment).sources
    return {s.gpu for s in sources if s.confidence == "analogy" and s.kernel in DECIDING}


def _pool(pool: Pool | None) -> str:
    return f"{pool.instances} x tp {pool.deployment.tp}, batch {pool.batch}" if pool else "-"


def _rate(pool: Pool | None) -> str:
    return f"{pool.requests_per_s:.2f}" if pool else "-"
