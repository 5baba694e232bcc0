"""A trained network behind the same interface as every heuristic."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.save_util import load_from_zip_file

from gpuyard.baselines import Observation, ScorePolicy

from .network import CandidatePolicy

KEYS = ("cluster", "queue", "candidates", "action_mask")


class LearnedPolicy(ScorePolicy):
    """Takes the feasible candidate that the network scores highest.

    Args:
        network: a trained candidate-scoring policy; it may come from a scenario with another
            number of candidates.
    """

    def __init__(self, network: CandidatePolicy):
        self.network = network.eval()

    @classmethod
    def load(cls, path: str | Path) -> LearnedPolicy:
        """Load a model that training saved (``MaskablePPO.save``).

        Such files hold Python pickles: open only those that you trust.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is no model of the candidate-scoring network.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such model file")
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path}: not a zip file that MaskablePPO.save wrote")
        return cls(network_from(*load_from_zip_file(path, device="cpu")[:2], path=path))

    def score(self, observation: Observation) -> NDArray[np.float64]:
        """Return the network's logits, shape (n, C)."""
        self._check(observation)
        tensors = {key: torch.as_tensor(observation[key]) for key in KEYS}
        with torch.no_grad():
            return self.network.scores(tensors).numpy().astype(np.float64)

    def _check(self, observation: Observation) -> None:
        for key in ("cluster", "queue", "candidates"):
            trained = self.network.columns[key]
            given = observation[key].shape[-1]
            if given != trained:
                raise ValueError(
                    f"the model was trained with {trained} {key!r} columns, "
                    f"this environment has {given}; train it again"
                )


def network_from(
    data: dict[str, Any] | None, parameters: dict[str, Any], path: Path
) -> CandidatePolicy:
    """Build the network from the two parts of an SB3 model file.

    Raises:
        ValueError: if they belong to another kind of model.
    """
    if not data or data.get("policy_class") is not CandidatePolicy:
        raise ValueError(f"{path}: not a model of the candidate-scoring network")
    network = CandidatePolicy(
        data["observation_space"],
        data["action_space"],
        lr_schedule=lambda _: 0.0,
        **data["policy_kwargs"],
    )
    network.load_state_dict(parameters["policy"])
    return network
