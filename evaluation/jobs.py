"""What is measured of the training jobs of one episode.

Per job, of the table that ``results(i)`` of a placement environment returns:

=================  =============================================================================
JCT                completion time: finish - arrival = JWT + JRT
JRT, JWT           time that it ran, and that it waited (before each of its runs)
slowdown           bounded slowdown max(1, JCT / max(d, 10 s)), d its ideal run time: on the
                   fastest GPUs without contention (Feitelson and Rudolph, JSSPP 1998, with d in
                   place of the time it ran, so that slow GPUs and contention count too)
run slowdown       JRT / d: what slow GPUs, stragglers and contention cost alone
rho                finish-time fairness (Themis: Mahajan et al., NSDI 2020): JCT over the time that
                   the job would take alone on a 1/N share of the cluster, N the mean number of
                   jobs in the system while it was there. A gang of g GPUs on a share of G/N of
                   the cluster's G takes d if g <= G/N, else d g N / G, by taking turns. Up to 1
                   the job did not lose by sharing
=================  =============================================================================

Of the episode: makespan (last finish - first arrival); utilisation (GPU-seconds run over G times
the makespan); Jain's index (Jain, Chiu and Hawe, DEC-TR-301, 1984) of the jobs' slowdowns and of
the tenants' mean slowdowns; and the wait split by its cause: network (enough GPUs were free, but
none of the allowed plans was possible: fragmentation) or GPUs (the rest).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.reward import SHORTEST_RUN_S

from .metrics import summarise

Table = dict[str, NDArray]

PERCENTILES = (50, 95, 99)


def job_metrics(jobs: Table, num_gpus: int) -> dict[str, float]:
    """Return the metrics of an episode.

    Args:
        jobs: its per-job table; jobs that have not finished count only as contenders for rho.
        num_gpus: GPUs of the cluster, G.

    Returns:
        For JCT, JRT and JWT names like ``jct_p99_s``; for slowdown, run slowdown and rho names
        like ``rho_p99``; and ``rho_max``, ``makespan_s``, ``utilisation``, ``jain_jobs``,
        ``jain_tenants``, ``network_wait_mean_s``, ``gpu_wait_mean_s``, ``network_wait_share``.
        Empty if no job has finished.
    """
    done = np.isfinite(jobs["finish_s"])
    if not done.any():
        return {}
    finished = {key: np.asarray(column)[done] for key, column in jobs.items()}
    slow, fairness = slowdown(finished), finish_time_fairness(jobs, num_gpus)[done]
    metrics: dict[str, float] = {}
    for name, values in completion(finished).items():
        metrics |= summarise(name, values, PERCENTILES, "_s")
    metrics |= summarise("slowdown", slow, PERCENTILES)
    metrics |= summarise("run_slowdown", finished["ran_s"] / finished["duration_s"], PERCENTILES)
    metrics |= summarise("rho", fairness, PERCENTILES)
    metrics |= waits(finished)
    makespan_s = float(finished["finish_s"].max() - jobs["arrival_s"].min())
    return metrics | {
        "rho_max": float(fairness.max()),
        "makespan_s": makespan_s,
        "utilisation": float((finished["gpus"] * finished["ran_s"]).sum() / num_gpus / makespan_s),
        "jain_jobs": jain(slow),
        "jain_tenants": jain(tenant_means(slow, finished["tenant"])),
    }


def to_the_end(jobs: Table, end_s: float) -> Table:
    """Return the table with the jobs that a truncated episode leaves counted up to its end.

    They have waited for all that time, as nothing came of it.
    """
    left = ~np.isfinite(jobs["finish_s"]) & (jobs["arrival_s"] <= end_s)
    counted = {
        "finish_s": np.full(len(left), end_s),
        "waited_s": end_s - jobs["arrival_s"],
        "ran_s": np.zeros(len(left)),
    }
    return jobs | {name: np.where(left, column, jobs[name]) for name, column in counted.items()}


def completion(finished: Table) -> dict[str, NDArray[np.float64]]:
    """Return ``jct``, ``jrt`` and ``jwt`` of finished jobs, seconds."""
    return {
        "jct": finished["finish_s"] - finished["arrival_s"],
        "jrt": np.asarray(finished["ran_s"], np.float64),
        "jwt": np.asarray(finished["waited_s"], np.float64),
    }


def slowdown(finished: Table) -> NDArray[np.float64]:
    """Return the bounded slowdown of finished jobs, at least 1."""
    completed_s = finished["finish_s"] - finished["arrival_s"]
    return np.maximum(1.0, completed_s / np.maximum(finished["duration_s"], SHORTEST_RUN_S))


def finish_time_fairness(jobs: Table, num_gpus: int) -> NDArray[np.float64]:
    """Return rho of every job; NaN for those that have not finished."""
    completed_s = jobs["finish_s"] - jobs["arrival_s"]
    share = jobs["gpus"] * mean_contenders(jobs) / num_gpus
    return completed_s / (jobs["duration_s"] * np.maximum(1.0, share))


def mean_contenders(jobs: Table) -> NDArray[np.float64]:
    """Return the mean number of jobs in the system from each one's arrival to its finish."""
    left_s = jobs["finish_s"][np.isfinite(jobs["finish_s"])]
    times = np.concatenate([jobs["arrival_s"], left_s])
    steps = np.repeat([1.0, -1.0], [len(jobs["arrival_s"]), len(left_s)])
    order = np.argsort(times, kind="stable")
    times, present = times[order], np.cumsum(steps[order])
    area = np.concatenate([[0.0], np.cumsum(present[:-1] * np.diff(times))])
    inside = np.interp(jobs["finish_s"], times, area) - np.interp(jobs["arrival_s"], times, area)
    return inside / (jobs["finish_s"] - jobs["arrival_s"])


def waits(finished: Table) -> dict[str, float]:
    """Return the mean wait for the network and for GPUs, seconds, and the former's share."""
    network_s, waited_s = finished["network_wait_s"], finished["waited_s"]
    total_s = float(waited_s.sum())
    return {
        "network_wait_mean_s": float(network_s.mean()),
        "gpu_wait_mean_s": float((waited_s - network_s).mean()),
        "network_wait_share": float(network_s.sum()) / total_s if total_s > 0 else 0.0,
    }


def jain(values: NDArray[np.float64]) -> float:
    """Return Jain's fairness index, (sum x)^2 / (n sum x^2): 1 if all are equal, at least 1/n."""
    return float(values.sum() ** 2 / (len(values) * (values**2).sum()))


def tenant_means(values: NDArray[np.float64], tenant: NDArray) -> NDArray[np.float64]:
    """Return the mean value of each tenant that has any."""
    _, of = np.unique(tenant, return_inverse=True)
    return np.bincount(of, weights=values) / np.bincount(of)
