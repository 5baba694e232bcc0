"""Heuristics to compare with: one registry, one policy interface, one source per rule.

>>> from gpuyard import baselines
>>> policy = baselines.make("routing/least-requests")
>>> policy.reset(scenario, num_envs=1, seed=0)
>>> action = policy.act(observation)  # observation with a leading environment axis
"""

from .composite import Composite
from .describe import described, summary
from .policy import Observation, Policy, ScorePolicy
from .registry import decides, make, names

__all__ = [
    "Composite",
    "Observation",
    "Policy",
    "ScorePolicy",
    "decides",
    "described",
    "make",
    "names",
    "summary",
]
