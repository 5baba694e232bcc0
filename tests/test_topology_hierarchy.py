"""Trees of groups against brute force: every one that can be placed is, and legally."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpuyard.baselines.topology.hierarchy import Group, divisions, place_group

TREE = np.array([[0, 1, 2, 3], [0, 0, 1, 1], [0, 0, 0, 0]])  # node, leaf, zone
NODE, LEAF, ZONE = range(3)


def test_without_a_preference_nodes_are_bin_packed():
    tree = np.array([[0, 1], [0, 0]])
    assert place_group(Group("pods", 2), np.array([4, 2]), tree)["pods"].tolist() == [1, 1]


def test_a_first_choice_that_leaves_no_room_is_taken_back():
    """The first child fits best on node 1, where alone the second can stand if node 0 is taken."""
    gang = Group(
        "gang",
        children=(Group("a", 2, required=LEAF), Group("b", 2, required=NODE)),
    )
    placed = place_group(gang, np.array([1, 1, 2, 0]), TREE)
    assert placed["a"].tolist() == [0, 1] and placed["b"].tolist() == [2, 2]
    gang = Group("gang", children=(Group("a", 1), Group("b", 2, required=NODE)))
    placed = place_group(gang, np.array([2, 3, 0, 0]), TREE)
    assert placed["b"][0] == placed["b"][1]


@pytest.mark.parametrize(("pods", "room", "count"), [(0, [2], 1), (2, [2, 1], 2), (4, [2, 1], 0)])
def test_divisions(pods, room, count):
    found = list(divisions(pods, room))
    assert len(found) == count
    assert all(sum(each) == pods for each in found)


def brute(group: Group, slots: np.ndarray) -> set[bytes]:
    """All that may be left of ``slots`` once a group's minimum stands, one pod after the other."""
    level = ZONE if group.required is None else group.required
    left = set()
    for domain in set(TREE[level].tolist()):
        inside = np.where(TREE[level] == domain, slots, 0)
        outside = slots - inside
        if group.children:
            for chosen in combinations(group.children, group.least):
                states = {inside.tobytes()}
                for child in chosen:
                    states = {
                        after
                        for state in states
                        for after in brute(child, np.frombuffer(state, np.int64))
                    }
                left |= {(np.frombuffer(s, np.int64) + outside).tobytes() for s in states}
        else:
            for nodes in product(range(len(slots)), repeat=group.least):
                taken = np.bincount(np.array(nodes, int), minlength=len(slots))
                if (taken <= inside).all():
                    left.add((slots - taken).tobytes())
    return left


LEVELS = st.sampled_from([None, NODE, LEAF, ZONE])


@st.composite
def trees(draw, depth: int = 2, name: str = "g"):
    required = draw(LEVELS)
    preferred = draw(LEVELS)
    if depth == 0 or draw(st.booleans()):
        pods = draw(st.integers(1, 3))
        return Group(
            name,
            pods,
            draw(st.sampled_from([None, 0, pods])),
            required=required,
            preferred=preferred,
        )
    children = tuple(
        draw(trees(depth - 1, f"{name}{index}")) for index in range(draw(st.integers(1, 3)))
    )
    least = draw(st.sampled_from([None, draw(st.integers(0, len(children)))]))
    return Group(
        name,
        children=children,
        min_sub_group=least,
        required=required,
        preferred=preferred,
    )


NEEDS_NONE = Group("g", children=(Group("g0", 1, 0, preferred=0), Group("g1", 3, required=0)))


@settings(max_examples=150, deadline=None)
@example(group=NEEDS_NONE, slots=[0, 0, 1, 2])  # a group without a pod, behind one without room
@given(group=trees(), slots=st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_every_tree_that_can_be_placed_is(group, slots):
    slots = np.array(slots, np.int64)
    placed = place_group(group, slots, TREE)
    possible = brute(group, slots)
    assert (placed is not None) == bool(possible), (group, slots)
    if placed is not None:
        left = slots.copy()
        for nodes in placed.values():
            np.subtract.at(left, nodes, 1)
        assert left.tobytes() in possible
