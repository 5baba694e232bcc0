"""Communication of the jobs in the vClos study (arXiv 2308.05692): shares and unit times.

Facts read in the authors' simulator, github.com/nothepeople/RapidNetSim (no licence: facts only).
"""

from __future__ import annotations

SHARES: dict[str, dict[int, float]] = {
    "VGG16": {4: 0.25, 8: 0.23, 16: 0.16, 32: 0.10, 64: 0.07, 96: 0.04},
    "ResNet50": {16: 0.04, 32: 0.05, 64: 0.04, 96: 0.03, 128: 0.02},
    "ResNet101": {16: 0.05, 32: 0.05, 64: 0.04, 96: 0.02},
    "BERT": {16: 0.12, 32: 0.08},
}
"""Share of an iteration spent communicating, by model and batch per GPU."""
PANGU: dict[str, float] = {
    "all_reduce": 0.0737,
    "all_to_all": 0.258,
    "all_gather": 0.0158,
    "reduce_scatter": 0.0002,
}
"""The same for the large model, by collective; together 0.3477."""


def unit_time_s(
    algorithm: str, gpus: int, gpus_per_server: int = 4, inside: float = 1000, link: float = 100
) -> float:
    """Return the time of a collective on a message of size 1, nothing else on the network.

    The study turns a job's share into bytes with it: ``size = time share / unit time``. Rates and
    sizes share a unit (Gb there). Halving-doubling exchanges ``1/2^(t+1)`` in round t, twice;
    pairwise sends n-1 whole messages; the hierarchical ring counts the network part as ``1/g``, not
    ``2 (m-1)/m 1/g`` of the message.

    Raises:
        ValueError: naming the argument, its value and the remedy.
    """
    g = gpus_per_server
    if gpus < 2:
        raise ValueError(f"gpus = {gpus}: a collective needs at least 2")
    if algorithm == "halving_doubling":
        if gpus & (gpus - 1):
            raise ValueError(f"gpus = {gpus}: halving_doubling needs a power of two; use ring")
        rounds = range(gpus.bit_length() - 1)
        return sum(2 / 2 ** (t + 1) / (inside if 2**t < g else link) for t in rounds)
    if algorithm == "ring":
        if gpus <= g:
            return (gpus - 1) / gpus / inside
        return 2 * (g - 1) / g / inside + 1 / g / link
    if algorithm == "pairwise":
        return (gpus - 1) / (link if gpus > g else inside)
    raise ValueError(f"algorithm = {algorithm!r}: use halving_doubling, ring or pairwise")
