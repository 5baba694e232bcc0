"""Every serving technique, off against on: published effects and ours.

    python benchmarks/techniques.py                      # prints the tables
    python benchmarks/techniques.py --write              # and docs/techniques.md
    python benchmarks/techniques.py technique_kernels    # of one module
    python benchmarks/techniques.py --write --processes 16

Gathers ``rows()`` of the modules beside this one, or of its functions that it lists in ``PARTS``. A
module may give a paragraph for each of its techniques, ``MODELS``: how it is modelled and which
settings it has; and in ``CALLS`` the calls that take long, whose results its rows are made of, so
that several processes can make them. They make the same calls as one process does, with the same
seeds, so the page is the same. What fails is named on the page and on stderr, which also says what
is done.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).parent))

import technique_examples  # noqa: E402
from calls import Call, make_ahead, result  # noqa: E402
from technique_row import Row  # noqa: E402

from gpuyard.envs.warmup import warm_up  # noqa: E402

MODULES = (
    "technique_batching",
    "technique_kv",
    "technique_prefix",
    "technique_kernels",
    "technique_quantisation",
    "technique_speculation",
    "technique_parallel",
    "technique_vision",
    "technique_encoders",
    "technique_sessions",
    "technique_ladder",
    "technique_fairness",
    "technique_migration",
)
LONG = (
    "technique_ladder",
    "technique_sessions",
    "technique_speculation",
    "technique_batching",
    "technique_migration",
)
"""Modules whose calls take longest, so that these begin first."""
PAGE = ROOT / "docs" / "techniques.md"
HEADING = """# Techniques

Each serving technique that a replica can switch on or off: how it is modelled, what others
published of its effect, and the effect here. `python benchmarks/techniques.py --write` writes this
page.

"Band" is what the published effect allows, by its scatter; "error" is against the published
figure, or the middle of the band. A row outside its band says why. "Unvalidated": nothing was
published that one could compare with.
"""
EXAMPLES = """## Off and on

Each switch in a shipped scenario, all else alike, two seeds; `unset` leaves the field out. The
commands behind the rows stand below them, in order; each prints more metrics, and 16 seeds say
more. Fairness between clients, images by FastVLM, migration and rollouts take more than one field:
[engine.md](engine.md), [migration.md](migration.md), [rollouts.md](rollouts.md).
"""


def parts(name: str) -> list[Call]:
    """Return the calls that return the rows of a module."""
    module = importlib.import_module(name)
    return [Call(name, part.__name__) for part in getattr(module, "PARTS", (module.rows,))]


def ahead(names: Iterable[str]) -> list[Call]:
    """Return the calls that processes make ahead, the longest first: those of LONG modules."""
    ordered = sorted(names, key=lambda name: LONG.index(name) if name in LONG else len(LONG))
    calls: list[Call] = []
    for name in ordered:
        calls += getattr(importlib.import_module(name), "CALLS", parts(name))
    return [*calls, *technique_examples.CALLS]


def gathered(names: Iterable[str] = MODULES) -> tuple[list[Row], dict[str, str], list[str]]:
    """Return the rows of modules, their paragraphs by technique, and which parts failed."""
    rows: list[Row] = []
    models: dict[str, str] = {}
    failed: list[str] = []
    for name in names:
        for part in parts(name):
            try:
                rows += [Row.of(row) for row in result(part)]
            except Exception as error:  # whatever it is, the other rows are not lost
                failed.append(f"{part}: {type(error).__name__}: {error}")
        given = getattr(importlib.import_module(name), "MODELS", {})
        models |= {technique: text for technique, text in given.items() if isinstance(text, str)}
    return rows, models, failed


def summary(rows: Iterable[Row]) -> str:
    """Return how many rows are inside their bands, and which have the opposite sign."""
    compared = [row for row in rows if row.validated]
    inside = sum(row.inside for row in compared)
    share = f" ({100 * inside / len(compared):.0f} %)" if compared else ""
    opposite = [row for row in compared if row.wrong_way]
    signs = (
        "In each of the following our result has the opposite sign: the published ratio is above "
        "1 and ours is below, or the other way round. The reason is given here and in the row's "
        "note, in the table of the technique that is named in brackets:"
        if opposite
        else "No result has the opposite sign of what was published."
    )
    said = _filled(f"{inside} of {len(compared)} rows are inside their bands{share}. {signs}")
    reasons = [_filled(f"{row.target} ({row.technique}): {row.note}.", "- ") for row in opposite]
    return "\n".join([said, *([""] if reasons else []), *reasons])


def _filled(text: str, bullet: str = "") -> str:
    """Return a paragraph, or an item of a list, in lines of 100 characters."""
    return textwrap.fill(
        text,
        100,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def tables(rows: Iterable[Row], models: dict[str, str]) -> str:
    """Return a section for each technique."""
    sections: dict[str, list[Row]] = {}
    for row in rows:
        sections.setdefault(row.technique, []).append(row)
    parts = []
    for technique, found in sections.items():
        lines = [f"## {technique}", ""]
        if technique in models:
            lines += [models[technique].strip(), ""]
        lines += [
            "| effect | source | published | band | simulated | error | inside | note |",
            "|---|---|---:|---|---:|---:|---|---|",
            *(line(row) for row in found),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def line(row: Row) -> str:
    """Return a row of the table."""
    inside = ("yes" if row.inside else "**no**") if row.validated else "unvalidated"
    low, high = _number(row.low), _number(row.high)
    band = f"{low} to {high}" if low != "-" and high != "-" else ""
    if row.validated and not band:
        band = f"at least {low}" if high == "-" else f"at most {high}"
    error = f"{100 * row.error:+.1f} %" if math.isfinite(row.error) else "-"
    cells = [row.target, row.source, _number(row.effect), band or "-", _number(row.simulated)]
    return "| " + " | ".join([*cells, error, inside, row.note]) + " |"


def _number(value: float) -> str:
    """Return four digits, thousands apart; "-" for what is not a finite number."""
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def page(names: Iterable[str] = MODULES) -> tuple[str, list[str]]:
    """Return docs/techniques.md, and what failed and is therefore not on it."""
    rows, models, failed = gathered(names)
    examples, failed_examples = technique_examples.page()
    failed += failed_examples
    lost = [f"\nLeft out, as they failed: {'; '.join(failed)}.\n"] if failed else []
    sections = [f"{EXAMPLES}\n{examples}", tables(rows, models)]
    return "\n".join([f"{HEADING}\n{summary(rows)}", *lost, "", "\n\n".join(sections)]), failed


def main() -> int:
    """Print the page; return 1 if something failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", default=MODULES)
    parser.add_argument("--write", action="store_true", help="write docs/techniques.md")
    parser.add_argument(
        "--processes", type=int, default=1, help="that make what takes long (default: 1)"
    )
    options = parser.parse_args()
    if options.processes > 1:
        for task, cpu_s in warm_up(options.processes):  # or each process would compile
            print(f"compiled {task}: {cpu_s:.1f} CPU s", file=sys.stderr, flush=True)
        make_ahead(ahead(options.modules), options.processes)
    text, failed = page(options.modules)
    print(text)
    if options.write:
        PAGE.write_text(text)
    for each in failed:
        print(f"failed: {each}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
