"""Slurm's ``topology.yaml``: a list of topologies, of which the cluster's default is read.

Source: ``topology.yaml(5)`` of Slurm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .entry import Entry, Hostlists, Place
from .tree import Topology, from_blocks, from_switches

KINDS = ("tree", "block", "flat")


def read_document(path: Path, text: str) -> Topology:
    """Return the topology that a ``topology.yaml`` describes.

    It is the first that is marked ``cluster_default: true``, or the only one.

    Raises:
        ValueError: naming file, line, key, value and remedy; or PyYAML is not installed.
    """
    file = _Document(path)
    entries = file.items(_composed(path, text), "topology.yaml")
    if not entries:
        raise Place(path).error("has no topology; give a list of '- topology: NAME' entries")
    found = [file.table(e, "topology", ("topology", "cluster_default", *KINDS)) for e in entries]
    for entry, fields in zip(entries, found, strict=True):
        file.text(entry, fields, "topology")
        if sum(kind in fields for kind in KINDS) != 1:
            raise file.at(entry).error(
                f"the topology has {', '.join(fields)}; give it exactly one of {', '.join(KINDS)}"
            )
    default = [fields for fields in found if file.flag(fields, "cluster_default")]
    if not default and len(found) > 1:
        raise Place(path).error(
            f"none of {len(found)} topologies has cluster_default: true; mark the one to use"
        )
    return file.topology((default or found)[0])


def _composed(path: Path, text: str) -> Any:
    """Return the tree of nodes of a YAML text: plain text with lines, nothing is constructed."""
    try:
        import yaml
    except ImportError:
        raise Place(path).error(
            "needs PyYAML: pip install 'gpuyard[yaml]', or give a topology.conf"
        ) from None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 0
        problem = " ".join(str(getattr(error, "problem", error)).split())[:120]
        raise Place(path, line).error(f"is not valid YAML: {problem}; correct it") from None
    except RecursionError:
        raise Place(path).error("nests without end; give a topology.yaml") from None


class _Document:
    """Checked access to the nodes of one file.

    A node of PyYAML has a kind (``id``), a ``value`` and a ``start_mark``.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lists = path, Hostlists()

    def at(self, node: Any) -> Place:
        """Return where a node stands."""
        return Place(self.path, node.start_mark.line + 1)

    def items(self, node: Any, key: str) -> list[Any]:
        """Return the nodes of a list."""
        if node is None:
            return []
        if node.id != "sequence":
            raise self.at(node).error(f"{key} must be a list; write its items behind '- '")
        return list(node.value)

    def table(self, node: Any, key: str, known: tuple[str, ...]) -> dict[str, Any]:
        """Return the nodes of a mapping by key."""
        if node.id != "mapping":
            raise self.at(node).error(f"{key} must have fields; write {known[0]}: ...")
        found: dict[str, Any] = {}
        for name, value in node.value:
            if name.id != "scalar" or name.value not in known:
                shown = name.value if name.id == "scalar" else "..."
                remedy = f"no such field here; use one of {', '.join(known)}"
                raise self.at(name).bad(f"{key} field", shown, remedy)
            if name.value in found:
                raise self.at(name).bad(f"{key} field", name.value, "stands here twice")
            found[name.value] = value
        return found

    def text(self, node: Any, fields: dict[str, Any], key: str) -> str:
        """Return the text of a field that must be there."""
        if key not in fields:
            raise self.at(node).error(f"{key} is missing; give one")
        value = fields[key]
        if value.id != "scalar" or not value.value:
            raise self.at(value).error(f"{key} must be text, for example {key}: a[0-3]")
        return str(value.value)

    def flag(self, fields: dict[str, Any], key: str) -> bool:
        """Return whether a field says true; one that is left out does not."""
        value = fields.get(key)
        if value is None:
            return False
        if not str(value.tag).endswith(":bool"):
            raise self.at(value).error(f"{key} must be true or false")
        return value.value.lower() in ("true", "yes", "on")

    def names(self, node: Any, fields: dict[str, Any], key: str) -> list[str]:
        """Return the names of a hostlist, none if the field is left out."""
        if key not in fields:
            return []
        return self.lists.expand(self.at(fields[key]), key, self.text(node, fields, key))

    def topology(self, fields: dict[str, Any]) -> Topology:
        """Return what one entry describes."""
        if "tree" in fields:
            tree = self.table(fields["tree"], "tree", ("switches",))
            rows = self.items(tree.get("switches"), "switches")
            known = ("switch", "children", "nodes")
            return from_switches(self.entries(rows, known), self.at(fields["tree"]))
        if "block" in fields:
            block = self.table(fields["block"], "block", ("block_sizes", "blocks"))
            rows = self.items(block.get("blocks"), "blocks")
            sizes = [self.size(node) for node in self.items(block.get("block_sizes"), "sizes")]
            place = self.at(block.get("block_sizes", fields["block"]))
            return from_blocks(self.entries(rows, ("block", "nodes")), sizes, place)
        flat = fields["flat"]
        if flat.id != "mapping" and not self.flag(fields, "flat"):
            raise self.at(flat).error("flat must be true; leave the topology out otherwise")
        return Topology("flat")

    def entries(self, rows: list[Any], known: tuple[str, ...]) -> list[Entry]:
        """Return switches or blocks."""
        found = []
        for row in rows:
            fields = self.table(row, known[0], known)
            name = self.text(row, fields, known[0])
            nodes = self.names(row, fields, "nodes")
            found.append(Entry(self.at(row), name, nodes, self.names(row, fields, "children")))
        return found

    def size(self, node: Any) -> int:
        """Return a number of nodes."""
        if node.id != "scalar" or not str(node.value).isdecimal() or len(node.value) > 9:
            raise self.at(node).error("block_sizes must be numbers of nodes, for example [4, 16]")
        return int(node.value)
