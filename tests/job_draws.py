"""Jobs of a generator."""

import numpy as np


def draw(jobs, n=5000, seed=0):
    return jobs.sample(np.random.default_rng(seed), n)
