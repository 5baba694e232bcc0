"""A trained network behind the same interface as every heuristic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gpuyard.baselines import Observation, ScorePolicy
from gpuyard.envs.observation import TABLES

from . import model_file
from .network import CandidatePolicy
from .sets import SETS

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


class LearnedPolicy(ScorePolicy):
    """Acts by the probabilities that a network gives to the candidates.

    Where a request is to be routed it draws one, as it was trained, and it matters: where reports
    lag, a router that always takes the best candidate sends a herd to whoever looked idle last.
    Where gangs are placed or replicas decided about it takes the most probable one: it sees the
    cluster as it is, and drawing would only add noise.

    The network's columns are found by their names, wherever the scenario has them now. One without
    names, saved by an earlier version, is taken to be of the scenario that it is reset for.

    Args:
        network: a trained candidate-scoring policy; it may come from a scenario with another
            number of candidates.
        greedy: whether to take the most probable candidate; None: as said above.
    """

    def __init__(self, network: CandidatePolicy, greedy: bool | None = None):
        self.network = network.eval()
        self.greedy = greedy
        if network.decides is not None:
            self.decides = frozenset(network.decides)

    @classmethod
    def load(
        cls, path: str | Path, greedy: bool | None = None, allow_pickle: bool = False
    ) -> LearnedPolicy:
        """Load a model that :meth:`save` or training wrote.

        Args:
            path: a ``policy.safetensors``, which holds numbers and JSON and can run no code; or a
                ``model.zip`` of ``MaskablePPO.save``, which holds pickles.
            greedy: as in the constructor.
            allow_pickle: read a ``model.zip`` too: its weights as torch does with
                ``weights_only=True``, all else as JSON, its other pickles not at all.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is no model of the candidate-scoring network, or holds pickles
                and ``allow_pickle`` is not set.
        """
        return cls(model_file.load(Path(path), allow_pickle), greedy)

    def save(self, path: str | Path) -> None:
        """Write the network, as ``policy.safetensors`` of a run: tensors, and JSON in their header.

        Raises:
            ValueError: the name does not end in ``.safetensors``.
        """
        path = Path(path)
        if path.suffix != model_file.SAFE:
            raise ValueError(f"{path}: must end in {model_file.SAFE}")
        model_file.save(self.network, path)

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Find the columns; seed the draws.

        Raises:
            ValueError: the scenario asks for other decisions, or lacks columns of the network.
        """
        super().reset(scenario, num_envs, seed)
        self._columns = {key: self._find(key) for key in TABLES}
        self._rng = np.random.default_rng(seed)

    def score(self, observation: Observation) -> NDArray[np.float64]:
        """Return the network's logits, shape (n, C), with Gumbel noise where it draws.

        The highest of logits with Gumbel noise is a draw from their softmax (Gumbel-max trick).
        """
        read = {key: observation[key][..., at] for key, at in self._columns.items()}
        read |= {key: observation[key] for key in ("action_mask", *SETS)}
        device = self.network.device
        tensors = {key: torch.as_tensor(values, device=device) for key, values in read.items()}
        with torch.no_grad():
            logits = self.network.scores(tensors).cpu().numpy().astype(np.float64)
        if self.greedy:
            return logits
        noise = self._rng.gumbel(size=logits.shape)
        if self.greedy is None:
            noise[self.column(observation, "cluster", "common.kind_route") <= 0] = 0.0
        return logits + noise

    def _find(self, key: str) -> slice | list[int]:
        """Return which columns of an observation the network reads, in its order."""
        here = self.layout.names(key)
        if self.network.names is None:
            trained = self.network.columns[key]
            if trained != len(here):
                raise ValueError(
                    f"the model was trained with {trained} {key!r} columns, "
                    f"this environment has {len(here)}; train it again"
                )
            return slice(None)
        names = tuple(self.network.names[key])
        missing = [name for name in names if name not in here]
        if missing:
            raise ValueError(
                f"the model reads {key!r} columns that this environment does not have: "
                f"{', '.join(missing)}; train it again"
            )
        return slice(None) if names == here else [here.index(name) for name in names]
