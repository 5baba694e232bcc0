"""Results of classes of requests or jobs: of each priority, tenant and service.

A class has a key of its own, ``metric/dimension=label``: ``jct_mean_s/priority=1``,
``gpu_share/tenant=vision``. Where all are of one class there is nothing to tell apart, and no key;
of more than :data:`MOST` classes neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

MOST = 16
"""More classes than this fill no table that somebody reads."""


def weighted_mean(values: NDArray[np.float64], priority: NDArray) -> float:
    """Return sum w x / sum w with the weight w = 1 + priority: the highest counts twice."""
    return float(np.average(values, weights=1.0 + np.asarray(priority, np.float64)))


def means(
    values: Mapping[str, NDArray[np.float64]], dimension: str, labels: Sequence[str]
) -> dict[str, float]:
    """Return the mean of each metric in each class; NaN counts as no value.

    Args:
        values: by metric, one per request or job.
        dimension: what the labels are, "priority", "tenant" or "service".
        labels: the class of each.
    """
    found: dict[str, float] = {}
    for label, inside in _split(labels).items():
        for metric, column in values.items():
            known = column[inside & np.isfinite(column)]
            if len(known):
                found[f"{metric}/{dimension}={label}"] = float(known.mean())
    return found


def totals(
    metric: str, amounts: NDArray[np.float64], dimension: str, labels: Sequence[str]
) -> dict[str, float]:
    """Return the sum of the amounts of each class."""
    return {
        f"{metric}/{dimension}={label}": float(amounts[inside].sum())
        for label, inside in _split(labels).items()
    }


def shares(
    metric: str, amounts: NDArray[np.float64], dimension: str, labels: Sequence[str]
) -> dict[str, float]:
    """Return the part that each class has of the sum of the amounts, which is above 0."""
    total = amounts.sum()
    found = totals(metric, amounts, dimension, labels)
    return {key: float(amount / total) for key, amount in found.items()}


def priorities(priority: NDArray) -> list[str]:
    """Return the label of each priority."""
    return [f"{value:g}" for value in np.asarray(priority, np.float64).tolist()]


def parse(key: str) -> tuple[str, str]:
    """Return the metric of a key and its class, "dimension=label"; "" if it is of all."""
    metric, _, which = key.partition("/")
    return metric, which


def _split(labels: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return who is in each class, by label in order; nothing if there is one or too many."""
    array = np.asarray(labels)
    names = np.unique(array).tolist()
    return {name: array == name for name in names} if 1 < len(names) <= MOST else {}
