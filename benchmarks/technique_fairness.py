"""Fairness between clients: virtual token counters beside first come first served.

Two clients ask for more than one replica gives, one of them twice as much as the other, for a
minute. The paper shows its numbers in figures only; what can be compared is its bound.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import gpuyard  # noqa: F401
from gpuyard.envs.scenario import from_dict
from gpuyard.evaluation.fairness import service

SOURCE = "VTC, OSDI 2024"
MODELS = {
    "Fairness between clients": """
`scheduling_policy = "vtc"` of a replica: the earliest request of the client with the least counter
of served tokens is next (`envs/engine/serving/fair.py`); `routing/vtc` does so at the gateway.
Service is a prompt's tokens and twice an output's. The bound is 2 max(w_p L, w_q M): L the longest
prompt, M the most tokens that a batch may hold.
"""
}
SECONDS, SEQUENCES, PROMPT, OUTPUT = 60, 8, 200, 60
BOUND_TOKENS = 2 * max(1 * PROMPT, 2 * SEQUENCES * (PROMPT + OUTPUT))


def served(policy: str, seconds: int = SECONDS) -> np.ndarray:
    """Return what the two clients were served by each second, tokens, (seconds + 1, 2)."""
    moments = [(i / 24, "heavy") for i in range(24 * seconds)]
    moments = sorted(moments + [(i / 12, "light") for i in range(12 * seconds)])
    lines = [f"{moment},{PROMPT},{OUTPUT},{OUTPUT},{name}" for moment, name in moments]
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "two.csv"
        names = "arrival_s,prompt_tokens,output_tokens,max_tokens,client"
        trace.write_text("\n".join([names, *lines]))
        scenario = from_dict(
            {
                "replicas": [
                    {
                        **{"gpu": "A100-80", "model": "Llama-3-8B", "max_num_seqs": SEQUENCES},
                        "scheduling_policy": policy,
                    }
                ],
                "workload": {"trace": str(trace), "num_requests": 0},
                "clients": [{"name": "heavy"}, {"name": "light"}],
                "limits": {"max_time_s": float(seconds)},
            }
        )
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    env.reset(seed=0)
    done = False
    while not done:
        _, _, ended, is_cut, _ = env.step(0)
        done = ended or is_cut
    return service(env.results()["requests"], np.arange(seconds + 1.0), 2)


def rows() -> list[dict[str, Any]]:
    """Return one mapping per target: technique, target, source, low, high, simulated."""
    found = []
    for policy, low, high in (("vtc", 0.0, 1.0), ("fcfs", 1.0, math.inf)):
        totals = served(policy)
        gap = float(np.abs(totals[:, 0] - totals[:, 1]).max())
        target = f"greatest difference of service over the bound, {policy}, {SECONDS} s"
        note = "" if policy == "vtc" else "it grows while both wait"
        found.append(_row(target, low, high, gap / BOUND_TOKENS, note))
        ratio = float(totals[-1, 0] / totals[-1, 1])
        target = f"service of the client that asks for twice as much over the other's, {policy}"
        found.append(_row(target, math.nan, math.nan, ratio, "figures only"))
    return found


def _row(target: str, low: float, high: float, simulated: float, note: str) -> dict[str, Any]:
    return {
        **{"technique": "Fairness between clients", "target": target, "source": SOURCE},
        **{"low": low, "high": high, "simulated": simulated, "note": note},
    }


if __name__ == "__main__":
    for row in rows():
        print(f"{row['target']}: {row['low']:g} to {row['high']:g}, {row['simulated']:.3f}")
