"""``gpuyard import``: scenario parts from the files of your own cluster."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuyard.envs.hardware.inventory import Inventory

    from .import_text import Rates

SOURCES = {
    "slurm": "topology.conf or topology.yaml, with --nodes what scontrol show node printed",
    "kubernetes": "what kubectl get nodes -o json printed",
    "nvidia-smi": "what nvidia-smi topo -m printed on one machine",
    "huggingface": "a model's config.json",
}
"""What is read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    from .import_text import Rates

    parser.description = (
        "Write a commented scenario from a file of your cluster. What the file does not say, such "
        "as the rates of links, follows from the options below and is marked as assumed."
    )
    parser.add_argument("source", choices=SOURCES, help="what the file is")
    parser.add_argument("file", type=Path, help="; ".join(f"{k}: {v}" for k, v in SOURCES.items()))
    parser.add_argument("--out", type=Path, help="file to write (default: print it)")
    parser.add_argument("--force", action="store_true", help="overwrite it")
    parser.add_argument("--nodes", type=Path, help="slurm: scontrol show node, or sinfo with GRES")
    parser.add_argument(
        "--gpu",
        action="append",
        default=[],
        metavar="[PRODUCT=]NAME",
        help="which GPU of the catalogue it is, where the file leaves that open; several times "
        "with what the file calls it",
    )
    parser.add_argument(
        "--leaf-label",
        action="append",
        default=[],
        metavar="KEY",
        help="kubernetes: label of the switch or rack of a node, and again of what joins those",
    )
    parser.add_argument(
        "--gpus-per-node",
        type=int,
        help="slurm without --nodes (8; 4 in an NVL72 rack, whose trays have that many)",
    )
    parser.add_argument("--machines", type=int, default=1, help="nvidia-smi: how many (1)")
    for item in fields(Rates):
        default = "usual for the GPU" if item.default is None else f"{item.default:g}"
        kind = int if item.type in ("int", "int | None") else float
        parser.add_argument(
            f"--{item.name.replace('_', '-')}",
            type=kind,
            default=item.default,
            help=f"assumed where nobody says ({default})",
        )


def run(options: argparse.Namespace) -> int:
    """Write or print the scenario; return the exit status."""
    from gpuyard.envs.hardware.inventory import read_matrix

    from .import_text import Rates, machine_text, model_text

    for option in ("gpus_per_node", "machines"):
        value = getattr(options, option)
        if value is not None and not value > 0:
            raise ValueError(f"--{option.replace('_', '-')} {value}: must be above 0")
    rates = Rates(**{item.name: getattr(options, item.name) for item in fields(Rates)})
    for item in fields(Rates):
        value = getattr(rates, item.name)
        if value is not None and not value > 0:
            raise ValueError(f"--{item.name.replace('_', '-')} {value}: must be above 0")
    _refuse_overwriting(options, options.out)
    if options.source == "huggingface":
        return _finish(options, model_text(str(options.file)))
    if options.source == "nvidia-smi":
        gpu = _gpus(options).get("", "")
        if not gpu:
            raise ValueError(f"{options.file} does not say which GPU it has; give --gpu NAME")
        machine = read_matrix(options.file)
        return _finish(
            options, machine_text(machine, str(options.file), gpu, options.machines, rates)
        )
    return _cluster(options, rates)


def _cluster(options: argparse.Namespace, rates: Rates) -> int:
    """Write a cluster of many nodes, and its leafs beside it where numbers cannot say them."""
    from .import_text import cluster_text, topology_conf

    found = (_slurm if options.source == "slurm" else _kubernetes)(options)
    beside = ""
    known = len(found.pools()) == 1 and all(node.leaf for node in found.nodes)
    if options.out and known and not found.regular:
        path = options.out.with_suffix(".topology.conf")
        _refuse_overwriting(options, path)
        beside = path.name
        path.write_text(topology_conf(found), encoding="utf-8")
    return _finish(options, cluster_text(found, rates, beside), beside)


def _slurm(options: argparse.Namespace) -> Inventory:
    from gpuyard.envs.hardware import topology
    from gpuyard.envs.hardware.inventory import read_slurm, with_topology

    gpus = _gpus(options)
    places = topology.read(options.file)
    known = read_slurm(options.nodes) if options.nodes else None
    if known is None and not gpus.get("", ""):
        raise ValueError(
            f"{options.file} says where nodes hang, not what they are: give --nodes scontrol.txt "
            "(what scontrol show node printed), or --gpu NAME for all of them"
        )
    if places.kind == "flat":
        if known is None:
            raise ValueError(f"{options.file} is flat, it has no nodes: give --nodes scontrol.txt")
        return known.named(gpus)
    return with_topology(
        known, places, str(options.file), gpus.get("", ""), options.gpus_per_node
    ).named(gpus)


def _kubernetes(options: argparse.Namespace) -> Inventory:
    from gpuyard.envs.hardware.inventory import read_kubernetes

    return read_kubernetes(options.file, options.leaf_label).named(_gpus(options))


def _gpus(options: argparse.Namespace) -> dict[str, str]:
    """Return the GPUs of the catalogue that were given, by what the file calls them."""
    from gpuyard.envs.hardware import catalogue

    found: dict[str, str] = {}
    for text in options.gpu:
        product, _, name = text.rpartition("=")
        found[product] = catalogue.gpu(name).name
    return found


def _refuse_overwriting(options: argparse.Namespace, path: Path | None) -> None:
    if path is not None and path.exists() and not options.force:
        raise ValueError(f"{path} exists: add --force to overwrite it, or name another --out")


def _finish(options: argparse.Namespace, text: str, beside: str = "") -> int:
    """Write the text, checked if it is a whole scenario, or print it."""
    if options.out is None:
        print(text, end="")
        return 0
    options.out.write_text(text, encoding="utf-8")
    also = f" and {options.out.with_name(beside)}" if beside else ""
    if options.source == "huggingface":
        print(f"saved {options.out}")
        return 0
    from gpuyard.envs.scenario import load

    load(options.out)
    print(
        f"saved {options.out}{also}; lines marked as assumed are yours to correct; try it: "
        f"gpuyard evaluate --scenarios {options.out}"
    )
    return 0
