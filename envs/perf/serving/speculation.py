"""Speculative decoding: what drafts tokens on a replica, how many, and how many are accepted.

In one step every decoding sequence drafts ``draft_length`` = K tokens, which the model verifies
together with the one that follows: ``K + 1`` tokens of each go through it. Of the drafted ones the
first are accepted, each with the rate ``a`` of its request, up to the first that is not; one more
comes from the model itself. On average a step yields (1 - a^(K+1)) / (1 - a) tokens. Source:
Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding", ICML
2023, equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ...hardware.catalogue import Model

if TYPE_CHECKING:
    from .deployment import Deployment

KINDS = ("draft-model", "ngram", "eagle", "mtp")
"""A model of its own; tokens that followed the same ones before, found by the host; one layer and a
head, trained on the model's hidden states; the model's own layers for further tokens."""
MOST_DRAFTED = 64
EAGLE_VOCAB = 32_000
"""Tokens that an EAGLE-3 head can draft: the frequent ones. Source: the published heads."""


@dataclass(frozen=True)
class Speculation:
    """How a replica drafts.

    Attributes:
        kind: one of :data:`KINDS`.
        draft_length: K, tokens that each sequence drafts in a step.
        acceptance: least and largest rate of a request: each has its own, uniform between them.
        most_sequences: no step drafts in which more sequences decode (``disable_by_batch_size`` of
            vLLM); 0: all do.
        draft_model: of the kind ``draft-model``.
        draft_tp: GPUs that it is spread over: 1, or 0 for all of the replica.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """

    kind: str
    draft_length: int = 3
    acceptance: tuple[float, float] = (0.7, 0.7)
    most_sequences: int = 0
    draft_model: Model | None = None
    draft_tp: int = 0

    def __post_init__(self) -> None:
        low, high = self.acceptance
        for name, allowed, remedy in (
            ("kind", self.kind in KINDS, f"use one of {', '.join(KINDS)}"),
            ("draft_length", 1 <= self.draft_length <= MOST_DRAFTED, f"give 1 to {MOST_DRAFTED}"),
            ("acceptance", 0 <= low <= high < 1, "give a rate from 0 to below 1, or two that rise"),
            ("most_sequences", self.most_sequences >= 0, "give a whole number >= 0; 0: all"),
            ("draft_tp", self.draft_tp in (0, 1), "give 1, or 0 for all GPUs of the replica"),
        ):
            if not allowed:
                raise ValueError(f"speculation.{name} = {getattr(self, name)!r}: {remedy}")
        if (self.draft_model is not None) != (self.kind == "draft-model"):
            given = self.draft_model.name if self.draft_model else ""
            remedy = "name a model of the catalogue" if not given else f"leave it out: {self.kind}"
            raise ValueError(f"speculation.draft_model = {given!r}: {remedy}")

    @property
    def width(self) -> int:
        """Tokens that a decoding sequence has in a step: those drafted and one more."""
        return self.draft_length + 1

    @property
    def lookahead(self) -> int:
        """Tokens beyond the next one whose KV blocks a drafting sequence holds.

        Those drafted, and where a model drafts as many again, for its own passes after the step.
        Source: vLLM's scheduler, ``num_lookahead_tokens``.
        """
        return self.draft_length * (1 if self.kind == "ngram" else 2)


def accepted_length(rate: float, draft_length: int) -> float:
    """Return the mean tokens of a step in which a sequence drafts, at least 1."""
    return float((1 - rate ** (draft_length + 1)) / (1 - rate))


def mean_accepted_length(speculation: Speculation) -> float:
    """Return the mean over requests, whose rates are uniform between two.

    Sum over i = 0 .. K of the mean of a^i.
    """
    low, high = speculation.acceptance
    if high == low:
        return accepted_length(low, speculation.draft_length)
    powers = range(1, speculation.width + 1)
    return sum((high**i - low**i) / (i * (high - low)) for i in powers)


@lru_cache(maxsize=256)
def drafter(deployment: Deployment) -> Deployment | None:
    """Return what drafts on a replica as a deployment of its own; None: no model does.

    Its weights are in 16 bits, but those of the model's own layers in the model's format.

    Raises:
        ValueError: it cannot be spread like that; naming field, value and remedy.
    """
    d, how = deployment, deployment.speculation
    if how is None or how.kind == "ngram":
        return None
    if how.kind == "mtp":
        return replace(d, model=_further_layer(d.model), speculation=None)
    model = how.draft_model or _eagle(d.model)
    plain = "bf16" if d.gpu.bf16_flops else "fp16"
    tp = how.draft_tp or d.tp
    try:
        return replace(
            d, model=model, tp=tp, ep=1, dtype=plain, redundant_experts=0, speculation=None
        )
    except ValueError as error:
        raise ValueError(f"speculation.draft_tp = {how.draft_tp!r}: {error}") from None


def check(deployment: Deployment) -> None:
    """Refuse speculation that does not go with a replica.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """
    d, how = deployment, deployment.speculation
    if how is None:
        return
    if d.pp > 1:
        raise ValueError(f"pp = {d.pp}: no engine drafts with pipeline stages; use pp = 1")
    if d.dp > 1 and how.kind in ("draft-model", "eagle"):
        raise ValueError(
            f"speculation.kind = {how.kind!r}: with dp = {d.dp} only mtp and ngram are modelled"
        )
    if how.kind == "ngram" and d.scheduling == "async":
        raise ValueError(
            "scheduling = 'async': the host needs a step's tokens to find n-grams; use sync, or "
            "leave it out"
        )
    if how.kind == "mtp" and not d.model.mtp_layers:
        raise ValueError(
            f"speculation.kind = 'mtp': {d.model.name} has no layers for further tokens "
            "(mtp_layers); use eagle, draft-model or ngram"
        )
    model = how.draft_model
    if model is not None and model.vocab != d.model.vocab:
        raise ValueError(
            f"speculation.draft_model = {model.name!r}: its vocabulary of {model.vocab} is not the "
            f"{d.model.vocab} of {d.model.name}; a draft needs the same tokenizer"
        )
    most = min(how.most_sequences or d.max_num_seqs, d.max_num_seqs) * how.width
    if d.max_num_batched_tokens <= most:
        raise ValueError(
            f"max_num_batched_tokens = {d.max_num_batched_tokens}: it must be above the {most} "
            "tokens of all sequences that draft; raise it, or lower max_num_seqs, "
            "speculation.draft_length or speculation.most_sequences"
        )
    drafter(d)


def _eagle(model: Model) -> Model:
    """Return one dense layer like the model's and a head over fewer tokens.

    Left out: the projection of the hidden states that it starts from.
    """
    width = model.ffn or model.active_experts * model.expert_ffn + model.shared_ffn
    return replace(
        _plain_layer(model),
        name=f"EAGLE of {model.name}",
        ffn=width,
        experts=0,
        active_experts=0,
        expert_ffn=0,
        shared_ffn=0,
        dense_layers=1,
        vocab=min(model.vocab, EAGLE_VOCAB),
        tied=True,  # the embedding is the model's: only the head is its own
    )


def _further_layer(model: Model) -> Model:
    """Return one layer for further tokens, like the model's last; embedding and head are shared."""
    dense = 0 if model.experts else 1
    return replace(_plain_layer(model), name=f"MTP of {model.name}", dense_layers=dense)


def _plain_layer(model: Model) -> Model:
    """Return the model with one layer, which sees the whole context."""
    return replace(
        model,
        layers=1,
        window=0,
        window_layers=0,
        linear_layers=0,
        linear_params=0,
        state_bytes=0,
        vision_params=0.0,
        vision_tokens=0,
        mtp_layers=0,
    )
