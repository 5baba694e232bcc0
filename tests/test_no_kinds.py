"""Nobody asks which kind of world it is: not by class, width, id or column.

What a world asks for stands in ``scenario.decisions``, where a column stands in its ``Layout``, and
what an episode leaves behind in tables by name. This test reads the code for the ways in which the
question used to be asked.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuyard.envs.observation import TABLES
from gpuyard.ids import IDS

ROOT = Path(__file__).parents[1]
FOLDERS = ("envs", "agents", "baselines", "evaluation", "gpuyard")
KINDS = ("Scenario", "Batch", "World", "Part", "Planner")
TELLTALES = {"first_token_s", "cluster", "gpus"}  # columns and tables that only some worlds have

ALLOWED = {
    # its width check refuses an observation of another layout, and chooses nothing by it
    ("envs/observation.py", "read"),
    # takes a scenario as it is, besides a name and a path
    ("envs/scenario/read.py", "load"),
    # the one place where a file's tables say which parts there are
    ("envs/scenario/read.py", "_decisions"),
}


def asked(tree: ast.AST) -> Iterator[tuple[str, int, str]]:
    """Yield function, line and question of every place that asks."""
    for function, node in _with_functions(tree, ""):
        question = _question(node)
        if question:
            yield function, node.lineno, question


def _with_functions(node: ast.AST, function: str) -> Iterator[tuple[str, ast.expr]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _with_functions(child, child.name)
            continue
        if isinstance(child, ast.expr):
            yield function, child
        yield from _with_functions(child, function)


def _question(node: ast.expr) -> str:
    if isinstance(node, ast.Call) and _name(node.func) in ("isinstance", "issubclass"):
        kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
        if any(_name(kind).endswith(KINDS) for kind in kinds):
            return "is it of that class?"
    if not isinstance(node, ast.Compare):
        return ""
    sides = [node.left, *node.comparators]
    if any(text in IDS or text.endswith("-v0") for side in sides for text in _strings(side)):
        return "is it that id?"
    if isinstance(node.ops[0], (ast.In, ast.NotIn)) and TELLTALES & set(_strings(node.left)):
        return "has it that column?"
    if any(_is_width(side) for side in sides) and any(_is_length(side) for side in sides):
        return "is it so wide?"
    return ""


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _strings(node: ast.expr) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def _is_width(node: ast.expr) -> bool:
    """``x.shape[-1]``, or a network's ``columns[key]``."""
    if not isinstance(node, ast.Subscript):
        return False
    last = ast.unparse(node.slice) == "-1"
    return _name(node.value) == "columns" or (_name(node.value) == "shape" and last)


def _is_length(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _name(node.func) == "len"


FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("**/*.py"))


def test_nobody_asks_for_the_kind_of_world():
    found, used = [], set()
    for path in {path.resolve(): path for path in FILES}.values():
        name = path.resolve().relative_to(ROOT.resolve()).as_posix()
        for function, line, question in asked(ast.parse(path.read_text())):
            used.add((name, function))
            if (name, function) not in ALLOWED:
                found.append(f"{name}:{line} in {function or 'the module'}: {question}")
    assert not found, "\n".join(found)
    assert used == ALLOWED, "an exception that nobody needs any more"


@pytest.mark.parametrize(
    "code",
    [
        "isinstance(scenario, PlacementScenario)",
        "isinstance(batch, (int, parts.ServingBatch))",
        "isinstance(policy, Planner)",
        "env_id == 'gpuyard/Routing-v0'",
        "'Placement-v0' in env_id",
        "env_id in ('gpuyard/Routing-v0', 'x')",
        "'first_token_s' in table",
        "'gpus' not in rollout.first",
        "observation['candidates'].shape[-1] == len(TABLES['place'])",
        "network.columns['candidates'] == len(columns)",
    ],
)
def test_the_questions_are_heard(code):
    assert [name for name, _, _ in asked(ast.parse(f"def f():\n    return {code}"))] == ["f"]


def test_other_questions_are_not():
    code = "isinstance(x, int), kind in scenario.decisions, shape[0] == len(x), 'jobs' in tables"
    assert not list(asked(ast.parse(code)))
    assert TABLES.keys() == {"cluster", "queue", "candidates"}
