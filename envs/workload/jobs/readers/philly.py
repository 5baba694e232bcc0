"""Microsoft Philly (2017), as the Sia artifact lists it: submit_time, duration_s, num_gpus, vc.

Source: msr-fiddle/philly-traces (Jeon et al., ATC 2019, CC-BY-4.0); the list is that of
siasosp23/artifacts. Stamps are wall clock without a zone, rows not in order, no final state. A
filtered subset, heavily tilted to one GPU (94.6 %): not a source of the mix of sizes.
"""

from __future__ import annotations

from pathlib import Path

from ...trace_file import read_csv
from ..build import build, counts, seconds, stamps
from ..stream import JobStream

_SUBMIT, _DURATION, _GPUS, _TENANT = _COLUMNS = ("submit_time", "duration_s", "num_gpus", "vc")


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return names >= set(_COLUMNS)


def read(path: Path) -> JobStream:
    """Read a Philly list; tenants are the virtual clusters."""
    table = read_csv(path)
    return build(
        table,
        stamps(table, _SUBMIT),
        counts(table, _GPUS),
        seconds(table, _DURATION),
        tenant=table.column(_TENANT),
    )
