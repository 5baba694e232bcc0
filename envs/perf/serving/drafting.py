"""What drafting costs: device memory, and seconds of a step.

A model that drafts reads a step's tokens once, prompts too, beside the replica's own model: that
pass is part of the replica's own table (:func:`tabulate`). K - 1 passes follow with a token of each
decoding sequence, and a head behind each. On top comes what the host does for it, which planning
ahead does not hide: what is accepted decides what the drafts begin with::

    draft = fixed_s + sequence_s * B + head[B]
            + (K - 1) (linear[B] + head[B] + decode(B, C + B K / 2))

with C the cached tokens of the B sequences, and the drafter's own coefficients and tables.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .constants import constants
from .cost_table import CostTable
from .deployment import Deployment
from .host import host_s, sampler_s
from .iteration import coefficients, decode_s
from .speculation import drafter, mean_accepted_length
from .tokenwise import head_s, linear_s

SUMMED = ("dec_", "mix_", "pre_")
EXCEPT = ("pre_pad", "pre_alone_s")
"""Coefficients that add up over layers, whose attention runs one after the other."""


@lru_cache(maxsize=256)
def draft_table(deployment: Deployment) -> CostTable | None:
    """Return the costs of a drafting model's passes, its host's time left out; None without one."""
    draft = drafter(deployment)
    if draft is None:
        return None
    tokens = np.arange(draft.max_num_batched_tokens + 1)
    sequences = np.arange(draft.max_num_seqs + 1)
    linear = linear_s(draft, tokens) - host_s(draft)
    head = head_s(draft, sequences) - sampler_s(draft, sequences / draft.shards)
    linear[0] = head[0] = 0.0
    linear.flags.writeable = head.flags.writeable = False
    return CostTable(coefficients(draft), linear, head)


def with_drafter(table: CostTable, draft: CostTable) -> CostTable:
    """Return a replica's costs where a drafting model reads all tokens of a step, too."""
    cost = table.coefficients.copy()
    for name in cost.dtype.names or ():
        if name.startswith(SUMMED) and name not in EXCEPT:
            cost[name] += draft.coefficients[name]
    linear = table.linear_s + draft.linear_s
    linear.flags.writeable = False
    return CostTable(cost, linear, table.head_s, table.sources)


def host_draft_s(deployment: Deployment) -> tuple[float, float]:
    """Return host seconds of a step that drafts: of the step, and of each sequence that does.

    The tables have the sampler's time for every token that is verified; those rejected are neither
    detokenised nor sent, so theirs is taken back here.

    Raises:
        AssertionError: the replica does not speculate.
    """
    how = deployment.speculation
    assert how is not None
    row = constants("speculation", deployment.gpu)
    rejected = how.width - mean_accepted_length(how)
    unsent_s = rejected * float(sampler_s(deployment, 1.0 / deployment.shards))
    if how.kind == "ngram":
        return 0.0, row["match_us"] * 1e-6 - unsent_s
    return row["step_us"][deployment.stack] * 1e-6, -unsent_s


def draft_s(deployment: Deployment, sequences: int, context: int) -> float:
    """Return the seconds of a step in which ``sequences`` draft, besides those of its table."""
    how, draft = deployment.speculation, draft_table(deployment)
    assert how is not None
    fixed_s, sequence_s = host_draft_s(deployment)
    seconds = fixed_s + sequence_s * sequences
    if draft is not None:
        further, c = how.draft_length - 1, draft.coefficients
        mean = context + sequences * how.draft_length / 2
        attention = float(decode_s(c, sequences, mean))
        seconds += draft.head_s[sequences]
        seconds += further * (draft.linear_s[sequences] + draft.head_s[sequences] + attention)
    return float(seconds)


def decode_round_s(deployment: Deployment, table: CostTable, sequences: int, context: int) -> float:
    """Return seconds of a decode step over the mean tokens that it gives each sequence.

    Args:
        deployment: the replica.
        table: its costs.
        sequences: that decode.
        context: their cached tokens in total.
    """
    how, c = deployment.speculation, table.coefficients
    drafts = how is not None and sequences <= (how.most_sequences or sequences)
    width = how.width if how is not None and drafts else 1
    rows = sequences * width
    seconds = table.linear_s[rows] + table.head_s[rows]
    seconds += decode_s(c, sequences, context, width)
    if how is not None and drafts:
        seconds += draft_s(deployment, sequences, context)
    seconds = max(float(seconds), c["host_s"] + c["host_seq_s"] * sequences)
    return seconds / mean_accepted_length(how) if how is not None and drafts else seconds
