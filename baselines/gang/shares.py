"""Max-min fair shares of time on GPUs of several types."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_EVEN = 1e-6  # weight of the mean beside the minimum: what the minimum leaves free is used


def max_min_shares(throughput: Array, gpus: Array, capacity: Array) -> Array:
    """Return the share of its time that each job spends on each type of GPU.

    Source: D. Narayanan et al. (Gavel), OSDI 2020, section 4.1: maximise the least of
    ``gpus_j sum_k throughput_jk x_jk / equal_j`` such that a job runs in one place at a time
    (``sum_k x_jk <= 1``) and no type is overbooked (``sum_j gpus_j x_jk <= capacity_k``). ``equal``
    is a job's throughput when its time is split over the types in proportion to their GPUs. The
    mean, weighted with 1e-6, breaks ties.

    Args:
        throughput: (jobs, types), 0 where a job cannot run.
        gpus: (jobs,).
        capacity: (types,), GPUs.

    Returns:
        Shares, (jobs, types).

    Raises:
        ImportError: without SciPy.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, hstack, kron, vstack

    jobs, types = throughput.shape
    equal = throughput @ (capacity / max(capacity.sum(), 1.0))
    able = equal > 0  # the others' nodes have all failed: they must not hold down the least gain
    if not able.any():
        return np.zeros_like(throughput)
    gain = gpus[:, None] * throughput / np.where(able, equal, 1.0)[:, None]
    per_job = kron(np.eye(jobs), np.ones((1, types)))
    # variables: x_jk row by row, then the least gain
    constraints = vstack(
        [
            hstack([-per_job.multiply(gain.ravel()), csr_array(able[:, None] * 1.0)]),
            hstack([per_job, csr_array((jobs, 1))]),
            hstack([kron(gpus[None, :], np.eye(types)), csr_array((types, 1))]),
        ]
    )
    bound = np.concatenate([np.zeros(jobs), np.ones(jobs), capacity])
    result = linprog(
        -np.append(_EVEN * gain.ravel() / jobs, 1.0),
        A_ub=constraints.tocsr(),
        b_ub=bound,
        bounds=[*((0.0, float(can)) for can in (throughput > 0).ravel()), (0.0, None)],
        method="highs",
    )
    if not result.success:  # feasible (all zero) and bounded: only the solver itself can fail
        raise RuntimeError(f"gang/gavel: HiGHS failed: {result.message}")
    shares: Array = result.x[:-1].reshape(jobs, types)
    return shares
