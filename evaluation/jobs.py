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

All are of the jobs that arrive in the steady window (:mod:`.window`), whenever they finish; jobs
outside of it count as contenders for rho. Jain's index (Jain, Chiu and Hawe, DEC-TR-301, 1984) is
of the jobs' slowdowns and of the tenants' mean slowdowns. The wait is split by its cause: network
(enough GPUs were free, but none of the allowed plans was possible: fragmentation) or GPUs (the
rest). Utilisation is GPU seconds run inside the window, by whatever job, over G times its length; a
tenant's share is its part of them. Only the makespan is of the whole episode: last finish - first
arrival.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.reward import SHORTEST_RUN_S

from . import classes
from .metrics import Table, summarise
from .window import Window, steady

PERCENTILES = (50, 95, 99)


def job_metrics(jobs: Table, num_gpus: int, tenants: Sequence[str] = ()) -> dict[str, float]:
    """Return the metrics of an episode.

    Args:
        jobs: its per-job table; jobs that have not finished count only as contenders for rho.
        num_gpus: GPUs of the cluster, G.
        tenants: their names; their numbers stand for those that have none.

    Returns:
        For JCT, JRT and JWT names like ``jct_p99_s``; for slowdown, run slowdown and rho names
        like ``rho_p99``; ``rho_max``, ``makespan_s``, ``utilisation``, ``jain_jobs``,
        ``jain_tenants``, ``network_wait_mean_s``, ``gpu_wait_mean_s``, ``network_wait_share``; and
        what :func:`of_classes` tells apart. Empty if no job of the window has finished.
    """
    window = steady(jobs["arrival_s"], jobs["finish_s"])
    counted = window.holds(jobs["arrival_s"]) & np.isfinite(jobs["finish_s"])
    if not counted.any():
        return {}
    finished = {key: np.asarray(column)[counted] for key, column in jobs.items()}
    slow, fairness = slowdown(finished), finish_time_fairness(jobs, num_gpus)[counted]
    metrics: dict[str, float] = {}
    for name, values in completion(finished).items():
        metrics |= summarise(name, values, PERCENTILES, "_s")
    metrics |= summarise("slowdown", slow, PERCENTILES)
    metrics |= summarise("run_slowdown", finished["ran_s"] / finished["duration_s"], PERCENTILES)
    metrics |= summarise("rho", fairness, PERCENTILES)
    metrics |= waits(finished)
    busy_s = busy_gpu_s(jobs, window)
    metrics |= {
        "rho_max": float(fairness.max()),
        "makespan_s": float(np.nanmax(jobs["finish_s"]) - jobs["arrival_s"].min()),
        "utilisation": window.per_s(busy_s.sum()) / num_gpus,
        "jain_jobs": jain(slow),
        "jain_tenants": jain(tenant_means(slow, finished["tenant"])),
    }
    return metrics | of_classes(jobs, finished, busy_s, tenants)


def of_classes(
    jobs: Table, finished: Table, busy_s: NDArray[np.float64], tenants: Sequence[str]
) -> dict[str, float]:
    """Return what differs by priority and tenant (:mod:`.classes`).

    Args:
        jobs: all of the episode.
        finished: those that are measured.
        busy_s: GPU seconds of each of ``jobs`` inside the window.
        tenants: their names.

    Returns:
        Mean JCT and slowdown of each priority, with ``jct_weighted_s`` and ``jwt_weighted_s`` over
        all; the same and ``gpu_share`` of each tenant. Nothing where all are of one class.
    """
    values = {"jct_mean_s": completion(finished)["jct"], "slowdown_mean": slowdown(finished)}
    metrics = classes.means(values, "priority", classes.priorities(finished["priority"]))
    if metrics:
        weighted_s = classes.weighted_mean(values["jct_mean_s"], finished["priority"])
        metrics["jct_weighted_s"] = weighted_s
        waited_s = completion(finished)["jwt"]
        metrics["jwt_weighted_s"] = classes.weighted_mean(waited_s, finished["priority"])
    metrics |= classes.means(values, "tenant", _names(finished["tenant"], tenants))
    if busy_s.sum() > 0:
        metrics |= classes.shares("gpu_share", busy_s, "tenant", _names(jobs["tenant"], tenants))
    return metrics


def shares_of_deserved(queues: Table, names: Sequence[str]) -> dict[str, float]:
    """Return the part that queues got of the GPU time that they deserved and had gangs for.

    ``int min(held, deserved) dt / int min(held + asked, deserved) dt`` over the whole episode: 1 if
    a queue had all of it at any time. A definition of ours: KAI's and Volcano's metrics are moments
    (``queue_deserved_gpus``, ``queue_allocated_gpus``).

    Args:
        queues: the table of queues that deserve something.
        names: of each.

    Returns:
        ``deserved_share/tenant=t`` of each, and ``deserved_share_min``; queues that never had a
        gang are left out.
    """
    due_s, got_s = queues["due_gpu_s"], queues["got_gpu_s"]
    found = {
        f"deserved_share/tenant={name}": float(got / due)
        for name, due, got in zip(names, due_s, got_s, strict=True)
        if due > 0
    }
    return found | ({"deserved_share_min": min(found.values())} if found else {})


def _names(tenant: NDArray, names: Sequence[str]) -> list[str]:
    """Return the name of each job's tenant."""
    return [names[t] if t < len(names) else str(t) for t in tenant.tolist()]


def busy_gpu_s(jobs: Table, window: Window) -> NDArray[np.float64]:
    """Return the GPU seconds that each job ran inside the window.

    The table does not say when a job was interrupted: what it ran is spread evenly from its first
    start to its finish. A job that has not finished counts nothing.
    """
    inside_s = window.overlap_s(jobs["start_s"], jobs["finish_s"])
    rate = jobs["gpus"] * jobs["ran_s"] / (jobs["finish_s"] - jobs["start_s"])
    return np.nan_to_num(rate * inside_s)


def to_the_end(jobs: Table, end_s: float) -> Table:
    """Return the table with the jobs that a truncated episode leaves counted up to its end.

    They have waited for all that time, as nothing came of it. An ``end_s`` of NaN counts none.
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
