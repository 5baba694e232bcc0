"""Classic fair-share and Fair Tree, by the numbers of Slurm's documentation and tests."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.baselines.slurm.fairshare import (
    Accounts,
    classic,
    decayed,
    fair_tree,
    level_fairshare,
)


class Tree:
    """Accounts by name: ``{"A": (None, 40), "u": ("A", 1, 20)}`` with parent, shares and usage."""

    def __init__(self, rows: dict[str, tuple]) -> None:
        self.names = list(rows)
        parent = [-1 if row[0] is None else self.names.index(row[0]) for row in rows.values()]
        self.accounts = Accounts(parent, [row[1] for row in rows.values()])
        self.usage = [row[2] if len(row) > 2 else 0.0 for row in rows.values()]

    def by_name(self, values: np.ndarray, names) -> list[float]:
        return [float(values[self.names.index(name)]) for name in names]


DOCUMENTED = Tree(
    {
        **{"A": (None, 40), "B": ("A", 30), "user1": ("B", 1, 0.2)},
        **{"C": ("A", 10), "user2": ("C", 1, 0.25), "user3": ("C", 1, 0.0)},
        **{"D": (None, 60), "E": ("D", 25), "user4": ("E", 1, 0.25)},
        **{"F": ("D", 35), "user5": ("F", 1, 0.0)},
        "others": (None, 0, 0.3),  # usage is given as parts of the whole machine's
    }
)


def test_the_example_of_the_classic_algorithm():
    """classic_fair_share, example: five users of four accounts."""
    factor = classic(DOCUMENTED.accounts, DOCUMENTED.usage)
    users = [f"user{i}" for i in range(1, 6)]
    assert DOCUMENTED.by_name(factor, users) == pytest.approx(
        [0.408479, 0.022097, 0.125, 0.5, 0.749154], abs=1e-4
    )
    assert max(users, key=lambda user: factor[DOCUMENTED.names.index(user)]) == "user5"


@pytest.mark.parametrize(("usage", "factor"), [(0.25, 0.5), (0.0, 1.0), (0.1, 0.757858)])
def test_half_a_factor_says_that_usage_is_the_share(usage, factor):
    """classic_fair_share: 0.5 is exactly the share, above it less; one of four accounts."""
    parts = {"a": usage, "b": 1 - usage, "c": 0.0, "d": 0.0}
    tree = Tree({name: (None, 1, part) for name, part in parts.items()})
    assert tree.by_name(classic(tree.accounts, tree.usage), "a") == pytest.approx(
        [factor], abs=1e-6
    )


def test_a_fresh_user_pays_for_its_account():
    """classic_fair_share, figure 2: user 3 of C comes before user 2 of B, whose user 1 has run."""
    tree = Tree(
        {
            **{"B": (None, 1), "user1": ("B", 1, 5.0), "user2": ("B", 1)},
            **{"C": (None, 1), "user3": ("C", 1)},
        }
    )
    two, three = tree.by_name(classic(tree.accounts, tree.usage), ("user2", "user3"))
    assert three > two


def test_damping():
    """Priority page of the cluster Gollum: 2**(-0.111913/0.002453) = 0.042337, damped by 10."""
    rest = 1 - 0.002453
    tree = Tree({"default": (None, 0.002453, 0.111913), "others": (None, rest, 1 - 0.111913)})
    factor = classic(tree.accounts, tree.usage, damping=10)
    assert tree.by_name(factor, ["default"]) == pytest.approx([0.042337], abs=2e-5)


CLASSIC_TEST = Tree(  # the tree of test24.3.prog, by the names of test_130_2.py
    {
        **{"A": (None, 40), "B": ("A", 30), "User1": ("B", 1, 20)},
        **{"C": ("A", 10), "User2": ("C", 1, 25), "User3": ("C", 1, 0)},
        **{"D": (None, 60), "E": ("D", 25), "User4": ("E", 1, 25)},
        **{"F": ("D", 35), "User5": ("F", 1, 0), "G": (None, 0), "User6": ("G", 0, 30)},
        **{"H": (None, 50), "HTA": ("H", None), "UHTAStd1": ("HTA", None, 10)},
        **{"UHTAStd2": ("HTA", 30, 10), "UHTAStd3": ("HTA", 50, 25)},
        **{"UHRA1": ("H", None, 20), "UHRA2": ("H", 40, 20), "UHRA3": ("H", 50, 25)},
    }
)


def test_the_classic_factors_of_slurms_own_test():
    """testsuite/python/tests/test_130_2.py, with ``FairShare=parent``."""
    expected = {
        **{"User1": 0.527550, "User2": 0.065672, "User3": 0.226431, "User4": 0.609507},
        **{"User5": 0.813594, "User6": 0.0, "UHRA1": 0.336475, "UHRA2": 0.176777},
        **{"UHRA3": 0.185749, "UHTAStd1": 0.336475, "UHTAStd2": 0.211966, "UHTAStd3": 0.185749},
    }
    factor = classic(CLASSIC_TEST.accounts, CLASSIC_TEST.usage)
    found = dict(zip(expected, CLASSIC_TEST.by_name(factor, expected), strict=True))
    assert found == pytest.approx(expected, abs=1e-6)


FAIR_TREE_TEST = Tree(  # test24.4.prog.c
    {
        **{"aA": (None, 40), "aAA": ("aA", 30), "uAA1": ("aAA", 1, 20)},
        **{"aAB": ("aA", 10), "uAB1": ("aAB", 1, 25), "uAB2": ("aAB", 1, 0)},
        **{"aB": (None, 60), "aBA": ("aB", 25), "uBA1": ("aBA", 1, 25)},
        **{"aBB": ("aB", 35), "uBB1": ("aBB", 1, 0), "aC": (None, 0), "uC1": ("aC", 0, 30)},
        **{"aD": (None, 50), "aDA": ("aD", None), "uDA1": ("aDA", None, 10)},
        **{"uDA2": ("aDA", 30, 10), "uDA3": ("aDA", 50, 25)},
        **{"uD1": ("aD", None, 20), "uD2": ("aD", 40, 20), "uD3": ("aD", 50, 25)},
        **{"aE": (None, 10), "aE1": ("aE", 10, 0), "aE2": ("aE", 10, 0), "u1": (None, 10, 0)},
        **{"aF": (None, 20), "uF1": ("aF", 10, 0), "uF2": ("aF", 20, 0)},
        **{"aG": (None, 8), "uG1": ("aG", 10, 10), "aGA": ("aG", 10)},
        **{"uGA1": ("aGA", 20, 4), "uGA2": ("aGA", 20, 6), "u2": (None, 10, 10)},
    }
)


def test_the_level_fairshare_of_slurms_own_test():
    """testsuite/expect/test24.4, column Level FS."""
    expected = {
        **{"u1": inf, "u2": 1.153846, "aA": 1.025641, "aAA": 1.6875, "uAA1": 1.0, "aAB": 0.45},
        **{"uAB1": 0.5, "uAB2": inf, "aB": 2.769231, "aBA": 0.416667, "uBA1": 1.0, "aBB": inf},
        **{"uBB1": inf, "aC": 0.0, "uC1": 0.0, "aD": 0.524476, "uD2": 1.294118},
        **{"uD3": 1.294118, "uDA2": 1.941176, "uDA3": 1.294118, "aE": inf, "aF": inf},
        **{"aG": 0.461538, "uG1": 1.0, "aGA": 1.0, "uGA1": 1.25, "uGA2": 0.833333},
    }
    level = level_fairshare(FAIR_TREE_TEST.accounts, FAIR_TREE_TEST.usage)
    found = dict(zip(expected, FAIR_TREE_TEST.by_name(level, expected), strict=True))
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_fair_tree_of_slurms_own_test():
    """testsuite/expect/test24.4, column FairShare: 21 users, ties and ``FairShare=parent``.

    Left out is uD2, 0.238095 there: 40 shares for 20 and 50 for 25 are the same level fair share,
    and only Slurm's rounding puts it behind uD3.
    """
    expected = {
        **{"u1": 1.0, "u2": 0.666667, "uAA1": 0.619048, "uAB1": 0.523810, "uAB2": 0.571429},
        **{"uBA1": 0.714286, "uBB1": 0.761905, "uC1": 0.047619, "uD1": 0.476190},
        **{"uDA1": 0.476190, "uDA2": 0.380952, "uD3": 0.333333, "uDA3": 0.333333},
        **{"aE1": 1.0, "aE2": 1.0, "uF1": 1.0, "uF2": 1.0, "uG1": 0.190476},
        **{"uGA1": 0.190476, "uGA2": 0.095238},
    }
    factor = fair_tree(FAIR_TREE_TEST.accounts, FAIR_TREE_TEST.usage)
    found = dict(zip(expected, FAIR_TREE_TEST.by_name(factor, expected), strict=True))
    assert found == pytest.approx(expected, abs=1e-6)
    assert len(FAIR_TREE_TEST.accounts.users) == 21


@st.composite
def trees(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = int(rng.integers(2, 12))
    parent = [-1, *(int(rng.integers(-1, node)) for node in range(1, size))]
    return Accounts(parent, rng.integers(1, 9, size).tolist()), rng.integers(0, 9, size).astype(
        float
    )


@settings(max_examples=60, deadline=None)
@given(trees())
def test_a_better_account_has_better_users(tree):
    """fair_tree, introduction: all users of the higher of two siblings come before the other's."""
    accounts, usage = tree
    level, factor = level_fairshare(accounts, usage), fair_tree(accounts, usage)

    def users(node: int) -> list[int]:
        return [u for c in accounts.children[node] for u in users(c)] or [node]

    for siblings in accounts.children:
        for one in siblings:
            for other in siblings:
                if level[one] > level[other] * (1 + 1e-9):
                    assert factor[users(one)].min() > factor[users(other)].max()
    assert factor.max() == 1.0


def test_usage_halves_with_every_half_life():
    """classic_fair_share, normalised usage: half its original value after the half-life."""
    assert decayed(np.array([8.0]), 2 * 7 * 86_400.0, 7 * 86_400.0).tolist() == [2.0]
    assert decayed(np.array([8.0]), 1e9, 0.0).tolist() == [8.0]
