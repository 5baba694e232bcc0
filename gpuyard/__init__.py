"""GPUYard: a Gymnasium environment of GPU clusters.

Importing the package registers the environments and loads nothing heavy: no torch, no
stable-baselines3, and no numba before the first ``gym.make``.
"""

from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register

from .ids import IDS

if TYPE_CHECKING:
    from .frames import compare, evaluate

__all__ = ["compare", "evaluate"]

__version__ = "0.1.0"

for _id, _world in IDS.items():
    register(
        id=_id,
        entry_point="gpuyard.envs.cluster_env:ClusterEnv",
        vector_entry_point="gpuyard.envs.vector_env:ClusterVectorEnv",
        kwargs=_world._asdict(),
    )


def __getattr__(name: str) -> Any:
    """Load :mod:`.frames` when it is first asked for: it takes numba and pandas."""
    if name in __all__:
        from . import frames

        return getattr(frames, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
