"""Grove's pod gangs: a base gang that starts together, and scaled gangs behind it.

Source: Grove (NVIDIA, Apache-2.0, August 2026): PodClique, PodCliqueScalingGroup, PodCliqueSet and
the PodGangs that its operator makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .hierarchy import Group, satisfied


@dataclass(frozen=True)
class Clique:
    """Pods with the same specification.

    Attributes:
        name: of the clique.
        replicas: its pods.
        min_available: pods that it needs; None: all.
    """

    name: str
    replicas: int
    min_available: int | None = None


@dataclass(frozen=True)
class ScalingGroup:
    """Cliques that scale together: a model instance of several nodes, leader and workers.

    Attributes:
        name: of the group.
        cliques: of one replica.
        replicas: copies of all its cliques.
        min_available: replicas that start with the base gang.
        required: level of the domain that must hold each replica, None: no constraint.
        preferred: level preferred for each replica.
    """

    name: str
    cliques: tuple[Clique, ...]
    replicas: int = 1
    min_available: int = 1
    required: int | None = None
    preferred: int | None = None


def pod_gangs(
    cliques: tuple[Clique, ...] = (),
    scaling_groups: tuple[ScalingGroup, ...] = (),
    required: int | None = None,
    preferred: int | None = None,
) -> list[Group]:
    """Return the gangs of one PodCliqueSet replica: the base gang, then the scaled ones.

    The base gang has every clique that stands alone and ``min_available`` replicas of every scaling
    group. Each replica above that is a gang of its own, under the scaling group's topology
    constraint only.

    Args:
        cliques: that stand alone.
        scaling_groups: of the set.
        required: level of the domain that must hold the base gang.
        preferred: level preferred for it.
    """
    base = [_group(clique, clique.name) for clique in cliques]
    scaled: list[Group] = []
    for group in scaling_groups:
        for index in range(group.replicas):
            name = f"{group.name}-{index}"
            members = tuple(_group(clique, f"{name}-{clique.name}") for clique in group.cliques)
            replica = Group(
                name, children=members, required=group.required, preferred=group.preferred
            )
            (base if index < group.min_available else scaled).append(replica)
    return [
        Group("base", children=tuple(base), required=required, preferred=preferred),
        *scaled,
    ]


def may_start(gangs: list[Group], index: int, scheduled: Mapping[str, int]) -> bool:
    """Return whether a gang's pods may be scheduled yet.

    Args:
        gangs: of :func:`pod_gangs`.
        index: of the gang; the base gang (0) may always.
        scheduled: pods already scheduled, by name of their clique.
    """
    return index == 0 or satisfied(gangs[0], scheduled)


def _group(clique: Clique, name: str) -> Group:
    return Group(name, clique.replicas, clique.min_available)
