"""Every code block of README and of the pages does what it says.

Python blocks of a page run one after the other in one namespace, as a reader would type them, with
smaller numbers where a reader would wait for minutes. Command lines are parsed, not run: the
subcommand and its options exist, and so do the files of this repository that they name.
"""

from __future__ import annotations

import gzip
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from gpuyard.cli import COMMANDS, parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([\w{}-]*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALLER = (
    (r"range\([\d_]{4,}\)", "range(40)"),
    (r"num_envs=64", "num_envs=4"),
    (r"n_steps=128, batch_size=1024", "n_steps=16, batch_size=32"),
    (r"learn\([\d_]+\)", "learn(64)"),
    (r"steps=500_000", "steps=256, num_envs=4, n_steps=32, batch_size=64, width=8"),
    (r"seeds=8", "seeds=2"),
)
"""What makes a block's work small, by what it replaces."""


def blocks(page: Path, kind: str) -> list[str]:
    """Return the blocks of a kind on a page."""
    return [text for name, text in BLOCK.findall(page.read_text("utf-8")) if name == kind]


def having(kind: str) -> list:
    """Return the pages that have blocks of a kind, each under its name."""
    return [pytest.param(page, id=page.stem) for page in PAGES if blocks(page, kind)]


def shell(page: Path) -> list[str]:
    """Return the command lines of a page: of its shell blocks, and of those without a kind."""
    text = "\n".join(blocks(page, "bash") + blocks(page, "")).replace("\\\n", " ")
    doors = {"python train.py": "gpuyard train", "python evaluate.py": "gpuyard evaluate"}
    for door, command in doors.items():
        text = re.sub(f"^{door}", command, text, flags=re.MULTILINE)
    return re.findall(r"^(?:gpuyard|python3?|bash|pip) .*", text, re.MULTILINE)


@pytest.mark.parametrize("page", having("python"))
def test_python_blocks_run(page, tmp_path, monkeypatch):
    pytest.importorskip("sb3_contrib")
    monkeypatch.chdir(tmp_path)
    small = "\n".join(
        [
            "[[replicas]]",
            'gpu = "H100-SXM"',
            'model = "Llama-3-8B"',
            "[workload]",
            'preset = "chat"',
        ]
    )
    (tmp_path / "mine.toml").write_text(small)
    (tmp_path / "cluster_log.csv").write_text(
        "arrival_s,gpus,duration_s\n" + "".join(f"{60 * i},8,600\n" for i in range(20))
    )
    rows = '{"timestamp": %d, "input_length": 600, "output_length": 20, "hash_ids": [0, %d]}\n'
    with gzip.open(tmp_path / "conversation_trace.jsonl.gz", "wt") as file:
        file.writelines(rows % (1000 * i, i + 1) for i in range(2000))
    space: dict = {"__name__": "page"}
    for text in blocks(page, "python"):
        for pattern, smaller in SMALLER:
            text = re.sub(pattern, smaller, text)
        exec(compile(text, str(page), "exec"), space)


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.stem) for page in PAGES if shell(page)]
)
def test_command_lines_are_understood(page):
    for line in shell(page):
        words = shlex.split(line, comments=True)
        if words[:1] == ["gpuyard"]:
            assert words[1] in COMMANDS, line
            options = parser(words[1:]).parse_args([re.sub(r"\[.*\]", "", w) for w in words[1:]])
            assert options.command == words[1]
        for word in words:
            if re.fullmatch(r"(benchmarks|tests|envs|docs)/[\w./-]+\.\w+", word):
                assert (ROOT / word).exists(), line


@pytest.mark.parametrize("page", having("toml"))
def test_toml_blocks_are_toml(page):
    for text in blocks(page, "toml"):
        tomllib.loads(text)
