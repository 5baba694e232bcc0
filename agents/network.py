"""The candidate-scoring network: one encoder for all candidates, one logit per candidate.

    code_c  = relu(F relu(E [candidates[c], log_odds(candidates[c])]))      shape (width,)
    code_q  = relu(Q queue[q])                                              shape (ROW,)
    context = relu(W [cluster, queue[0], mean and max_c code_c, mean and max_q code_q, sets])
    logit_c = w_k . relu(A_k code_c + B_k context)
    value   = mlp_k(context)

Only feasible candidates c and rows q that hold something are looked at. ``sets`` says what all
devices and links together look like (:mod:`.sets`). The first row of the queue is what is to be
decided about, so it also stands for itself. The heads with a k are those of the kind of decision
that is due; all else is shared.

A stored quantity v = x / (x + scale) has log-odds log(x / scale), so that a sum of those is a
product of quantities, as in rules like (prefill + wait) * work.

No weight's shape depends on the number of candidates, queue rows, devices or links, so an agent
trained on one scenario acts on any other. The pooling is that of Zaheer et al., "Deep Sets"
(NeurIPS 2017).
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
from gpuyard.envs.observation import DECISIONS, TABLES, Layout

from . import sets

KEYS = (*TABLES, "sets", "action_mask")
"""The observations that the network reads; without ``sets`` it computes them itself."""
NETWORK = 3
"""Which network this is: a file of weights says whose they are. 1 had a single layer in the encoder
and no log-odds, 2 did not read sets and had the same heads for all kinds of decisions."""
SCALING_NETWORK = 4
"""The same where it scales: 3 did not count replicas (see :class:`CandidateEncoder`)."""
MOST = 4.0
"""Highest odds that are told apart: so many times what a scenario begins with."""
ROW = 16
"""Neurons of the code of a queue row."""
_COMMON = Layout(())  # common columns come first in every layout
IN_USE = [_COMMON.index("queue", name) for name in ("is_request", "is_gang")]
KINDS = [_COMMON.index("cluster", f"kind_{kind}") for kind in DECISIONS[:-1]]
"""The flags of all kinds of decisions but the last one, which is due where no other is."""


class Features(NamedTuple):
    """What the encoder hands to the heads, for n states with N feasible candidates in all.

    Attributes:
        codes: of the feasible candidates, state by state, shape (N, width).
        state, candidate: which state and which of its candidates each is, int64 (N,).
        mask: not 0 = feasible, of all candidates, shape (n, C).
        context: shape (n, width).
        outlook: what values are read from, shape (n, width).
        kinds: a flag for each of ``DECISIONS``, shape (n, 4).
    """

    codes: Tensor
    state: Tensor
    candidate: Tensor
    mask: Tensor
    context: Tensor
    outlook: Tensor
    kinds: Tensor


def columns(observation_space: spaces.Dict) -> dict[str, int]:
    """Return the number of columns of each observation key, its last axis."""
    return {key: (space.shape or (0,))[-1] for key, space in observation_space.items()}


def odds(values: Tensor) -> Tensor:
    """Return v / (1 - v) of values in [0, 1], at most :data:`MOST`."""
    return (values / (1.0 - values).clamp(min=1e-6)).clamp(max=MOST)


def log_odds(values: Tensor) -> Tensor:
    """Return log(v / (1 - v)) of values in [0, 1], clipped to 6 either way and divided by 3."""
    return torch.logit(values, eps=1.0 / (1.0 + math.exp(CLIP))) / SCALE


class CandidateEncoder(BaseFeaturesExtractor):
    """Turns a batch of observations into candidate codes and a pooled context.

    Args:
        observation_space: the environment's; only the numbers of columns are used.
        width: neurons per layer.
        counted: columns of candidates of which the odds are read too: numbers of replicas are
            stored as x / (x + scale), and only odds can be added up. With them values get a
            context of their own, so that what they learn changes nothing that the policy sees.
    """

    def __init__(
        self, observation_space: spaces.Dict, width: int = 64, counted: Sequence[int] = ()
    ):
        super().__init__(observation_space, features_dim=width)
        numbers = columns(observation_space)
        self.counted = list(counted)
        self.candidate = nn.Sequential(
            nn.Linear(2 * numbers["candidates"] + len(self.counted), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        )
        self.row = nn.Sequential(nn.Linear(numbers["queue"], ROW), nn.ReLU())
        read = numbers["cluster"] + numbers["queue"] + 2 * width + 2 * ROW + sets.SIZE
        self.context = nn.Sequential(nn.Linear(read, width), nn.ReLU())
        if self.counted:
            self.outlook = nn.Sequential(nn.Linear(read, width), nn.ReLU())

    def forward(self, observation: dict[str, Tensor]) -> Features:
        """Encode; observation arrays have a leading batch axis."""
        cluster, queue, candidates = (observation[key] for key in TABLES)
        mask = observation["action_mask"]
        state, candidate = mask.nonzero(as_tuple=True)
        chosen = candidates[state, candidate]
        read = (chosen, log_odds(chosen), odds(chosen[:, self.counted]))
        codes = self.candidate(torch.cat(read, dim=1))
        # Codes are >= 0, so that the 0 of a state without candidates, or of a row that is not in
        # use, never hides a maximum.
        nothing = codes.new_zeros(len(mask), codes.shape[1])
        count = mask.count_nonzero(dim=1).clamp(min=1).unsqueeze(1)
        mean = nothing.index_add(0, state, codes) / count
        highest = nothing.scatter_reduce(0, state.unsqueeze(1).expand_as(codes), codes, "amax")
        in_use = queue[..., IN_USE].amax(dim=-1, keepdim=True)
        rows = self.row(queue) * in_use
        parts = (
            *(cluster, queue[:, 0], mean, highest),
            *(rows.sum(dim=1) / in_use.sum(dim=1).clamp(min=1.0), rows.amax(dim=1)),
            observation["sets"] if "sets" in observation else sets.summary(observation),
        )
        whole = torch.cat(parts, dim=1)
        context = self.context(whole)
        outlook = self.outlook(whole.detach()) if self.counted else context
        flags = cluster[:, KINDS]
        kinds = torch.cat([flags, 1.0 - flags.sum(dim=1, keepdim=True)], dim=1)
        return Features(codes, state, candidate, mask, context, outlook, kinds)


class Head(nn.Module):
    """Scores the candidates of one kind of decision, and the states in which it is due.

    Args:
        width: neurons per layer, as in the encoder.
    """

    def __init__(self, width: int):
        super().__init__()
        self.from_code = nn.Linear(width, width)
        self.from_context = nn.Linear(width, width, bias=False)
        self.logit = nn.Linear(width, 1)
        self.value = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def logits(self, codes: Tensor, context: Tensor, state: Tensor) -> Tensor:
        """Return the logits (N,) of candidates, given their states' contexts (n, width)."""
        joint = torch.relu(
            self.from_code(codes) + self.from_context(context).index_select(0, state)
        )
        return self.logit(joint).squeeze(1)


class Heads(nn.Module):
    """A head for each kind of decision; a state is scored by that of the kind that is due.

    Args:
        width: neurons per layer, as in the encoder.
        decides: the kinds.
    """

    def __init__(self, width: int, decides: Sequence[str]):
        super().__init__()
        self.of = nn.ModuleDict({kind: Head(width) for kind in decides})
        self.kinds = [DECISIONS.index(kind) for kind in decides]

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return logits (n, C) and values (n, 1)."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Features) -> Tensor:
        """Return logits, shape (n, C); 0 for infeasible candidates."""
        codes, state, candidate, mask, context, *_ = features
        logits = codes.new_zeros(mask.shape)
        if len(self.of) == 1:
            (head,) = self.heads()
            return logits.index_put((state, candidate), head.logits(codes, context, state))
        due = self._due(features)[state]
        for number, head in enumerate(self.heads()):
            its = (due == number).nonzero().squeeze(1)
            scores = head.logits(codes.index_select(0, its), context, state[its])
            logits = logits.index_put((state[its], candidate[its]), scores)
        return logits

    def forward_critic(self, features: Features) -> Tensor:
        """Return values, shape (n, 1)."""
        values = torch.cat([head.value(features.outlook) for head in self.heads()], dim=1)
        return values if len(self.of) == 1 else values.gather(1, self._due(features).unsqueeze(1))

    def heads(self) -> list[Head]:
        """Return the heads, in the order of their kinds."""
        return [cast(Head, head) for head in self.of.values()]

    def _due(self, features: Features) -> Tensor:
        """Return the number of each state's head, int64 (n,): the first where nothing is due."""
        return features.kinds[:, self.kinds].argmax(dim=1)


class CandidatePolicy(MaskableMultiInputActorCriticPolicy):
    """The network as a policy of sb3-contrib's ``MaskablePPO``.

    Args:
        observation_space: Dict with ``cluster``, ``queue``, ``candidates`` and ``action_mask``.
        action_space: ``Discrete(C)``, one action per candidate.
        lr_schedule: learning rate by remaining progress.
        width: neurons per layer.
        decides: kinds of decisions that it is trained for; None: not known, so heads for all.
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
            features_extractor_kwargs={"width": width, "counted": counted(names)},
            **kwargs,
        )

    @property
    def number(self) -> int:
        """Which network this is: what the file of its weights says too."""
        return SCALING_NETWORK if counted(self.names) else NETWORK

    @property
    def columns(self) -> dict[str, int]:
        """Columns of each observation key that the network was made for."""
        return columns(cast(spaces.Dict, self.observation_space))

    def scores(self, observation: dict[str, Tensor]) -> Tensor:
        """Return logits (n, C) before masking, for any number of candidates C."""
        return self.mlp_extractor.forward_actor(self.features_extractor(observation))

    def obs_to_tensor(self, observation: Any) -> tuple[Any, bool]:
        """Return what is read of an observation as tensors, and whether it is a batch.

        It may be one of the environment itself, of which :class:`.sb3.SB3VecEnv` hands on a part.
        """
        keys = cast(spaces.Dict, self.observation_space).spaces
        return super().obs_to_tensor(sets.chosen(observation, keys))

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that only values depend on."""
        encoder = cast(CandidateEncoder, self.features_extractor)
        heads = cast(Heads, self.mlp_extractor).heads()
        parts = [head.value for head in heads] + ([encoder.outlook] if encoder.counted else [])
        return [parameter for part in parts for parameter in part.parameters()]

    def _build(self, lr_schedule: Schedule) -> None:
        self.register_buffer("network", torch.tensor(self.number))
        heads = Heads(self.width, self.decides or DECISIONS)
        self.mlp_extractor = heads  # type: ignore[assignment]
        self.action_net = nn.Identity()  # the heads give logits and values themselves
        self.value_net = nn.Identity()  # type: ignore[assignment]
        for layer in self.modules():
            self.init_weights(layer, gain=np.sqrt(2.0))
        for head in heads.heads():
            # A nearly uniform first policy (SB3's rule for the last policy layer).
            self.init_weights(head.logit, gain=0.01)
            self.init_weights(head.value[-1], gain=1.0)
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


def counted(names: Mapping[str, Sequence[str]] | None) -> list[int]:
    """Return the columns of candidates whose odds are read too: those of scaling."""
    of = names["candidates"] if names is not None else ()
    return [at for at, name in enumerate(of) if name.startswith("scale.")]


def trained_for(layout: Layout) -> dict[str, Any]:
    """Return the policy's arguments that say what it was trained on: they go into its file."""
    names = {key: list(layout.names(key)) for key in TABLES}
    return {"decides": list(layout.decisions), "names": names}
