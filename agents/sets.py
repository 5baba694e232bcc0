"""Devices and links as the network reads them: the same 33 numbers for a cluster of any size.

Deep Sets (Zaheer et al., NeurIPS 2017) encode each element of a set, take mean and maximum over the
set, and go on from there. Here the encoder of an element is a piecewise linear function with knots
at 0, 1/4, 1/2, 3/4 and 1. Every such function is a weighted sum of hat functions, each of them 1 at
one knot and 0 at the others, so its mean over a set is the same weighted sum of the mean hats: a
histogram in which neighbouring bins share what lies between them. Mean hats are computed once per
observation, and the weights are those of the layer that reads them. So what a learner keeps of an
observation does not grow with the cluster.

A device is two numbers, memory and load; its hats are the products of those of both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

SETS = ("device_memory", "device_load", "link_load")
"""The observations that the summary stands for."""
KNOTS = 5
SIZE = KNOTS**2 + KNOTS + len(SETS)
"""Numbers of a summary."""


def hats(values: Tensor) -> Tensor:
    """Return the hat functions of numbers in [0, 1]; those of one number add up to 1.

    Args:
        values: shape (..., elements).

    Returns:
        Shape (..., KNOTS, elements).
    """
    knots = torch.linspace(0.0, 1.0, KNOTS, device=values.device).unsqueeze(1)
    return torch.relu(1.0 - (KNOTS - 1) * (values.unsqueeze(-2) - knots).abs())


def summary(observation: Mapping[str, Tensor]) -> Tensor:
    """Return what all devices and links together look like, each number in [0, 1].

    Args:
        observation: float32 ``device_memory`` and ``device_load``, shape (..., D), and
            ``link_load``, shape (..., L), with or without leading axes.

    Returns:
        Shape (..., SIZE): the mean of the products of the hats of memory (slower index) and load,
        the mean hats of links, the highest memory, load and link load.
    """
    devices, links = (observation[key].shape[-1] for key in ("device_load", "link_load"))
    together = torch.cat([observation[key] for key in SETS], dim=-1)
    memory, load, link = hats(together).split((devices, devices, links), dim=-1)
    products = memory @ load.mT / devices
    highest = [observation[key].amax(dim=-1, keepdim=True) for key in SETS]
    return torch.cat((products.flatten(-2), link.mean(dim=-1), *highest), dim=-1)


def chosen(observation: Mapping[str, np.ndarray], keys: Collection[str]) -> dict[str, np.ndarray]:
    """Return the parts of an environment's observation that are asked for, ``sets`` among them.

    Args:
        observation: with or without a leading axis; one that has ``sets`` already keeps it.
        keys: names of parts.
    """
    found = dict(observation)
    if "sets" in keys and "sets" not in found:
        found["sets"] = summary({key: torch.as_tensor(found[key]) for key in SETS}).numpy()
    return {key: found[key] for key in keys}
