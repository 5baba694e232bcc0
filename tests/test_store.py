"""Compiled functions on disk: found again by content, and by nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gpuyard  # noqa: F401
from gpuyard.envs import world
from gpuyard.envs.engine.core import store, units
from gpuyard.envs.engine.core.bundle import Bundle
from gpuyard.envs.engine.core.compile import DISABLE_JIT, entry, is_warm
from gpuyard.envs.engine.core.store import digest_of
from gpuyard.envs.engine.core.units import NAMES
from gpuyard.envs.engine.state import STATE

pytestmark = pytest.mark.skipif(DISABLE_JIT, reason="nothing is compiled with NUMBA_DISABLE_JIT=1")

SOURCE = """
from gpuyard.envs.engine.core.compile import kernel

STEP = 3

@kernel
def far(x):
    return x + STEP

@kernel
def near(w, x):
    return far(x) * w.items[0].count

@kernel
def stranger(x):
    return -x
"""


def digest(source: str = SOURCE, layout: dict[str, str] | None = None) -> str:
    space: dict[str, Any] = {"__name__": "written"}
    exec(source, space)
    return digest_of(space["near"].py_func, layout or {})


def test_what_a_function_reaches_is_in_its_key() -> None:
    assert digest() == digest()
    assert digest() != digest(SOURCE.replace("STEP = 3", "STEP = 4"))  # a constant of a callee
    assert digest() != digest(SOURCE.replace("x + STEP", "x - STEP"))  # a callee
    assert digest() != digest(SOURCE.replace("far(x) *", "far(x) +"))
    inlined = SOURCE.replace("@kernel\ndef far", "@kernel(inline=False)\ndef far")
    assert digest() != digest(inlined)


def test_what_it_does_not_reach_is_not() -> None:
    assert digest() == digest(SOURCE.replace("return -x", "return 2 * x"))  # a neighbour
    documented = SOURCE.replace("def far(x):\n", 'def far(x):\n    """Say."""\n    # why\n')
    assert digest() == digest(documented)


def test_only_arrays_that_it_reads_are_in_its_key() -> None:
    def layout(*items: tuple[str, str], others: Any = np.int32) -> dict[str, str]:
        fields = (("items", np.dtype([*items]), 1), ("others", others, 1))
        return Bundle("Things", fields).layout()

    known = digest(layout=layout(("count", "i4")))
    assert known != digest(layout=layout(("more", "i4"), ("count", "i4")))
    assert known == digest(layout=layout(("count", "i4"), others=np.float64))


def test_an_edit_of_gangs_leaves_replicas_compiled() -> None:
    """A further field in the record of jobs concerns those units that read jobs."""
    changed = dict(STATE.layout())
    changed["jobs"] += "one field more"

    def moved(name: str) -> bool:
        entrance = units._entrance(name, STATE)
        return digest_of(entrance, STATE.layout()) != digest_of(entrance, changed)

    assert moved("survey") and moved("start_gang")
    assert not any(moved(name) for name in ("advance_replica", "take_route", "see_route", "enter"))


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "folder", lambda: tmp_path)
    return tmp_path


def fresh() -> Any:
    """Return an entry that this process has not compiled, the same each time."""
    space: dict[str, Any] = {"__name__": "written"}
    exec("def double(x):\n    return 2 * x\n", space)
    return entry(space["double"])


def test_a_second_process_finds_what_the_first_compiled(own_folder: Path) -> None:
    first, second = fresh(), fresh()
    assert not is_warm(first)
    assert first(4) == 8
    assert len(list(own_folder.iterdir())) == 1
    assert is_warm(second)
    assert second(4) == 8 and second._cache_hits and not second._cache_misses


@pytest.mark.parametrize("damage", [lambda raw: raw[:-7], lambda raw: raw[:99] + b"?" + raw[100:]])
def test_a_damaged_file_is_thrown_away_and_made_again(own_folder: Path, damage: Any) -> None:
    assert fresh()(4) == 8
    (file,) = own_folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    second = fresh()
    assert not is_warm(second) and not file.exists()
    assert second(4) == 8
    assert is_warm(fresh())


def test_nothing_is_kept_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "folder", lambda: None)
    function = fresh()
    assert not is_warm(function) and function(4) == 8
    assert is_warm(function) and not is_warm(fresh())  # of this process only


def test_what_is_missing_is_what_this_process_and_disk_lack(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "_COMPILED", {})
    assert units.missing(NAMES, STATE) == list(NAMES)
    units.addresses(["finish"], STATE)
    assert units.missing(["finish"], STATE) == []  # a second environment of this process
    monkeypatch.setattr(units, "_COMPILED", {})
    assert units.missing(["finish", "leave"], STATE) == ["leave"]  # another process
    (file,) = own_folder.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert units.missing(["finish", "leave"], STATE) == ["finish", "leave"]


def test_compiling_is_told_when_it_happens_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gym.make("gpuyard/Routing-v0").reset(seed=0)
    capsys.readouterr()
    gym.make("gpuyard/Routing-v0").reset(seed=0)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(world.units, "missing", lambda names, bundle: ["take_route"])
    gym.make("gpuyard/Routing-v0")
    assert "compiling the engine" in capsys.readouterr().err


def test_a_copy_of_the_package_finds_the_same_files(tmp_path: Path) -> None:
    """Keys are made of content: neither the path of the sources nor their time is in them."""
    root = Path(__file__).parents[1]
    for name in ("envs", "gpuyard", "baselines", "agents", "evaluation"):
        subprocess.run(["cp", "-r", root / name, tmp_path], check=True)
    code = (
        "from gpuyard.envs.engine import clock\n"
        "from gpuyard.envs.engine.core import units\n"
        "from gpuyard.envs.engine.state import STATE\n"
        "print(clock.__file__, clock.run_batch._cache.digest,\n"
        "      *(units._c_function(name, STATE)._cache.digest for name in units.NAMES))\n"
    )
    found = []
    for folder in (root, tmp_path):
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True,
            env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        found.append(run.stdout.split())
    assert found[0][0] != found[1][0] and found[0][1:] == found[1][1:]
