"""Cross-entropy search for the numbers that score best.

Source: R. Rubinstein, "The cross-entropy method for combinatorial and continuous optimization",
Methodology and Computing in Applied Probability 1, 1999; with a floor under the spread, for which
Szita and Lőrincz, "Learning Tetris using the noisy cross-entropy method", Neural Computation 18,
2006, show the need. Own because a diagonal Gaussian, which some forty features of unlike meaning
ask for, is a few lines, and one state that is plain to save; CMA-ES adapts a full covariance, for
which the few generations of a search over noisy episodes do not suffice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ELITE = 0.2  # share of the samples that the next generation is drawn around
STEP = 0.7  # how far the mean moves towards the elite's
SPREAD_STEP = (
    0.3  # how far the spread does; at 0.7 forty features were frozen after ten generations
)
FLOOR = 0.1  # smallest spread, share of the first

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Effort:
    """How much to search.

    Attributes:
        generations: in all, those of an earlier run included.
        samples: policies per generation.
        episodes: per policy and generation.
        seed: of the samples; training episodes count up from it.
    """

    generations: int = 60
    samples: int = 40
    episodes: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse an effort that is no search."""
        for field, low in (("generations", 1), ("samples", 4), ("episodes", 1), ("seed", 0)):
            if getattr(self, field) < low:
                raise ValueError(f"{field} = {getattr(self, field)} must be at least {low}")


@dataclass
class CrossEntropy:
    """A normal distribution over D numbers that moves to where samples score high.

    Attributes:
        mean: shape (D,).
        spread: standard deviations, shape (D,).
        floor: smallest spread, shape (D,).
        generation: how many have been told.
        seed: of the samples; each generation draws from a generator of its own, so that a search
            that goes on from a file draws what it would have drawn.
    """

    mean: Floats
    spread: Floats
    floor: Floats
    generation: int = 0
    seed: int = 0

    @classmethod
    def around(cls, mean: Floats, spread: Floats, seed: int) -> CrossEntropy:
        """Return a search that begins at ``mean``."""
        return cls(mean, spread, FLOOR * spread, 0, seed)

    def ask(self, samples: int) -> Floats:
        """Return samples of this generation, shape (samples, D), the mean first."""
        rng = np.random.default_rng([self.seed, self.generation])
        noise = rng.standard_normal((samples, len(self.mean)))
        noise[0] = 0.0
        return self.mean + self.spread * noise

    def tell(self, samples: Floats, scores: Floats) -> None:
        """Move towards the best of ``samples``, by their ``scores`` (higher is better)."""
        best = np.argsort(-scores, kind="stable")[: max(2, round(ELITE * len(scores)))]
        elite = samples[best]
        self.mean = self.mean + STEP * (elite.mean(axis=0) - self.mean)
        self.spread = self.spread + SPREAD_STEP * (elite.std(axis=0) - self.spread)
        self.spread = np.maximum(self.spread, self.floor)
        self.generation += 1
