"""A rule of your own beside the baselines, on the same held-out seeds, as a table.

python examples/own_heuristic.py
"""

from __future__ import annotations

import argparse

import gpuyard
from gpuyard import baselines


class Shortest(baselines.ScorePolicy):
    """The replica that should give the first token soonest, cheaper ones first among equals."""

    decides = frozenset({"route"})

    def score(self, observation):
        """Return a score for each candidate, higher is better."""
        first_token_s = self.read(observation, "candidates", "route.wait_s") + self.read(
            observation, "candidates", "route.prefill_s"
        )
        return -first_token_s - 1e-3 * self.read(observation, "candidates", "route.price")


def main(seeds: int) -> None:
    """Print means and paired gains."""
    policies = {
        "mine": Shortest(),
        "least-requests": "routing/least-requests",
        "llm-d": "routing/llm-d",
    }
    frame = gpuyard.evaluate(policies, "routing-default", seeds=seeds)
    metrics = ["ttft_mean_s", "tpot_mean_s", "slo_attainment"]
    print(frame.groupby("policy")[metrics].mean().round(3))
    print(gpuyard.compare(frame, "mine", metrics).round(3).to_string(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=8)
    main(parser.parse_args().seeds)
