"""A trained network behind the same interface as every heuristic."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from gpuyard.baselines import Observation, ScorePolicy
from gpuyard.envs.observation import TABLES

from .checkpoint import DAMAGED, read_tensors
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
    def load(cls, path: str | Path, greedy: bool | None = None) -> LearnedPolicy:
        """Load a model that training saved (``MaskablePPO.save``).

        Reading one runs no code of whoever made it: weights are read as tensors, all else as JSON;
        the pickles that such a file also holds are not touched.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is no model of the candidate-scoring network.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such model file")
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path}: not a zip file that MaskablePPO.save wrote")
        return cls(network_from(path), greedy)

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
        tensors = {
            key: torch.as_tensor(observation[key][..., at]) for key, at in self._columns.items()
        }
        tensors |= {key: torch.as_tensor(observation[key]) for key in ("action_mask", *SETS)}
        with torch.no_grad():
            logits = self.network.scores(tensors).numpy().astype(np.float64)
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


def network_from(path: Path) -> CandidatePolicy:
    """Build the network of an SB3 model file, from its JSON and its tensors alone.

    Raises:
        ValueError: it is another kind of model, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            data = json.loads(file.read("data"))
            if data["policy_class"]["__module__"] != CandidatePolicy.__module__:
                raise ValueError("not a model of the candidate-scoring network")
            kwargs = {key: data["policy_kwargs"].get(key) for key in ("width", "decides", "names")}
            network = CandidatePolicy(
                _observations(data["observation_space"]["spaces"]),
                spaces.Discrete(1),  # it scores any number of candidates
                lr_schedule=lambda _: 0.0,
                **{key: value for key, value in kwargs.items() if value is not None},
            )
            weights = read_tensors(file, "policy.pth")
            if (found := int(weights.get("network", 1))) != network.number:
                raise ValueError(
                    f"weights of network {found}, but this version has network {network.number}: "
                    "train it again, or use it with the version that made it"
                )
            network.load_state_dict(weights)
    except DAMAGED as error:
        problem = str(error) if type(error) is ValueError else "not a whole model"
        raise ValueError(f"{path}: {problem}; name a model.zip of gpuyard train") from error
    return network


_BOX = re.compile(r"'(\w+)': Box\([^()]*\(([\d, ]+)\), \w+\)")


def _observations(text: str) -> spaces.Dict:
    """Return the observation space that a model file describes in words."""
    shapes = {key: tuple(map(int, re.findall(r"\d+", shape))) for key, shape in _BOX.findall(text)}
    return spaces.Dict({key: spaces.Box(0.0, 1.0, shapes[key]) for key in TABLES})
