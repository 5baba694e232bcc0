"""The house as docs/architecture.md draws it: who may import whom, and no circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("envs", "agents", "baselines", "evaluation")

MAY: dict[str, set[str]] = {
    # what is seen and what it is worth: facts without dependencies
    "envs/observation.py": set(),
    "envs/reward.py": set(),
    "envs/rules.py": set(),
    "envs/hardware": set(),
    "envs/perf": {"envs/hardware"},
    "envs/workload": {"envs/hardware", "envs/perf", "envs/engine/core"},
    # the compiled world, from the ground floor up
    "envs/engine/core": set(),
    "envs/engine/network": {"envs/engine/core", "envs/perf"},
    "envs/engine/devices": {"envs/engine/core", "envs/rules.py"},
    "envs/engine/serving": {"envs/engine/core", "envs/reward.py", "envs/rules.py"},
    "envs/engine/gangs": {
        *("envs/engine/core", "envs/engine/network", "envs/engine/devices"),
        *("envs/hardware", "envs/observation.py", "envs/reward.py", "envs/rules.py"),
    },
    "envs/engine/services": {
        *("envs/engine/core", "envs/engine/network", "envs/engine/gangs"),
        *("envs/engine/serving", "envs/rules.py"),
    },
    "envs/engine/decide": {
        *("envs/engine/core", "envs/engine/network", "envs/engine/devices"),
        *("envs/engine/serving", "envs/engine/gangs", "envs/engine/services"),
        "envs/observation.py",
    },
    "envs/engine": {  # the fields of the bundle, and the clock
        *("envs/engine/core", "envs/engine/network", "envs/engine/devices"),
        *("envs/engine/serving", "envs/engine/gangs", "envs/engine/services"),
        *("envs/engine/decide", "envs/perf"),
    },
    # from a scenario to a world
    "envs/scenario": {
        *("envs/hardware", "envs/perf", "envs/workload", "envs/observation.py", "envs/reward.py"),
        *("envs/rules.py", "envs/shipped.py"),
        "envs/engine/network",  # the names of fidelities and routings
    },
    "envs/cluster_view.py": {"envs/hardware", "envs/engine/core"},
    "envs/scene.py": set(),
    "envs/shipped.py": set(),
    "envs/rendering": {"envs/cluster_view.py", "envs/scenario"},
    "envs/parts": {
        *("envs/scenario", "envs/engine/core", "envs/engine/network", "envs/engine/devices"),
        *("envs/engine/serving", "envs/engine/gangs", "envs/engine/services", "envs/perf"),
        "envs/hardware",
        *("envs/workload", "envs/rendering", "envs/cluster_view.py", "envs/scene.py"),
    },
    "envs": {  # the faces: what Gymnasium sees, and the world behind it
        *("envs/parts", "envs/scenario", "envs/engine", "envs/engine/core", "envs/engine/decide"),
        "envs/rendering",
        *("envs/observation.py", "envs/cluster_view.py", "envs/workload", "gpuyard"),
        "envs/scene.py",
        *("envs/reward.py", "envs/engine/network"),  # of an old name
    },
    # policies see observations, views and scenarios, never the engine's state
    "baselines": {
        *("envs/observation.py", "envs/cluster_view.py", "envs/hardware", "envs/scenario"),
        "gpuyard",
    },
    "agents": {
        "baselines",
        "envs/observation.py",
        "envs/cluster_view.py",
        "envs/scenario",
        "gpuyard",
    },
    "evaluation": {
        *("baselines", "envs/scenario", "envs/observation.py", "envs/reward.py", "envs/scene.py"),
        "gpuyard",
    },
}
"""Rooms, and what each may import besides itself; a file belongs to the narrowest."""

PATHS = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
FILES = {path.relative_to(ROOT).as_posix(): path for path in PATHS}


def room_of(name: str) -> str:
    """Return the narrowest room that a file stands in."""
    return max((room for room in MAY if name == room or name.startswith(f"{room}/")), key=len)


def targets(name: str, typing_too: bool = False) -> Iterator[str]:
    """Yield the files of the project that a file imports."""
    tree = ast.parse(FILES[name].read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= set() if typing_too else set(ast.walk(node))
    for node in ast.walk(tree):
        if node not in skipped and isinstance(node, ast.ImportFrom):
            yield from _imported(name, node)


def _imported(name: str, node: ast.ImportFrom) -> Iterator[str]:
    parts = (node.module or "").split(".") if node.module else []
    if node.level:
        above = name.split("/")[: -node.level]
        base = [*above, *parts]
    elif parts[:1] == ["gpuyard"]:
        base = parts[1:]
    else:
        return
    for alias in node.names:
        for end in ([*base, alias.name], base):
            file = "/".join(end)
            found = next((f for f in (f"{file}.py", f"{file}/__init__.py") if f in FILES), None)
            if found:
                yield found
                break
        else:
            yield "gpuyard"


@pytest.mark.parametrize("name", FILES)
def test_imports_run_one_way(name: str) -> None:
    here = room_of(name)
    for target in targets(name):
        there = "gpuyard" if target == "gpuyard" else room_of(target)
        assert there == here or there in MAY[here], f"{name} imports {target}"


def test_there_is_no_circle() -> None:
    graph = {name: set(targets(name)) - {name, "gpuyard"} for name in FILES}
    # a package that names its own modules' contents is no circle
    graph = {
        name: {t for t in found if not t.endswith("__init__.py")} for name, found in graph.items()
    }
    while free := [name for name, found in graph.items() if not found & graph.keys()]:
        for name in free:
            del graph[name]
    assert not graph, f"these files import each other in a circle: {sorted(graph)}"


def test_files_read_in_one_sitting() -> None:
    long = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert not {name for name, lines in long.items() if lines > 420}
