"""GPUYard: a Gymnasium environment of GPU clusters.

Importing the package registers the environments and loads nothing heavy: no torch, no
stable-baselines3, and no numba before the first ``gym.make``.
"""

from gymnasium.envs.registration import register

__version__ = "0.1.0"

register(
    id="gpuyard/Routing-v0",
    entry_point="gpuyard.envs.cluster_env:ClusterEnv",
    vector_entry_point="gpuyard.envs.vector_env:ClusterVectorEnv",
    kwargs={"scenario": "routing-default"},
)
register(
    id="gpuyard/Placement-v0",
    entry_point="gpuyard.envs.cluster_env:ClusterEnv",
    vector_entry_point="gpuyard.envs.vector_env:ClusterVectorEnv",
    kwargs={"scenario": "placement-default"},
)
