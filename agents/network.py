"""The candidate-scoring network: one encoder for all candidates, one logit per candidate.

    code_c  = relu(F relu(E [candidates[c], log_odds(candidates[c])]))      shape (width,)
    context = relu(W [cluster, queue[0], mean_c code_c, max_c code_c])      over feasible c
    logit_c = w . relu(A code_c + B context)
    value   = mlp(context)

A stored quantity v = x / (x + scale) has log-odds log(x / scale), so that a sum of those is a
product of quantities, as in rules like (prefill + wait) * work.

No weight's shape depends on the number of candidates, queue rows, devices or links, so an agent
trained on one scenario acts on any other. The pooling is that of Zaheer et al., "Deep Sets"
(NeurIPS 2017). Infeasible candidates are left out of the work where that is most of them, as when
gangs are placed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from gpuyard.baselines.linear import CLIP, SCALE
from gpuyard.envs.observation import TABLES, Layout

KEYS = (*TABLES, "action_mask")
"""The observations that the network reads."""
NETWORK = 2
"""Which network this is: a file of weights says whose they are. 1 had a single layer in the encoder
and no log-odds."""


class Features(NamedTuple):
    """What the encoder hands to the heads; M is the largest number of feasible candidates.

    Attributes:
        codes: of the feasible candidates, then of others, shape (n, M, width).
        rows: which candidates those are, int64 (n, M); None: all C, in order.
        mask: 1 = feasible, of all candidates, float (n, C).
        context: shape (n, width).
    """

    codes: Tensor
    rows: Tensor | None
    mask: Tensor
    context: Tensor


def columns(observation_space: spaces.Dict) -> dict[str, int]:
    """Return the number of columns of each observation key, its last axis."""
    return {key: (space.shape or (0,))[-1] for key, space in observation_space.items()}


def log_odds(values: Tensor) -> Tensor:
    """Return log(v / (1 - v)) of values in [0, 1], clipped to 6 either way and divided by 3."""
    return torch.logit(values, eps=1.0 / (1.0 + math.exp(CLIP))) / SCALE


class CandidateEncoder(BaseFeaturesExtractor):
    """Turns a batch of observations into candidate codes and a pooled context.

    Args:
        observation_space: the environment's; only the numbers of columns are used.
        width: neurons per layer.
    """

    def __init__(self, observation_space: spaces.Dict, width: int = 64):
        super().__init__(observation_space, features_dim=width)
        numbers = columns(observation_space)
        self.candidate = nn.Sequential(
            nn.Linear(2 * numbers["candidates"], width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        )
        pooled = numbers["cluster"] + numbers["queue"] + 2 * width
        self.context = nn.Sequential(nn.Linear(pooled, width), nn.ReLU())

    def forward(self, observation: dict[str, Tensor]) -> Features:
        """Encode; observation arrays have a leading batch axis."""
        mask = observation["action_mask"].to(observation["candidates"].dtype)
        feasible, chosen, rows = mask, observation["candidates"], None
        most = max(int(mask.sum(dim=1).max()), 1)
        if most < mask.shape[1]:
            rows = mask.argsort(dim=1, descending=True, stable=True)[:, :most]
            feasible = mask.gather(1, rows)
            chosen = chosen.gather(1, rows.unsqueeze(-1).expand(-1, -1, chosen.shape[-1]))
        codes = self.candidate(torch.cat((chosen, log_odds(chosen)), dim=-1))
        shares = feasible / feasible.sum(dim=1, keepdim=True).clamp(min=1.0)
        mean = torch.bmm(shares.unsqueeze(1), codes).squeeze(1)
        # Codes are >= 0, so an infeasible candidate, set to 0, never is the maximum.
        highest = (codes * feasible.unsqueeze(-1)).amax(dim=1)
        parts = (observation["cluster"], observation["queue"][:, 0], mean, highest)
        return Features(codes, rows, mask, self.context(torch.cat(parts, dim=-1)))


class CandidateHeads(nn.Module):
    """Scores every candidate, and the state.

    Args:
        width: neurons per layer, as in the encoder.
    """

    def __init__(self, width: int):
        super().__init__()
        self.from_code = nn.Linear(width, width)
        self.from_context = nn.Linear(width, width, bias=False)
        self.logit = nn.Linear(width, 1)
        self.value = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return logits (n, C) and values (n, 1)."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Features) -> Tensor:
        """Return logits, shape (n, C); those of infeasible candidates mean nothing."""
        codes, rows, mask, context = features
        joint = torch.relu(self.from_code(codes) + self.from_context(context).unsqueeze(1))
        logits = self.logit(joint).squeeze(-1)
        if rows is None:
            return logits
        return torch.zeros_like(mask).scatter(1, rows, logits)

    def forward_critic(self, features: Features) -> Tensor:
        """Return values, shape (n, 1)."""
        return self.value(features.context)


class CandidatePolicy(MaskableMultiInputActorCriticPolicy):
    """The network as a policy of sb3-contrib's ``MaskablePPO``.

    Args:
        observation_space: Dict with ``cluster``, ``queue``, ``candidates`` and ``action_mask``.
        action_space: ``Discrete(C)``, one action per candidate.
        lr_schedule: learning rate by remaining progress.
        width: neurons per layer.
        decides: kinds of decisions that it is trained for; None: not known.
        names: full names of the columns of each table that it reads; None: not known.
        kwargs: passed on to the parent.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        width: int = 64,
        decides: Sequence[str] | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ):
        self.width, self.decides, self.names = width, decides, names
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            features_extractor_class=CandidateEncoder,
            features_extractor_kwargs={"width": width},
            **kwargs,
        )

    @property
    def columns(self) -> dict[str, int]:
        """Columns of each observation key that the network was made for."""
        return columns(cast(spaces.Dict, self.observation_space))

    def scores(self, observation: dict[str, Tensor]) -> Tensor:
        """Return logits (n, C) before masking, for any number of candidates C."""
        return self.mlp_extractor.forward_actor(self.features_extractor(observation))

    def _build(self, lr_schedule: Schedule) -> None:
        self.register_buffer("network", torch.tensor(NETWORK))
        heads = CandidateHeads(self.width)
        self.mlp_extractor = heads  # type: ignore[assignment]
        self.action_net = nn.Identity()  # the heads give logits and values themselves
        self.value_net = nn.Identity()  # type: ignore[assignment]
        for layer in self.modules():
            self.init_weights(layer, gain=np.sqrt(2.0))
        # A nearly uniform first policy (SB3's rule for the last policy layer).
        self.init_weights(heads.logit, gain=0.01)
        self.init_weights(heads.value[-1], gain=1.0)
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1.0),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        for key in ("features_extractor_class", "features_extractor_kwargs"):
            del data[key]  # follow from the width
        return {**data, "width": self.width, "decides": self.decides, "names": self.names}


def trained_for(layout: Layout) -> dict[str, Any]:
    """Return the policy's arguments that say what it was trained on: they go into its file."""
    names = {key: list(layout.names(key)) for key in TABLES}
    return {"decides": list(layout.decisions), "names": names}
