"""Encode replicas: what a replica of their own for encoders gives, published and simulated."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from technique_row import Row, near  # noqa: E402

import gpuyard  # noqa: E402, F401
from gpuyard.envs.scenario import Scenario, from_dict  # noqa: E402

APART = "Encode replicas"
MODELS = {
    APART: """
`[encoders]`: images are prepared and encoded on replicas of their own, one at a time, and the
embeddings travel to the replica that prefills (`envs/engine/serving/encode_pool.py`). Clients who
wait for their answer, one request each, 1,024 x 1,024 px and 20 tokens of text where a source does
not say; constants of the H20 and the GB200 by analogy.""",
}
MODEL = "Qwen3.5-35B-A3B"
SOURCE = "vLLM pull request 41567"
TEXT = 20
REQUESTS = 6
"""Of each client."""


def scenario(
    arrivals_s: np.ndarray, output: int, replica: dict[str, Any], encoders: dict[str, Any] | None
) -> Scenario:
    """Return a scenario of requests with an image each."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "requests.csv"
        rows = [f"{arrival!r},{TEXT},{output}" for arrival in arrivals_s.tolist()]
        trace.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
        table: dict[str, Any] = {
            "replicas": [{"model": MODEL, **replica}],
            "workload": {
                "trace": str(trace),
                "num_requests": 0,
                "images": {"model": MODEL, "sizes": [[1024, 1024]]},
            },
        }
        return from_dict(table | ({"encoders": encoders} if encoders else {}))


def requests_per_s(
    clients: int, output: int, replica: dict[str, Any], encoders: dict[str, Any] | None = None
) -> float:
    """Return the rate at which clients are served who each send again when they are answered.

    Request ``clients + k`` arrives when k + 1 have been answered. What has not come yet changes
    nothing before it, so playing with the arrivals that the last play gave settles.
    """
    count = clients * REQUESTS
    arrivals_s = np.zeros(count)
    while True:
        env = gym.make(
            "gpuyard/Routing-v0", scenario=scenario(arrivals_s, output, replica, encoders)
        ).unwrapped
        env.reset(seed=0)
        done = False
        while not done:
            _, _, done, _, _ = env.step(0)
        answered_s = np.sort(env.results()["requests"]["finish_s"])
        found_s = np.concatenate([np.zeros(clients), answered_s[: count - clients]])
        if np.allclose(found_s, arrivals_s, rtol=0, atol=1e-9):
            return float((count - clients) / (answered_s[-1] - answered_s[clients - 1]))
        arrivals_s = found_s


def rows() -> list[Row]:
    """Return all rows of this module."""
    h20, gb200 = {"gpu": "H20"}, {"gpu": "GB200-NVL72"}
    over = {"connector": "mooncake"}
    slower = "by TCP there; what bounds it is not stated, here the steps that prefill"
    found = []
    for clients, published, note in ((1, 3.109, ""), (8, 6.627, ""), (32, 9.165, slower)):
        ours = requests_per_s(clients, 32, h20, {**over, **h20})
        what = f"one encode replica and one that prefills, H20, {clients} at once: requests/s"
        found.append(near(APART, what, SOURCE, published, 0.25, ours, note))
    apart = requests_per_s(96, 2, gb200, {**over, **gb200})
    both = requests_per_s(96, 2, {**gb200, "tp": 2})
    found.append(
        near(
            APART,
            "one encode replica and one that prefills over TP2, GB200, 96 at once: requests/s",
            SOURCE,
            32.75 / 22.96,
            0.25,
            apart / both,
            "several images a request there (MuirBench), of sizes that are not stated; sign only",
            gain=True,
        )
    )
    return found
