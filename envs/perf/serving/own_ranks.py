"""What one rank of a replica with attention data parallelism costs, where ranks step together.

The tables of such a replica are for a batch that is spread evenly. A rank's own step is that of a
batch in which every rank has as many tokens as it has: attention and dense layers of its own, and
experts that see the fullest rank's tokens of every one. That is what padded batches compute: vLLM
pads the tokens of all ranks to the largest, ``vllm/v1/worker/dp_utils.py``; with kernels that send
no padding it is an upper bound.
"""

from __future__ import annotations

import numpy as np

from .cost_table import CostTable

SHARED = ("dec_fixed_s", "dec_log_s")
"""Decode coefficients that do not grow with the sequences, so that no rank has a share of them."""


def of_one_rank(table: CostTable, ranks: int) -> CostTable:
    """Return the costs of one of ``ranks`` from those of all, indexed by its own tokens."""
    if ranks == 1:
        return table
    cost = table.coefficients.copy()
    for name in cost.dtype.names or ():
        if name.startswith(("dec_", "mix_")) and name not in SHARED:
            cost[name] *= ranks
    cost["pre_alone_s"], cost["other_shards"] = 0.0, 0.0  # no rank computes another one's prompts
    linear, head = (np.ascontiguousarray(rows[::ranks]) for rows in (table.linear_s, table.head_s))
    return CostTable(cost, linear, head, table.sources)
