"""Encoder caches and routers: how many images are encoded, and when the first token comes.

    python benchmarks/encoder_cache.py          print the table of docs/engine.md, Images

Plays the scenario of that page with encoder caches of several sizes under several routers.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard import baselines  # noqa: E402
from gpuyard.envs.scenario import Scenario, from_dict  # noqa: E402
from gpuyard.evaluation.rollout import rollout  # noqa: E402

PAGE = ROOT / "docs" / "engine.md"
CACHES = (1024, 8192, 65_536)
ROUTERS = ("round-robin", "least-requests", "predicted-ttft")
SEEDS = 5


def scenario(cache_tokens: int) -> Scenario:
    """Return the scenario of the page with another encoder cache."""
    section = PAGE.read_text().split("\n## Images\n")[1]
    found = re.search(r"```toml\n(.*?)```", section, re.DOTALL)
    assert found, f"{PAGE}: no scenario in its section on images"
    table = tomllib.loads(found.group(1))
    table["replicas"][0]["encoder_cache_tokens"] = cache_tokens
    return from_dict(table)


def played(built: Scenario, policy: str) -> tuple[float, float]:
    """Return the share of images that are encoded, and the mean time to the first token, s."""
    router, shares, times_s = baselines.make(f"routing/{policy}"), [], []
    for seed in range(SEEDS):
        table = rollout(policy, router, built, np.array([seed])).first["requests"]
        shares.append(float((table["encoded_tokens"] > 0).mean()))
        times_s.append(float((table["first_token_s"] - table["arrival_s"]).mean()))
    return float(np.mean(shares)), float(np.mean(times_s))


def main() -> None:
    """Print the table."""
    cells = " | ".join(f"`{policy}`" for policy in ROUTERS)
    print(f"| Encoder cache, visual tokens | {cells} |")
    print("|---:" * (1 + len(ROUTERS)) + "|")
    for cache_tokens in CACHES:
        row = [played(scenario(cache_tokens), policy) for policy in ROUTERS]
        cells = " | ".join(f"{100 * share:.0f} %, {1e3 * s:.0f} ms" for share, s in row)
        print(f"| {cache_tokens:,} | {cells} |")


if __name__ == "__main__":
    main()
