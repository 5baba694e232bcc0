"""Every accuracy anchor of the cost models and the serving engine, against measured data.

    python benchmarks/accuracy.py

Needs the measured tables (``../shared/data`` beside the checkout, or the folder that GPUYARD_DATA
names). Prints one table per anchor, errors as median / 90th percentile of |predicted/measured - 1|
in %, and ends with one line of JSON: the errors by name. ``docs/accuracy.md`` discusses them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import accuracy_operators  # noqa: E402
import accuracy_serving  # noqa: E402


def main() -> None:
    data = Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        sys.exit(f"no measured data at {data}: set GPUYARD_DATA to its folder")
    print(json.dumps(accuracy_operators.run(data) | accuracy_serving.run(data)))


if __name__ == "__main__":
    main()
