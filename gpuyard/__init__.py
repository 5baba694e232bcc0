"""GPUYard: a Gymnasium environment of GPU clusters.

Importing the package registers the environments and loads nothing heavy: no torch, no
stable-baselines3, and no numba before the first ``gym.make``.
"""

from gymnasium.envs.registration import register

from .ids import IDS

__version__ = "0.1.0"

for _id, _world in IDS.items():
    register(
        id=_id,
        entry_point="gpuyard.envs.cluster_env:ClusterEnv",
        vector_entry_point="gpuyard.envs.vector_env:ClusterVectorEnv",
        kwargs=_world._asdict(),
    )
