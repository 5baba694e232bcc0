"""From switches or blocks to leafs and pods, and what is wrong if they make no tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from .entry import Entry, Place

LAYERS = 3
"""Of switches: leafs, spines of a pod, core."""


@dataclass(frozen=True)
class Topology:
    """The leafs of a cluster, pod by pod.

    Attributes:
        kind: "tree", "block" or "flat".
        pods: the leafs of every pod: a leaf switch, or a block; empty if flat.
    """

    kind: str
    pods: tuple[tuple[Entry, ...], ...] = ()

    @property
    def leafs(self) -> tuple[tuple[int, ...], ...]:
        """Nodes of every leaf, pod by pod."""
        return tuple(tuple(len(leaf.nodes) for leaf in pod) for pod in self.pods)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, in the order of the cluster's."""
        return tuple(node for leaf in chain.from_iterable(self.pods) for node in leaf.nodes)


def from_blocks(blocks: Sequence[Entry], sizes: Sequence[int], place: Place) -> Topology:
    """Return blocks as leafs of one pod.

    Higher block sizes are a rule of the scheduler and no switches: they become ``levels`` of the
    baseline ``topology/slurm-block``.

    Args:
        blocks: base blocks.
        sizes: nodes of the planning base block and of larger ones; empty: not given.
        place: of the sizes.

    Raises:
        ValueError: naming file, line, key, value and remedy.
    """
    _check_names(blocks, "block", place)
    _check_nodes(blocks)
    for size in sizes:
        if size < 1 or size % sizes[0] or (size // sizes[0]).bit_count() != 1:
            remedy = f"give {sizes[0]} times a power of two" if sizes[0] > 0 else "give 1 or more"
            raise place.bad("block size", size, remedy)
    if list(sizes) != sorted(set(sizes)):
        raise place.bad("block sizes", list(sizes), "give them in ascending order")
    for block in blocks:
        if sizes and len(block.nodes) < sizes[0]:
            remedy = f"its {len(block.nodes)} nodes are fewer than the base block size {sizes[0]}"
            raise block.place.bad("block", block.name, f"{remedy}; give it more, or lower the size")
    return Topology("block", (tuple(blocks),))


def from_switches(switches: Sequence[Entry], place: Place) -> Topology:
    """Return the leaf switches of a tree, grouped by the switch right below the top one.

    A tree of one or two layers is one pod. In one of three every switch below the top is a pod, a
    leaf switch there too. A switch above all others that has one child only adds nothing.

    Args:
        switches: in any order.
        place: of all of them.

    Raises:
        ValueError: naming file, line, key, value and remedy.
    """
    _check_names(switches, "switch", place)
    by_name = {switch.name: switch for switch in switches}
    top = _top(switches, by_name)
    _check_nodes([switch for switch in switches if switch.nodes])
    while len(top.switches) == 1:
        top = by_name[top.switches[0]]
    if _layers(top, by_name) <= 2:
        return Topology("tree", (tuple(_leafs(top, by_name)),))
    return Topology("tree", tuple(tuple(_leafs(by_name[s], by_name)) for s in top.switches))


def _check_names(entries: Sequence[Entry], kind: str, place: Place) -> None:
    """Refuse nothing at all, and names that occur twice."""
    if not entries:
        raise place.error(f"has no {kind}; give each {kind} with its nodes")
    first: dict[str, Entry] = {}
    for entry in entries:
        other = first.setdefault(entry.name, entry)
        if other is not entry:
            raise entry.place.bad(
                kind, entry.name, f"stands in line {other.place.line} too; rename or remove one"
            )


def _check_nodes(leafs: Sequence[Entry]) -> None:
    """Refuse leafs without nodes, and nodes at two of them."""
    at: dict[str, Entry] = {}
    for leaf in leafs:
        if not leaf.nodes:
            raise leaf.place.bad("nodes", "", f"{leaf.name!r} has none; give at least one")
        for node in leaf.nodes:
            other = at.setdefault(node, leaf)
            if other is not leaf:
                raise leaf.place.bad(
                    "node", node, f"hangs at {other.name!r} too; leave it out of one of the two"
                )


def _top(switches: Sequence[Entry], by_name: dict[str, Entry]) -> Entry:
    """Return the one switch that is below none, with every switch below it just once."""
    above: dict[str, Entry] = {}
    for switch in switches:
        if bool(switch.nodes) == bool(switch.switches):
            remedy = "has both nodes and switches" if switch.nodes else "has no nodes or switches"
            raise switch.place.bad("switch", switch.name, f"{remedy}; give it one of the two")
        for name in switch.switches:
            if name not in by_name:
                raise switch.place.bad(
                    "switches", name, "there is no such switch; add it, or leave it out here"
                )
            if name in above:
                raise switch.place.bad(
                    "switches", name, f"hangs below {above[name].name!r} too; leave one out"
                )
            above[name] = switch
    tops = [switch for switch in switches if switch.name not in above]
    if len(tops) > 1:
        remedy = f"nothing joins it to {tops[0].name!r}; add a switch above both"
        raise tops[1].place.bad("switch", tops[1].name, remedy)
    below = set(_below(tops[0], by_name)) if tops else set()
    for switch in switches:
        if switch.name not in below:
            raise switch.place.bad(
                "switch", switch.name, "hangs below itself; a topology is a tree: remove the circle"
            )
    return tops[0]


def _below(top: Entry, by_name: dict[str, Entry]) -> list[str]:
    """Return the names of a switch and of all below it, in the order of the file's lists."""
    found, rest = [], [top.name]
    while rest:
        found.append(rest.pop())
        rest.extend(reversed(by_name[found[-1]].switches))
    return found


def _leafs(top: Entry, by_name: dict[str, Entry]) -> list[Entry]:
    """Return the leaf switches at and below a switch."""
    return [by_name[name] for name in _below(top, by_name) if by_name[name].nodes]


def _layers(top: Entry, by_name: dict[str, Entry]) -> int:
    """Return the layers of switches, the top one's included.

    Raises:
        ValueError: there are too many.
    """
    layer, here = 1, [top]
    while here := [by_name[name] for switch in here for name in switch.switches]:
        layer += 1
        if layer > LAYERS:
            raise here[0].place.bad(
                "switch",
                here[0].name,
                f"lies {layer} layers deep; at most {LAYERS} are modelled (leaf, spine, core): "
                "leave out those between",
            )
    return layer
