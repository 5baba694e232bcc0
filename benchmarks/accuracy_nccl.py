"""Collectives against nccl-tests as printed by others: one node, two nodes, rings, odd networks.

    python benchmarks/accuracy_nccl.py             # errors by group and by series
    python benchmarks/accuracy_nccl.py --fit       # refits the constants of internode.py
    python benchmarks/accuracy_nccl.py --held-out  # the same without each series

Needs ``perf/public/nccl_tests.csv`` of ../shared/data (or of the folder that GPUYARD_DATA names).
Only 400G rings and two nodes with NVSwitch set constants; networks of other kinds are too few or
too odd to be fitted. A series is one source, operation, GPU, number of ranks and algorithm.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard.envs.hardware.catalogue import gpu, gpu_names  # noqa: E402
from gpuyard.envs.perf.network import internode  # noqa: E402

TABLE = "perf/public/nccl_tests.csv"
GROUPS = ("one node", "two nodes, switches", "400G rings", "all-to-all", "racks", "odd networks")
STAND_IN = {"H800": "H800-SXM"}
SERIES = ["source", "op", "gpu", "ranks", "algo"]
FITS = {
    "400G rings": ("START_S", "FILL_S", "FILL_BYTES"),
    "two nodes, switches": ("SWITCH_S", "SWITCH_BYTES"),
}
"""Constants of internode.py that a group sets."""


def run(data: Path) -> dict[str, dict[str, float]]:
    """Print the tables; return errors in % by group."""
    table = rows(data)
    table["error"] = 100 * (predicted_s(table) / table.measured_s - 1)
    print("nccl-tests of others, error in %")
    print(_summary(table, ["group"]).round(1).to_string(index=False), "\n")
    print(_summary(table, ["group", "gpu", "op", "nodes", "ranks", "network"]).round(1).to_string())
    found = _summary(table, ["group"]).set_index("group")
    return {str(name): dict(row) for name, row in found.iterrows()}


def rows(data: Path) -> pd.DataFrame:
    """Return the measured rows with their group."""
    table = pd.read_csv(data / TABLE)
    table["gpu"] = table.gpu.replace(STAND_IN)
    table = table[table.gpu.isin(gpu_names())].reset_index(drop=True)
    table["algo"] = table.algo.fillna("")
    table["group"] = [_group(row) for row in table.itertuples()]
    table["measured_s"] = table.time_us * 1e-6
    return table.sort_values("group", key=lambda g: g.map(GROUPS.index), kind="stable")


def predicted_s(table: pd.DataFrame) -> np.ndarray:
    """Return the model's seconds of every row."""
    return np.array([_predicted_s(row) for row in table.itertuples()])


def fitted(table: pd.DataFrame, group: str, without: tuple | None = None) -> dict[str, float]:
    """Return a group's constants refitted: least squares of log ratios, outliers damped.

    Args:
        table: the measured rows.
        group: key of FITS.
        without: a series to leave out.
    """
    from scipy.optimize import least_squares

    part = table[table.group == group]
    if without is not None:
        part = part[~_is(part, without)]
    names = FITS[group]
    start = np.array([getattr(internode, name) for name in names])

    def residuals(share: np.ndarray) -> np.ndarray:
        with _changed(dict(zip(names, start * share, strict=True))):
            return np.log(predicted_s(part) / part.measured_s.to_numpy())

    best = least_squares(
        residuals, np.ones(len(start)), bounds=(0.1, 10), loss="soft_l1", f_scale=0.1
    )
    return dict(zip(names, start * best.x, strict=True))


def held_out(table: pd.DataFrame, group: str) -> pd.DataFrame:
    """Return errors in % of each series of a group with the constants refitted without it."""
    part, found = table[table.group == group].copy(), []
    for series in part[SERIES].drop_duplicates().itertuples(index=False, name=None):
        with _changed(fitted(table, group, series)):
            left = part[_is(part, series)].copy()
            left["error"] = 100 * (predicted_s(left) / left.measured_s - 1)
            found.append(left)
    return pd.concat(found)


def _group(row) -> str:
    """Return the kind of a row; which networks are odd follows from their name."""
    if row.nodes == 1:
        return "one node"
    if any(name in row.network for name in ("EFA", "TCPX", "HDR", "Pollara")):
        return "odd networks"
    if row.op == "all_to_all":
        return "all-to-all"
    two = row.nodes == 2 and row.op == "all_reduce" and internode.switch_reduces(gpu(row.gpu))
    if two and not row.algo.lower().startswith("ring"):
        return "two nodes, switches"
    return "racks" if row.gpus_per_node > 8 else "400G rings"


def _predicted_s(row) -> float:
    """Return seconds; a row whose algorithm was forced to rings is charged as rings."""
    efficiency = internode.ROCE if "RoCE" in row.network else internode.INFINIBAND
    network = internode.Network(row.nic_gbit_per_s * 1e9 / 8, row.gpus_per_node, efficiency)
    where = internode.Group(row.ranks // row.nodes, row.nodes)
    forced = row.nodes > 1 and row.algo.lower().startswith("ring")
    if forced:
        return internode.ring_s(row.op, row.size_bytes, where, network)
    return internode.collective_s(row.op, row.size_bytes, where, gpu(row.gpu), network)


def _is(table: pd.DataFrame, series: tuple) -> pd.Series:
    return (table[SERIES] == list(series)).all(axis=1)


def _changed(constants: dict[str, float]):
    return mock.patch.multiple(internode, **constants)


def _summary(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return points, median, 90th percentile, worst and bias of |error|."""
    size = table.error.abs().groupby([table[name] for name in by], sort=False)
    found = size.agg(points="size", median="median", p90=lambda e: e.quantile(0.9), worst="max")
    found["bias"] = table.groupby(by, sort=False).error.mean()
    return found.reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true", help="refit the constants")
    parser.add_argument("--held-out", action="store_true", help="refit without each series")
    args = parser.parse_args()
    data = Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data"))
    if not (data / TABLE).is_file():
        sys.exit(f"no measured table {data / TABLE}: set GPUYARD_DATA to the folder above perf/")
    if args.fit:
        for group, names in FITS.items():
            found = fitted(rows(data), group)
            print(group, *(f"{name} = {found[name]:.3g}" for name in names), sep="\n  ")
    elif args.held_out:
        left = pd.concat([held_out(rows(data), group) for group in FITS])
        print(_summary(left, ["group"]).round(1).to_string(index=False), "\n")
        print(_summary(left, ["group", *SERIES]).round(1).to_string(index=False))
    else:
        run(data)


if __name__ == "__main__":
    main()
