"""Compiled functions on disk: found again by content, and by nothing else."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import llvmlite.binding as llvm
import numba
import numpy as np
import pytest

import gpuyard  # noqa: F401
from gpuyard.envs import world
from gpuyard.envs.engine import clock
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
def near(address, x):
    w = at(address)
    return far(x) * w.items[0].count

@kernel
def stranger(x):
    return -x
"""


def bundle(name: str, *items: tuple[str, str], others: Any = np.int32) -> Bundle:
    """Return two fields; the name is another one each time, as the compiler knows types by it."""
    return Bundle(name, (("items", np.dtype([*items]), 1), ("others", others, 1)))


STORED = bundle("Stored", ("count", "i4"))


def digest(source: str = SOURCE, things: Bundle = STORED) -> str:
    space: dict[str, Any] = {"__name__": "written", "at": things.at}
    exec(source, space)
    return digest_of(space["near"].py_func)


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
    assert digest() != digest(things=bundle("StoredLonger", ("more", "i4"), ("count", "i4")))
    assert digest() == digest(things=bundle("StoredWider", ("count", "i4"), others=np.float64))


def moved_by(changed: Bundle, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the units, and the clock, that another layout of the world's arrays concerns."""
    before = {name: digest_of(units._entrance(name, STATE)) for name in NAMES}
    after = {name: digest_of(units._entrance(name, changed)) for name in NAMES}
    before["clock"] = digest_of(clock.run_batch.py_func)
    with monkeypatch.context() as patch:
        patch.setattr(clock, "state_at", changed.at)
        after["clock"] = digest_of(clock.run_batch.py_func)
    return {name for name in before if before[name] != after[name]}


def test_an_edit_of_gangs_leaves_replicas_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A further field in the record of jobs concerns those that read jobs."""
    fields = [(field.name, field.dtype, field.ndim) for field in STATE.fields.values()]
    more = np.dtype([*STATE.fields["jobs"].dtype.descr, ("more", "f8")])
    changed = Bundle("More", tuple((n, more if n == "jobs" else d, k) for n, d, k in fields))
    moved = moved_by(changed, monkeypatch)
    assert moved >= {"survey", "start_gang", "clock"}
    assert not moved & {"advance_replica", "take_route", "see_route", "enter"}


def test_a_further_array_concerns_who_reads_those_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock once ran on with the old places, which no unit did."""
    fields = [(field.name, field.dtype, field.ndim) for field in STATE.fields.values()]
    first = next(index for index, (name, *_) in enumerate(fields) if name == "jobs")
    changed = Bundle("Further", (*fields[:first], ("more", np.int32, 2), *fields[first:]))
    assert moved_by(changed, monkeypatch) >= {"clock", "survey", "start_gang", "settle"}
    at_the_end = Bundle("Behind", (*fields, ("more", np.int32, 2)))
    assert not moved_by(at_the_end, monkeypatch)


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


def test_what_lies_on_disk_is_called_but_not_linked(own_folder: Path) -> None:
    """Only names are kept beside the machine code; a caller that would link them is told so."""
    assert fresh()(4) == 8
    second = fresh()
    assert second(4) == 8 and second._cache_hits
    (file,) = own_folder.iterdir()
    (_, _, (_, bitcode)), *_ = pickle.loads(file.read_bytes()[32:])
    kept = [f for f in llvm.parse_bitcode(bitcode).functions if not f.is_declaration]
    assert kept and all(len(list(f.blocks)) == 1 for f in kept)
    with pytest.raises(RuntimeError, match="unfit for linking"):
        numba.njit(lambda x: second(x) + 1)(4)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-7], lambda raw: raw[:99] + b"?" + raw[100:]])
def test_a_damaged_file_is_thrown_away_and_made_again(
    own_folder: Path, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fresh()(4) == 8
    (file,) = own_folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    second = fresh()
    assert not is_warm(second) and not file.exists()
    assert capsys.readouterr().err == f"gpuyard: {file} is damaged; it is compiled again\n"
    assert second(4) == 8
    assert is_warm(fresh())


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps(("another", "making"))])
def test_a_file_of_another_making_is_compiled_again(
    own_folder: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fresh()(4) == 8
    (file,) = own_folder.iterdir()
    file.write_bytes(hashlib.sha256(content).digest() + content)
    assert fresh()(4) == 8
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gpuyard: {file} cannot be loaded")
    assert fresh()(4) == 8 and not capsys.readouterr().err


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
    assert "compiling the engine, once for this version" in capsys.readouterr().err
    monkeypatch.setattr(world.store, "folder", lambda: None)
    gym.make("gpuyard/Routing-v0")
    assert "compiling the engine, in every process: no folder" in capsys.readouterr().err


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
