"""Every accuracy anchor of the cost models and engines, against measured data.

    python benchmarks/accuracy.py

Needs the measured tables (``../shared/data`` beside the checkout, or the folder that GPUYARD_DATA
names). Prints one table per anchor, errors of |predicted/measured - 1| in %: median and 90th
percentile, for training runs median and worst. Ends with one line of JSON: the errors by name.
``docs/accuracy.md`` and ``docs/accuracy_training.md`` discuss them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import accuracy_nccl  # noqa: E402
import accuracy_operators  # noqa: E402
import accuracy_serving  # noqa: E402
import accuracy_training  # noqa: E402


def main() -> None:
    data = Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        sys.exit(f"no measured data at {data}: set GPUYARD_DATA to its folder")
    errors = accuracy_operators.run(data) | accuracy_serving.run(data)
    print()
    for group, found in accuracy_training.run(data).items():
        for key in ("median", "worst"):
            errors[f"training_{group}_{key}_pct"] = round(found[key], 2)
    if (data / accuracy_nccl.TABLE).is_file():
        for group, found in accuracy_nccl.run(data).items():
            name = group.replace(",", "").replace(" ", "_").replace("-", "_").lower()
            for key in ("median", "p90"):
                errors[f"nccl_tests_{name}_{key}_pct"] = round(found[key], 2)
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
