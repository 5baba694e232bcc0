"""Every accuracy anchor of the cost models and engines, against measured data.

    python benchmarks/accuracy.py            # tables, then every kind of error before and after
    python benchmarks/accuracy.py --accept   # the errors of now become those to compare with

Needs the measured tables (``../shared/data`` beside the checkout, or the folder that GPUYARD_DATA
names). Prints one table per anchor, errors of |predicted/measured - 1| in %: median and 90th
percentile, for training runs median and worst. Ends with each kind of error against
``accuracy_errors.json``, and with status 1 if one has grown by more than MARGIN; CI holds the same.
``docs/accuracy.md`` and ``docs/accuracy_training.md`` discuss them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import accuracy_nccl  # noqa: E402
import accuracy_operators  # noqa: E402
import accuracy_public  # noqa: E402
import accuracy_serving  # noqa: E402
import accuracy_training  # noqa: E402

ERRORS = Path(__file__).parent / "accuracy_errors.json"
MARGIN = 0.3
"""Points by which an error may grow; twice that for 90th percentiles and worst cases."""


def measure(data: Path) -> dict[str, float]:
    """Print every table and return the errors by kind, in %."""
    errors = accuracy_operators.run(data) | accuracy_serving.run(data) | accuracy_public.run(data)
    print()
    for group, found in accuracy_training.run(data).items():
        for key in ("median", "worst"):
            errors[f"training_{group}_{key}_pct"] = round(found[key], 2)
    for group, found in accuracy_nccl.run(data).items():
        name = group.replace(",", "").replace(" ", "_").replace("-", "_").lower()
        for key in ("median", "p90"):
            errors[f"nccl_tests_{name}_{key}_pct"] = round(found[key], 2)
    return errors


def grown(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Return the kinds whose error has grown by more than the margin, or that are gone."""
    return [
        kind
        for kind, error in before.items()
        if kind not in after or abs(after[kind]) > abs(error) + _margin(kind)
    ]


def _margin(kind: str) -> float:
    return MARGIN * (2 if kind.endswith(("p90_pct", "worst_pct")) else 1)


def comparison(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Return a line for each kind: before -> after, and what has grown too far."""
    worse = grown(before, after)
    lines = []
    for kind in dict.fromkeys([*before, *after]):
        old, new = (f"{x[kind]:8.2f}" if kind in x else "       -" for x in (before, after))
        lines.append(f"{kind:44s} {old} -> {new}{'  GROWN' if kind in worse else ''}")
    return "\n".join(lines)


def accepted() -> dict[str, float]:
    """Return the errors that were accepted last."""
    found: dict[str, float] = json.loads(ERRORS.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--accept", action="store_true", help="compare with these from now on")
    options = parser.parse_args()
    data = Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        sys.exit(f"no measured data at {data}: set GPUYARD_DATA to its folder")
    errors = measure(data)
    before = accepted() if ERRORS.exists() else {}
    print(f"\nErrors in %, before -> after\n{comparison(before, errors)}")
    if options.accept:
        ERRORS.write_text(json.dumps(errors, indent=1) + "\n")
    elif grown(before, errors):
        sys.exit(1)


if __name__ == "__main__":
    main()
