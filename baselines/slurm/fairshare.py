"""Slurm's two fair-share factors over a tree of accounts: classic and Fair Tree.

Source: Slurm, ``classic_fair_share`` and ``fair_tree`` documentation. Shares and usage are those of
users; an account's usage is the sum of what is below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Accounts:
    """A forest of associations under the root.

    Attributes:
        parent: of each association, -1: the root.
        children: below each association, and at the end those of the root.
        users: those without children.
    """

    def __init__(self, parent: Sequence[int], shares: Sequence[float | None]) -> None:
        """Build the tree.

        Args:
            parent: of each association, -1: the root.
            shares: of each, None: ``FairShare=parent``. An account of that kind hands its
                children up; a user of that kind counts as its account.
        """
        self.users = [node for node in range(len(parent)) if node not in parent]
        self.shares = [0.0 if own is None else float(own) for own in shares]
        self.as_parent = [own is None for own in shares]
        self.parent = [self._account(above, parent) for above in parent]
        self.children: list[list[int]] = [[] for _ in range(len(parent) + 1)]
        for node, above in enumerate(self.parent):
            if node in self.users or not self.as_parent[node]:
                self.children[above].append(node)

    def _account(self, node: int, parent: Sequence[int]) -> int:
        """Return the next account from here up that has shares of its own, or the root."""
        while node >= 0 and self.as_parent[node]:
            node = parent[node]
        return node

    def total(self, usage: Sequence[float] | Array) -> list[float]:
        """Return the usage of every association, and at the end the root's, from its users'."""
        total = [0.0] * (len(self.parent) + 1)
        for user in self.users:
            node = user
            total[-1] += usage[user]
            while node >= 0:
                total[node] += usage[user]
                node = self.parent[node]
        return total

    def portion(self, node: int) -> float:
        """Return the shares of an association over those of it and its siblings."""
        siblings = sum(self.shares[other] for other in self.children[self.parent[node]])
        return self.shares[node] / siblings if siblings > 0 else 0.0


def classic(accounts: Accounts, usage: Sequence[float] | Array, damping: float = 1.0) -> Array:
    """Return the classic factor of every association, 2^(-U / S / d), float64 (n,).

    S are its normalised shares: the product of the portions from it to the root. U is its
    effective usage: its own, plus its portion of what its account's effective usage is more.

    Args:
        accounts: the tree.
        usage: of every user; entries of accounts are not read.
        damping: ``FairShareDampeningFactor``, d.
    """
    total = accounts.total(usage)
    factor = np.zeros(len(accounts.parent))

    def visit(account: int, share: float, effective: float) -> None:
        for node in accounts.children[account]:
            if accounts.as_parent[node]:
                own_share, own = share, effective
            else:
                portion = accounts.portion(node)
                own_share, own = share * portion, total[node] / max(total[-1], 1e-300)
                if account >= 0:
                    own += (effective - own) * portion
            factor[node] = 2.0 ** (-own / own_share / damping) if own_share > 0 else 0.0
            visit(node, own_share, own)

    visit(-1, 1.0, 1.0)
    return factor


def level_fairshare(accounts: Accounts, usage: Sequence[float] | Array) -> Array:
    """Return LF = S / U of every association, among its siblings only; infinite without usage.

    More than 1: under-served. Users that count as their account come before their siblings.
    """
    total = accounts.total(usage)
    level = np.zeros(len(accounts.parent))
    for node, above in enumerate(accounts.parent):
        used = total[node] / total[above] if total[above] > 0 else 0.0
        first = accounts.as_parent[node] or used == 0
        level[node] = inf if first else accounts.portion(node) / used
    return level


def fair_tree(accounts: Accounts, usage: Sequence[float] | Array) -> Array:
    """Return the Fair Tree factor of every user, rank / users, float64 (n,); 0 for accounts.

    The tree is walked from the highest level fair share down, so all users of an account come
    before those of a sibling with less. Ties: siblings of one value share a rank, such a user that
    of the first user of such an account, and such accounts merge their children.
    """
    level = level_fairshare(accounts, usage)
    factor = np.zeros(len(accounts.parent))
    count = left = len(accounts.users)

    def visit(siblings: list[int], tie: int | None = None) -> None:
        nonlocal left
        groups: dict[float, list[int]] = {}
        for node in siblings:
            groups.setdefault(float(f"{level[node]:.12g}"), []).append(node)
        for value in sorted(groups, reverse=True):
            rank, tie = left if tie is None else tie, None
            users = [node for node in groups[value] if not accounts.children[node]]
            factor[users] = rank / count
            left -= len(users)
            below = [child for node in groups[value] for child in accounts.children[node]]
            if below:
                visit(below, rank)

    visit(accounts.children[-1])
    return factor


def decayed(usage: Array, elapsed_s: float, half_life_s: float) -> Array:
    """Return what past usage still counts for: half of it after each half-life; 0: no decay."""
    return usage * 2.0 ** (-elapsed_s / half_life_s) if half_life_s > 0 else usage
