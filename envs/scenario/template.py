"""A commented scenario to start from: the tables that must be filled, then all plain fields."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import Field, fields

from .. import reward
from .read import TABLES, WITHOUT_SERVICES
from .write import value_text

WIDTH = 100

REPLICAS = """
[[replicas]]  # one table for each kind of replica
gpu = "H100-SXM"  # gpuyard list gpus
model = "Llama-3-8B"  # gpuyard list models, or the path of a Hugging Face config.json
count = 4
tp = 1  # GPUs of one replica
# engine = "vllm-0.21"  # gpuyard list engines

[workload]
preset = "chat"  # or: trace = "requests.csv" (gpuyard list formats)
num_requests = 512  # an episode
rate_per_s = 20.0
"""

CLUSTER = """
[[cluster.pools]]  # or: [cluster] with preset = "default" (gpuyard list clusters)
gpu = "H100-SXM"  # gpuyard list gpus
nodes = 16
# gpus_per_node = 8
# nic_gbit = 400.0  # of each NIC

[cluster.fabric]
nodes_per_leaf = 4
spines = 4
oversubscription = 2.0  # of uplinks

[jobs]
preset = "mixed"  # or: trace = "jobs.csv" (gpuyard list formats)
num_jobs = 64  # an episode
load = 0.8  # GPU seconds asked for per second and GPU
max_gpus = 64
"""

DEPLOYMENTS = """
[[deployments]]  # one table for each service; its replicas are gangs on the cluster
name = "chat"
gpu = "H100-SXM"  # the pool with that GPU
model = "Llama-3-70B"
tp = 4
min = 1  # replicas that must run together
initial = 2
max = 6

[deployments.workload]
preset = "chat"
num_requests = 1000
rate_per_s = 5.0
"""

KINDS = {
    "routing": (("route",), (REPLICAS,)),
    "placement": (("place",), (CLUSTER,)),
    "cluster": (("route", "place", "scale"), (CLUSTER, DEPLOYMENTS)),
}
"""Scenarios to start from: the decisions that they ask for, and the tables that must be filled."""


def template(kind: str) -> str:
    """Return a scenario file with a comment on every line that needs one.

    Args:
        kind: of :data:`KINDS`.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; choose one of {', '.join(KINDS)}")
    decisions, tables = KINDS[kind]
    head = f'description = "A {kind} scenario of my own"\n'
    return "\n".join([head, *(t.strip("\n") + "\n" for t in tables), *_plain(decisions)])


def _plain(decisions: tuple[str, ...]) -> Iterator[str]:
    """Yield the plain tables, every field commented out at its default, and the rewards."""
    outside = WITHOUT_SERVICES if "scale" in decisions else ()
    for name, table in TABLES.items():
        if table.kind and table.part in ("common", *decisions) and name not in outside:
            lines = [_line(item) for item in fields(table.kind) if _is_for(item, decisions)]
            yield "\n".join([f"[{name}]", *lines, ""])
    parts = [part for part in decisions if reward.terms(part)]
    for part in parts:
        heading = "reward" if len(parts) == 1 else f"reward.{part}"
        rows = [_weight(term) for term in reward.TERMS if term.part == part]
        yield "\n".join([f"[{heading}]", *rows, ""])


def _is_for(item: Field, decisions: tuple[str, ...]) -> bool:
    return item.metadata.get("part", decisions[0]) in decisions


def _weight(term: reward.Term) -> str:
    """Return the weight of a reward term: that of the usual one, the others commented out."""
    usual = term.name == reward.DEFAULT[term.part]
    return _said(term.meaning, f"{term.name} = 1.0" if usual else f"# {term.name} = 0.0")


def _line(item: Field) -> str:
    """Return a field at its default, commented out, below what it means."""
    return _said(item.metadata["meaning"], f"# {item.name} = {value_text(item.default)}")


def _said(meaning: str, line: str) -> str:
    text = meaning.replace("`", "")
    said = textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")
    return "\n".join([*said, line])
