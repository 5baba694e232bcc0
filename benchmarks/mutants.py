"""Which small changes of meaning no test notices.

    python benchmarks/mutants.py                    # all: about an hour, mostly of compiling
    python benchmarks/mutants.py --group evaluation

`mutants.toml` lists them: file, text before, text after, and what it means. Each is made in a copy
of the repository, in which the tests of its group run until the first failure. Survivors belong
into docs/invariants.md, with a test that kills them or a reason. The digests do not run here: they
notice any change and judge none. A change that no longer finds its text is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".toml")
SKIPPED = shutil.ignore_patterns(".git", "runs", "__pycache__", ".*_cache", ".venv", "images")


@dataclass(frozen=True)
class Mutant:
    """A change, and the tests that should notice it."""

    group: str
    tests: tuple[str, ...]
    file: str
    before: str
    after: str
    meaning: str


def mutants(group: str = "") -> list[Mutant]:
    """Return the table's rows, of one group if it is named."""
    groups = tomllib.loads(TABLE.read_text())["group"]
    return [
        Mutant(entry["name"], tuple(entry["tests"]), *row)
        for entry in groups
        for row in entry["mutants"]
        if group in ("", entry["name"])
    ]


def make(mutant: Mutant, root: Path) -> None:
    """Make the change in a copy of the repository.

    Raises:
        ValueError: its text is not there.
    """
    path = root / mutant.file
    source = path.read_text()
    if mutant.before not in source:
        raise ValueError(f"{mutant.file} does not hold {mutant.before!r}; mend {TABLE.name}")
    path.write_text(source.replace(mutant.before, mutant.after))


def fate(mutant: Mutant, limit_s: float) -> str:
    """Run the tests against a mutant; return "killed by ...", "survived" or "no end"."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        shutil.copytree(ROOT, root, symlinks=True, ignore=SKIPPED)
        make(mutant, root)
        files = [f"tests/{name}.py" for name in mutant.tests]
        command = [sys.executable, "-m", "pytest", "-xq", "-p", "no:cacheprovider", *files]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        try:
            run = subprocess.run(
                command, cwd=root, env=environment, capture_output=True, text=True, timeout=limit_s
            )
        except subprocess.TimeoutExpired:
            return "no end"
    if run.returncode == 0:
        return "survived"
    if run.returncode != 1:
        raise RuntimeError(f"pytest ended with {run.returncode}:\n{run.stdout}{run.stderr}")
    failed = next(x for x in run.stdout.splitlines() if x.startswith(("FAILED", "ERROR")))
    return f"killed by {failed.split()[1].partition('/')[2]}"


def main() -> None:
    """Run the mutants; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--group", default="", help="only this group of the table")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds per mutant (600)")
    args = parser.parse_args()
    fates = {}
    for mutant in mutants(args.group):
        began = time.perf_counter()
        fates[mutant] = fate(mutant, args.limit)
        seconds = time.perf_counter() - began
        print(f"{seconds:5.0f} s  {mutant.file}: {mutant.meaning}: {fates[mutant]}", flush=True)
    survivors = [f"{m.file}: {m.meaning}" for m, end in fates.items() if end == "survived"]
    print(json.dumps({"mutants": len(fates), "survivors": survivors}))


if __name__ == "__main__":
    main()
