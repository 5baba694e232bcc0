"""Speculation once more, naive: what a request accepts, and the passes of what drafts, one by one.

Random numbers are those of the engine by definition (splitmix64's finaliser of seed, request and
token), written again in whole numbers of Python.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpuyard.envs.perf.serving.cost_table import CostTable

WORD = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Drafting:
    """How a replica drafts; ``table`` None: no model does."""

    length: int
    most: int  # sequences that decode in a step which drafts
    lookahead: int  # tokens beyond the next one that have blocks
    low: float
    high: float
    step_s: float = 0.0
    sequence_s: float = 0.0
    table: CostTable | None = None

    def seconds(self, sequences: int, cached: int) -> float:
        """Seconds of all passes but the first one, which the replica's own table has."""
        total = self.step_s + self.sequence_s * sequences
        if self.table is None:
            return total
        cost = self.table.coefficients
        for number in range(self.length):
            total += float(self.table.head_s[sequences])
            if number > 0:
                context = cached + number * sequences
                total += float(self.table.linear_s[sequences])
                total += float(cost["dec_fixed_s"] + cost["dec_seq_s"] * sequences)
                total += float(cost["dec_token_s"] * context + cost["dec_row_s"] * sequences)
        return total


def mix(key: int) -> int:
    """The finaliser of splitmix64, Stafford's variant 13."""
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & WORD
    return key ^ (key >> 31)


def draw(seed: int, request: int, count: int) -> float:
    """A float in (0, 1)."""
    key = mix((seed + GAMMA * (request + 1)) & WORD)
    return ((mix((key + GAMMA * (count + 1)) & WORD) >> 11) + 0.5) * 2.0**-53


def accepted(how: Drafting, seed: int, request: int, generated: int) -> int:
    """How many drafted tokens a request with ``generated`` tokens accepts."""
    rate = how.low + (how.high - how.low) * draw(seed, request, -1)
    luck = draw(seed, request, generated)
    return sum(luck < rate**n for n in range(1, how.length + 1))
