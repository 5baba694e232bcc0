"""Handovers of KV caches against published measurements.

    python benchmarks/accuracy_kv_transfer.py          # a table of errors
    python benchmarks/accuracy_kv_transfer.py --rows   # every row

The rows are in ``kv_transfers.csv`` (facts with source; ``fit`` marks those that set a constant).
Quantities: ``time_ms`` of a whole transfer of ``tokens``; ``post_ms`` of posting ``pieces``;
``gbps`` of ``links`` with large blocks; ``piece_gbps`` of one link with pieces of so many bytes.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pandas as pd
from replica_rows import report

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard.envs.hardware.catalogue import gpu, model  # noqa: E402
from gpuyard.envs.perf import Deployment  # noqa: E402
from gpuyard.envs.perf.serving.kv_transfer import KVTransfer, descriptors, kv_transfer  # noqa: E402


def rows() -> pd.DataFrame:
    """Return the rows with ``ours`` and ``error`` in %."""
    table = pd.read_csv(Path(__file__).parent / "kv_transfers.csv")
    table["ours"] = [_ours(row) for row in table.itertuples()]
    table["error"] = 100 * (table.ours / table.measured - 1)
    return table


def _ours(row) -> float:
    if row.quantity == "time_ms":
        replica = _replica(row, row.model, int(row.tp))
        return 1e3 * _moved(row, replica, int(row.tokens)).alone_s
    # any model does to read the constants of a link
    replica = _replica(row, "Qwen3-8B", 1)
    one = _moved(row, replica, 16)
    piece_s = one.post_s / descriptors(replica, 16)
    if row.quantity == "post_ms":  # the half of the start that is not the poll for the end
        return 1e3 * (one.start_s / 2 + row.pieces * piece_s)
    if row.quantity == "piece_gbps":
        return row.pieces / max(piece_s, row.pieces / one.link_bytes_per_s) / 1e9
    return row.links * one.link_bytes_per_s / 1e9


def _replica(row, name: str, tp: int) -> Deployment:
    device = gpu(row.gpu)
    if row.nic_gbps == row.nic_gbps:
        device = dataclasses.replace(device, nic_bytes_per_s=row.nic_gbps * 1e9)
    return Deployment(device, model(name), tp=tp)


def _moved(row, replica: Deployment, tokens: int) -> KVTransfer:
    return kv_transfer(replica, replica, tokens, row.connector, row.path == "domain")


if __name__ == "__main__":
    report(rows(), "quantity", ["row", "quantity", "measured", "ours", "error", "fit"])
