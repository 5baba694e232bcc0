"""How close KV transfers in FLUID come to FLOW, and what they cost gangs, by load of the NICs.

64 nodes of 8 GPUs with a NIC of 50 GB/s each under 8 leaf switches; four nodes prefill and four
decode, on leafs of their own. Transfers arrive at random, 0.05 to 5 GB, over the GPUs of a node
(TP8) or over one (TP1), each hashed anew; eight gangs of 2 to 16 nodes, half packed, run rings over
the others. Load is what is sent over what the prefill NICs could send. Both fidelities see the same
gangs, paths and transfers. Of gangs, seconds per iteration beside transfers over those without are
compared, each within its fidelity, so that what ``fluid_vs_flow.py`` measures stays out.

    python benchmarks/kv_transfer_load.py [--most 5000] [--seeds 1] [--loads 0.05,0.2,0.5,0.8]

Prints errors of FLUID in percent, mean over the cells and the worst one. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

from network_worlds import Kind, Net, Run  # noqa: E402
from once_worlds import TRANSFER, Trip  # noqa: E402

from gpuyard.envs.engine.core.records import records  # noqa: E402
from gpuyard.envs.engine.network.names import ECMP, FLOW, FLUID, SOURCE  # noqa: E402
from gpuyard.envs.perf.training.modes import CYCLIC  # noqa: E402

NIC = 50e9
NODES, GPUS = 64, 8
PREFILL, DECODE = (0, 1, 8, 9), (16, 17, 24, 25)
SIZES = (16, 12, 8, 8, 4, 4, 2, 2)  # nodes of the gangs
WARM_S = 1.0  # before transfers begin


class Cell(NamedTuple):
    """One case of the grid: uplinks 1:``over``, share of time in which gangs communicate."""

    over: int
    routing: int
    duty: float
    load: float
    tp: int


AXES = ((1, 2, 4), (ECMP, SOURCE), (0.0, 0.2, 0.5), (0.05, 0.2, 0.5), (8, 1))
GRID = tuple(itertools.starmap(Cell, itertools.product(*AXES)))


def net(cell: Cell, fidelity: int) -> Net:
    """Return the fabric: 64 uplinks of each leaf or fewer, a spine for each."""
    uplinks = 64 // cell.over
    return Net(
        *(8, 8, GPUS),
        uplinks=uplinks,
        spines=uplinks,
        nic=NIC,
        scale_up=8 * NIC,
        uplink=NIC,
        routing=cell.routing,
        fidelity=fidelity,
    )


def gangs(cell: Cell, rng: np.random.Generator, seed: int) -> tuple[list[Kind], list[list[int]]]:
    """Return what the gangs do, so that they communicate ``duty`` of the time alone, and where."""
    free = np.array([node for node in range(NODES) if node not in PREFILL + DECODE])
    free = free[np.argsort(free // 8 + rng.uniform(0, 3, len(free)))]
    sizes = rng.permutation(SIZES)
    ends = np.cumsum(sizes)
    nodes = [np.sort(free[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    gpus = [[int(node) * GPUS + slot for node in some for slot in range(GPUS)] for some in nodes]
    iterations_s = rng.uniform(0.1, 0.4, len(sizes))
    if cell.duty == 0:
        return [], []
    kinds = [Kind(size * GPUS, 0.0, ((int(size), GPUS, 1, CYCLIC, 1.0),)) for size in sizes]
    alone = Run(net(cell, FLUID), kinds, len(kinds), seed)
    made = []
    for j, (kind, iteration_s) in enumerate(zip(kinds, iterations_s, strict=True)):
        alone.set_job(j, j, 1.0)
        alone.enter(j, gpus[j], 0.0)
        size_bytes = cell.duty * iteration_s / alone.jobs["alone_s"][j]
        phase = (*kind.phases[0][:4], size_bytes)
        made.append(Kind(kind.gpus, iteration_s * (1 - cell.duty), (phase,)))
    return made, gpus


def transfers(cell: Cell, rng: np.random.Generator, most: int, until_s: float) -> NDArray[np.void]:
    """Return ``most`` transfers, or those of ``until_s`` seconds if these are fewer."""
    sizes = np.clip(np.exp(rng.normal(np.log(0.6), 0.9, most)), 0.05, 5.0) * 1e9
    rate_per_s = cell.load * len(PREFILL) * GPUS * NIC / sizes.mean()
    found = records(min(most, int(rate_per_s * until_s)), TRANSFER)
    count = len(found)
    found["start_s"] = WARM_S + np.cumsum(rng.exponential(1 / rate_per_s, count))
    found["bytes"], found["gpus"] = sizes[:count], cell.tp
    for name, nodes in (("source", PREFILL), ("target", DECODE)):
        slots = 0 if cell.tp == GPUS else rng.integers(GPUS, size=count)
        found[name] = rng.choice(nodes, count) * GPUS + slots
    return found


class Found(NamedTuple):
    """What one cell gave: times of transfers, seconds per iteration, by fidelity; CPU seconds."""

    times_s: dict[int, NDArray[np.float64]]
    slower: dict[int, NDArray[np.float64]]
    cpu_us: dict[int, float]

    def errors(self) -> dict[str, float]:
        """Return the errors of FLUID, as shares."""
        fluid, flow = self.times_s[FLUID], self.times_s[FLOW]
        gangs = self.slower[FLUID] / self.slower[FLOW] - 1
        return {
            "mean": fluid.mean() / flow.mean() - 1,
            "p95": np.percentile(fluid, 95) / np.percentile(flow, 95) - 1,
            "gangs": gangs.mean() if len(gangs) else 0.0,
            "one gang": max(gangs, key=abs) if len(gangs) else 0.0,
        }


def run(cell: Cell, seed: int, most: int = 5000, until_s: float = 20.0) -> Found:
    """Run one cell in both fidelities."""
    found = Found({}, {}, {})
    for fidelity in (FLUID, FLOW):
        rng = np.random.default_rng(seed)
        kinds, gpus = gangs(cell, rng, seed)
        starts_s = sorted(rng.uniform(0.0, 0.5, len(kinds)))
        sent = transfers(cell, rng, most, until_s)
        end_s = sent["start_s"][-1]
        seconds = []
        for some in (sent, sent[:1]):
            trip = Trip(net(cell, fidelity), kinds, gpus, starts_s, some, NIC, seed)
            began = time.process_time()
            times_s, iteration_s = trip.go(WARM_S, end_s)
            seconds.append((iteration_s, times_s, time.process_time() - began))
        found.times_s[fidelity] = seconds[0][1]
        found.slower[fidelity] = seconds[0][0] / seconds[1][0]
        found.cpu_us[fidelity] = seconds[0][2] / len(sent) * 1e6
    return found


def table(rows: dict[str, list[tuple[Cell, dict[str, float]]]], loads: list[float]) -> None:
    """Print the mean and the worst error of each number by duty and load."""
    for number, found in rows.items():
        print(f"\nerror of {number}, %: mean (worst)")
        for duty in (0.0, 0.2, 0.5):
            row = []
            for load in loads:
                some = [errors[number] for cell, errors in found if cell[2:4] == (duty, load)]
                row.append(f"{100 * np.mean(some):+6.1f} ({100 * max(some, key=abs):+6.1f})")
            print(f"gangs communicate {duty:4.0%} " + "  ".join(row), flush=True)


def main() -> None:
    """Run the grid and print its errors."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--most", type=int, default=5000, help="transfers in a cell")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--loads", default="0.05,0.2,0.5,0.8")
    options = parser.parse_args()
    loads = [float(load) for load in options.loads.split(",")]
    cells = dict.fromkeys(cell._replace(load=load) for cell in GRID for load in loads)
    found, cpu = [], []
    for cell in cells:
        for seed in range(options.seeds):
            one = run(cell, seed, options.most)
            found.append((cell, one.errors()))
            cpu.append((cell.load, cell.tp, one.cpu_us[FLUID], one.cpu_us[FLOW]))
    numbers = list(found[0][1])
    table({number: found for number in numbers}, loads)
    print("\nCPU us per transfer, gangs included: fluid, flow (TP8; TP1), medians")
    for load in loads:
        cells_us = [
            np.median([row[2:] for row in cpu if row[:2] == (load, tp)], axis=0) for tp in (8, 1)
        ]
        print(f"load {load:4.0%}  " + ";  ".join(f"{a:6.1f} {b:6.1f}" for a, b in cells_us))
    low = [errors for cell, errors in found if cell.load <= 0.5]
    summary = {
        number: {
            "mean": round(float(np.mean([abs(errors[number]) for errors in low])), 4),
            "worst": round(float(max(abs(errors[number]) for errors in low)), 4),
        }
        for number in numbers
    }
    print(json.dumps({"up to load 0.5": summary}))


if __name__ == "__main__":
    main()
