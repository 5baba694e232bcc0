"""Digests of trajectories: whether a change to the code has moved a number.

    python tests/fingerprint.py                  print the digest of every case
    python tests/fingerprint.py --against main~1 make them from that commit too, and compare
    python tests/fingerprint.py --write          replace tests/fingerprints.json

Observations, rewards, infos and results of every shipped scenario go into a digest, single and in
vector environments, with other fidelities, aggregated observation, preemption, holding back, and
under baselines that plan ahead. Digests agree between machines only where arithmetic does, so the
file says on which arithmetic it was made.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("fingerprints.json")
SCENARIOS = Path(__file__).resolve().parents[1] / "envs" / "scenarios"
IDS = {
    "routing": "gpuyard/Routing-v0",
    "rollout": "gpuyard/Routing-v0",
    "placement": "gpuyard/Placement-v0",
    "cluster": "gpuyard/Cluster-v0",
}
SEEDS = 3

Table = dict[str, Any]


def changed(name: str, **changes: Table) -> Table:
    """Return the tables of a shipped scenario with some fields replaced."""
    table: Table = tomllib.loads((SCENARIOS / f"{name}.toml").read_text())
    for key, change in changes.items():
        table[key] = {**table.get(key, {}), **change}
    return table


SHORT = {"num_jobs": 40, "max_duration_s": 240.0}  # phase by phase a long job takes minutes
VARIANTS: dict[str, Table] = {
    "routing-default+hold": changed("routing-default", router={"hold_s": 0.05}),
    "routing-lagging+hold": changed("routing-lagging", router={"hold_s": 0.05}),
    "placement-default+flow": changed(
        "placement-default", network={"fidelity": "flow"}, jobs=SHORT
    ),
    "placement-default+occupancy": changed(
        "placement-default", network={"fidelity": "occupancy"}, jobs=SHORT
    ),
    "placement-default+none": changed("placement-default", network={"fidelity": "none"}),
    "placement-default+source": changed("placement-default", network={"routing": "source"}),
    "placement-sakuraone+balanced": changed(
        "placement-sakuraone", network={"routing": "balanced", "queue_pairs": 1}
    ),
    "placement-default+aggregate": changed("placement-default", observation={"aggregate": True}),
    "placement-default+preemption": changed("placement-default", scheduler={"preemption": True}),
    "placement-faults+flow": changed("placement-faults", network={"fidelity": "flow"}),
    "placement-optical+preemption": changed("placement-optical", scheduler={"preemption": True}),
}
PLAYED = (
    ("routing-default", "routing/dynamo"),
    ("routing-burst", "routing/predicted-latency"),
    ("placement-default", "gang/easy-backfill"),
    ("placement-heterogeneous", "topology/kai"),
    ("placement-faults", "gang/srtf"),
    ("placement-optical", "isolation/ocs-vclos"),
)


class Digest:
    """A running SHA-256 of arrays and numbers."""

    def __init__(self) -> None:
        self.sha = hashlib.sha256()

    def arrays(self, arrays: dict[str, Any]) -> None:
        """Add named arrays in the order of their names; tables of arrays add theirs."""
        for key in sorted(arrays):
            value = arrays[key]
            if isinstance(value, dict):
                self.arrays(value)
            else:
                self.sha.update(key.encode() + np.ascontiguousarray(value).tobytes())

    def numbers(self, numbers: Iterable[Any]) -> None:
        """Add numbers as they print: the shortest text that gives the same float."""
        self.sha.update(repr(list(numbers)).encode())

    def __str__(self) -> str:
        return self.sha.hexdigest()[:16]


def single(scenario: Any, env_id: str, steps: int) -> Digest:
    """Play some episodes at random; 2 % of the actions are drawn without looking at the mask."""
    import gymnasium as gym

    digest = Digest()
    env: Any = gym.make(env_id, scenario=scenario).unwrapped
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        observation, info = env.reset(seed=seed)
        for _ in range(steps):
            digest.arrays(observation)
            digest.numbers(sorted(info.items()))
            mask = observation["action_mask"]
            blind = rng.random() < 0.02
            choices = np.arange(len(mask)) if blind else np.flatnonzero(mask)
            observation, reward, done, _, info = env.step(int(rng.choice(choices)))
            digest.numbers([float(reward)])
            if done:
                break
        digest.arrays(env.results())
    return digest


def vector(scenario: Any, env_id: str, steps: int) -> Digest:
    """Step a batch at random, with resets in the same step."""
    import gymnasium as gym

    digest = Digest()
    env: Any = gym.make_vec(
        env_id, num_envs=SEEDS, scenario=scenario, autoreset_mode="SameStep", max_episode_steps=90
    )
    rng = np.random.default_rng(0)
    observation, info = env.reset(seed=0)
    for _ in range(steps):
        digest.arrays(observation)
        digest.arrays({k: v for k, v in info.items() if v.dtype != object and k != "final_info"})
        draws = rng.random(observation["action_mask"].shape) * observation["action_mask"]
        observation, rewards, terminated, truncated, info = env.step(draws.argmax(axis=1))
        ended = info.pop("final_info", {})
        digest.arrays({k: v for k, v in ended.items() if not k.startswith("_")})
        digest.arrays({"rewards": rewards, "terminated": terminated, "truncated": truncated})
    for index in range(SEEDS):
        digest.arrays(env.results(index))
    return digest


def played(scenario: Any, env_id: str, policy: str) -> Digest:
    """Let a baseline play two episodes; what evaluation makes of them is not the engine's."""
    from gpuyard.baselines import make
    from gpuyard.evaluation.rollout import rollout

    digest = Digest()
    outcome = rollout(policy, make(policy), scenario, np.arange(2), env_id)
    digest.arrays({"reward": outcome.metrics["reward"], **outcome.first})
    return digest


def cases() -> dict[str, Callable[[], Digest]]:
    """Return what makes each digest, by name."""
    from gpuyard.envs.scenario import from_dict

    found: dict[str, Callable[[], Digest]] = {}
    shipped = {path.stem: changed(path.stem) for path in sorted(SCENARIOS.glob("*.toml"))}
    for name, table in {**shipped, **VARIANTS}.items():
        scenario = from_dict(table, name)
        env_id = IDS[name.partition("-")[0]]
        found[f"{name} single"] = lambda s=scenario, i=env_id: single(s, i, 600)
        found[f"{name} vector"] = lambda s=scenario, i=env_id: vector(s, i, 300)
    for name, policy in PLAYED:
        scenario, env_id = from_dict(shipped[name], name), IDS[name.partition("-")[0]]
        found[f"{name} {policy}"] = lambda s=scenario, i=env_id, p=policy: played(s, i, p)
    return found


def arithmetic() -> str:
    """Return a word that is the same only where the digests can be: processor kind and libm."""
    import numba

    rng = np.random.default_rng(0)
    values = rng.random(512) * 20.0
    digest = Digest()
    digest.numbers([platform.machine(), numba.__version__, np.__version__])
    digest.arrays({"exp": np.exp(values), "log": np.log(values), "cbrt": np.cbrt(values)})
    digest.numbers([math.exp(v) + math.log(v) + math.cos(v) + math.log2(v) for v in values])
    digest.numbers([rng.standard_normal(64).tolist(), rng.gamma(0.7, size=64).tolist()])
    return str(digest)


def digests() -> dict[str, str]:
    """Return the digest of every case."""
    import gpuyard  # noqa: F401  # registers the environments

    return {name: str(make()) for name, make in cases().items()}


def of_commit(commit: str) -> dict[str, str]:
    """Return the digests that the code of another commit gives here."""
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", tree, commit], cwd=root, check=True
        )
        try:
            script = tree / "tests" / "fingerprint.py"
            script.write_bytes(Path(__file__).read_bytes())
            environment = {**os.environ, "PYTHONPATH": str(tree)}
            run = subprocess.run(
                [sys.executable, script, "--json"], env=environment, check=True, capture_output=True
            )
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=root, check=True)
    return json.loads(run.stdout)


def main() -> int:
    """Print, compare or write; 1 if a digest differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", metavar="COMMIT", help="compare with the code of a commit")
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    options = parser.parse_args()
    found = digests()
    if options.json:
        print(json.dumps(found))
        return 0
    if options.write:
        FILE.write_text(json.dumps({"arithmetic": arithmetic(), "digests": found}, indent=1) + "\n")
    theirs = of_commit(options.against) if options.against else found
    for name, digest in found.items():
        print(f"{digest} {name}{'' if theirs.get(name) == digest else '   DIFFERS'}")
    return int(theirs != found)


if __name__ == "__main__":
    sys.exit(main())
