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

try:
    import accuracy_serving
except ModuleNotFoundError:
    accuracy_serving = None


def main() -> None:
    data = Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        sys.exit(f"no measured data at {data}: set GPUYARD_DATA to its folder")
    errors = accuracy_operators.run(data)
    if accuracy_serving:
        errors |= accuracy_serving.run(data)
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
