"""Every example runs, with a small budget."""

import importlib.util
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
BUDGETS = {
    "masked_ppo": "compare(main(512, num_envs=4, n_steps=64), 2)",
    "sb3": "main(128)",
    "own_heuristic": "main(2)",
    "own_reward": "main()",
    "own_observation": "main()",
    "what_if": "main(4, 3)",
    "tune_optuna": "main(2, 2)",
    "ppo_torchrl": "compare(main(512, num_envs=4, n_steps=64), 2)",
    "ppo_rllib": "compare(main(256, num_envs=2, batch=256), 2)",
    "offline_minari": "main(2, 2, 2)",
}
"""What is called of each."""
NEEDS = {
    "sb3": "sb3_contrib",
    "masked_ppo": "torch",
    "own_heuristic": "pandas",
    "tune_optuna": "optuna",
    "ppo_torchrl": "torchrl",
    "ppo_rllib": "ray.rllib",
    "offline_minari": "minari",
}
"""Without this the test is skipped: in CI ``ray[rllib]`` is missing, which pins gymnasium 1.2.2."""


def test_none_is_forgotten():
    names = {path.stem for path in FOLDER.glob("*.py")}
    assert names == set(BUDGETS)
    listed = set(re.findall(r"\]\((\w+)\.py\)", (FOLDER / "README.md").read_text("utf-8")))
    assert listed == names


@pytest.mark.parametrize("name", BUDGETS)
def test_it_runs(name, capsys):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"needs {NEEDS[name]}: see examples/{name}.py")
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    exec(BUDGETS[name], vars(module))
    assert capsys.readouterr().out
