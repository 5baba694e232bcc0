"""The engine without its compiler: slow, to debug with, and byte for byte the same."""

from __future__ import annotations

import os
import subprocess
import sys

from engine_worlds import WINDOWED

EPISODES = """
import hashlib
from dataclasses import replace
import gymnasium as gym
import numpy as np
import gpuyard
from gpuyard.envs.scenario import Router, from_dict

replica = {"gpu": "A100-80", "model": "Llama-3-8B", "max_num_seqs": 6, "kv_blocks": 128}
scenario = from_dict(
    {
        "replicas": [
            {**replica, "engine": "vllm-0.12"},
            {**replica, "gpu": "L40S", "max_num_batched_tokens": 512},
            {**replica, "model": "Windowed"},
        ],
        "models": {"Windowed": WINDOWED},
        "workload": {"num_requests": 12, "rate_per_s": 60.0, "max_tokens": 1024},
    }
)
for router in (Router(), Router(signal_interval_s=0.1, hold_s=0.02)):
    env = gym.make("gpuyard/Routing-v0", scenario=replace(scenario, router=router))
    rng = np.random.default_rng(0)
    digest = hashlib.sha256()
    obs, info = env.reset(seed=0)
    done = False
    while not done:
        digest.update(b"".join(value.tobytes() for value in obs.values()))
        obs, reward, done, _, info = env.step(rng.choice(np.flatnonzero(obs["action_mask"])))
        digest.update(repr((reward, info)).encode())
    assert info["finished"] == 12 and info["prefix_hit_rate"] > 0
    print(digest.hexdigest())
"""


def run(**environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"WINDOWED = {WINDOWED}\n{EPISODES}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    ).stdout


def test_plain_python_gives_the_same_bytes() -> None:
    assert run(NUMBA_DISABLE_JIT="1") == run()


def test_prefix_ids_are_the_same_without_the_compiler() -> None:
    code = (
        "import numpy as np\n"
        "from gpuyard.envs.workload.requests.prefix import chain\n"
        "print(chain(np.array([0, 2, 5, 6, 7]), np.array([7, 8, 7, 8, 9, 8, 7])).tolist())\n"
    )
    for disable in "01":
        ids = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "NUMBA_DISABLE_JIT": disable},
        ).stdout
        assert ids == "[0, 1, 0, 1, 2, 3, 0]\n"  # 8 alone shares nothing with 7, 8
