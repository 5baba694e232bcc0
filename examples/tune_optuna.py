"""The options of a rule by Optuna; ``gpuyard tune`` does the same by the cross-entropy method.

pip install optuna && python examples/tune_optuna.py
"""

from __future__ import annotations

import argparse

import numpy as np
import optuna

from gpuyard import baselines
from gpuyard.envs.scenario import load
from gpuyard.evaluation.rollout import rollout


def main(trials: int, seeds: int) -> None:
    """Search the weight of a prompt in prefill-and-work, on training seeds."""
    scenario = load("routing-default")

    def reward(trial: optuna.Trial) -> float:
        weight = trial.suggest_float("prefill_weight", 0.1, 30.0, log=True)
        policy = baselines.make("routing/prefill-and-work", prefill_weight=weight)
        return float(rollout("tried", policy, scenario, np.arange(seeds)).metrics["reward"].mean())

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(reward, n_trials=trials)
    print(f"routing/prefill-and-work?prefill_weight={study.best_params['prefill_weight']:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    main(options.trials, options.seeds)
