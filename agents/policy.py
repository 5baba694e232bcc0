"""A trained network behind the same interface as every heuristic."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.save_util import load_from_zip_file

from gpuyard.baselines import Observation, ScorePolicy
from gpuyard.envs.observation import PLACEMENT_TABLES

from .network import KEYS, CandidatePolicy

if TYPE_CHECKING:
    from gpuyard.envs.scenario import AnyScenario


class LearnedPolicy(ScorePolicy):
    """Acts by the probabilities that a network gives to the candidates.

    A router draws one, as it was trained, and it matters: where reports lag, a router that always
    takes the best candidate sends a herd to whoever looked idle last. A placer takes the most
    probable one: it sees the cluster as it is, and drawing would only add noise.

    Args:
        network: a trained candidate-scoring policy; it may come from a scenario with another
            number of candidates.
        greedy: whether to take the most probable candidate; None: as said above.
    """

    def __init__(self, network: CandidatePolicy, greedy: bool | None = None):
        self.network = network.eval()
        places = network.columns["candidates"] == len(PLACEMENT_TABLES["candidates"])
        self.greedy = places if greedy is None else greedy
        self._rng = np.random.default_rng(0)

    @classmethod
    def load(cls, path: str | Path, greedy: bool | None = None) -> LearnedPolicy:
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
        network = network_from(*load_from_zip_file(path, device="cpu")[:2], path=path)
        return cls(network, greedy)

    def reset(self, scenario: AnyScenario, num_envs: int, seed: int = 0) -> None:
        """Seed the draws."""
        self._rng = np.random.default_rng(seed)

    def score(self, observation: Observation) -> NDArray[np.float64]:
        """Return the network's logits, shape (n, C), with Gumbel noise unless greedy.

        The highest of logits with Gumbel noise is a draw from their softmax (Gumbel-max trick).
        """
        self._check(observation)
        tensors = {key: torch.as_tensor(observation[key]) for key in KEYS}
        with torch.no_grad():
            logits = self.network.scores(tensors).numpy().astype(np.float64)
        return logits if self.greedy else logits + self._rng.gumbel(size=logits.shape)

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
