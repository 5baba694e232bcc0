"""A placement world as text and as a picture, drawn from what a planner may see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..cluster_view import DOWN, FREE, ClusterView
from .canvas import image_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTERS = "abcdefghijklmnopqrstuvwyzABCDEFGHIJKLMNOPQRSTUVWYZ"  # x: down
LEAF_LINES, QUEUE_LINES = 32, 8
"""Lines of text for leafs and for pending gangs, at most."""

SPELLED_GPUS = 64
"""A leaf of at most so many GPUs is spelled out, one letter per GPU; a larger one is a bar."""

FREE_COLOUR, DOWN_COLOUR, NO_GPU_COLOUR = "#eef0f2", "#30343a", "#ffffff"


def as_text(view: ClusterView, name: str, width: int = 40) -> str:
    """Return a line per leaf (its GPUs and the load of its links), then the queue.

    A letter is the gang that holds a GPU, ``.`` a free one, ``x`` one that is down. Loads are the
    mean and the highest of the leaf's links to the spines, up and down.

    Args:
        view: the cluster.
        name: of the scenario.
        width: characters of the bar of a leaf with many GPUs.
    """
    leafs = len(view.cluster.leaf_pod)
    loads = leaf_loads(view)
    lines = [title(view, name)]
    for leaf in range(min(leafs, LEAF_LINES)):
        nodes = np.flatnonzero(view.cluster.node_leaf == leaf)
        pool = view.cluster.pools[view.cluster.node_pool[nodes[0]]]
        held = _devices(view)[nodes, : pool.gpus_per_node]
        cells = _spelled(held) if held.size <= SPELLED_GPUS else _bar(held, width)
        load = loads[leaf]
        links = f"  links {load.mean():4.0%} mean {load.max():4.0%} max" if load.size else ""
        lines.append(f"leaf {leaf:<3d} {pool.gpu.name}  {cells}{links}")
    if leafs > LEAF_LINES:
        lines.append(f"... {leafs - LEAF_LINES} more leafs")
    for gang in view.pending[:QUEUE_LINES]:
        lines.append(
            f"pending {gang['id']}: {gang['gpus']} GPUs, waits {view.now_s - gang['arrival_s']:.0f}"
            f" s, believed to run {gang['estimate_s']:.0f} s"
        )
    if len(view.pending) > QUEUE_LINES:
        lines.append(f"... {len(view.pending) - QUEUE_LINES} more pending")
    return "\n".join(lines)


def title(view: ClusterView, name: str) -> str:
    """Return one line on the whole cluster."""
    held = view.gpu_job[view.cluster.fabric.gpu_switch >= 0]
    down = int((held == DOWN).sum())
    return (
        f"{name}  t = {view.now_s:.0f} s  GPUs {(held >= 0).sum()}/{len(held)} busy"
        f"{f', {down} down' if down else ''}; gangs {len(view.running)} running, "
        f"{len(view.pending)} pending ({view.pending['gpus'].sum()} GPUs)"
    )


def uplink_loads(view: ClusterView) -> NDArray[np.float64]:
    """Return the loads of the links between leaf switches and spines, shape (2, S, U): up, down."""
    return view.cluster.fabric.by_group(view.link_load)[1]


def core_loads(view: ClusterView) -> NDArray[np.float64]:
    """Return the loads of the links between spines and core, shape (2, pods, A, V): up, down."""
    return view.cluster.fabric.by_group(view.link_load)[2]


def leaf_loads(view: ClusterView) -> list[NDArray[np.float64]]:
    """Return the loads of the links of every leaf's switches, one flat array per leaf."""
    up_down, leaf = uplink_loads(view), view.cluster.switch_leaf
    return [up_down[:, leaf == number].ravel() for number in range(len(view.cluster.leaf_pod))]


def as_image(view: ClusterView, name: str) -> NDArray[np.uint8]:
    """Return the fabric with its link loads, the GPUs by gang and the queue, uint8 (h, w, 3).

    Raises:
        ImportError: matplotlib is not installed.
    """
    return image_of(lambda figure: _draw(figure, view, name), 12, 6.5)


def _draw(figure: Figure, view: ClusterView, name: str) -> None:
    grid = figure.add_gridspec(2, 2, width_ratios=(5, 1), height_ratios=(3, 2))
    fabric = figure.add_subplot(grid[0, 0])
    _draw_fabric(fabric, view)
    _draw_gpus(figure.add_subplot(grid[1, 0], sharex=fabric), view)
    _draw_queue(figure.add_subplot(grid[:, 1]), view)
    figure.suptitle(title(view, name), fontsize=10)


def _draw_fabric(axis: Axes, view: ClusterView) -> None:
    """Draw leaf switches, spines and core, joined by links in the colour of their load."""
    from matplotlib.collections import LineCollection

    fabric = view.cluster.fabric
    pods, spines, core = fabric.core_bytes_per_s.shape
    switch_x, spine_x = _places(fabric.num_switches), _places(pods * spines)
    switch, uplink = np.nonzero(view.circuits >= 0)
    above = fabric.switch_pod[switch] * spines + view.circuits[switch, uplink]
    ends = [(switch_x[switch], 0.0, spine_x[above], 1.0)]
    loads = [uplink_loads(view).max(axis=0)[switch, uplink]]
    axis.scatter(switch_x, np.zeros_like(switch_x), marker="s", color="#30343a", s=20, zorder=3)
    axis.scatter(spine_x, np.ones_like(spine_x), marker="s", color="#30343a", s=20, zorder=3)
    rows = ["leaf switches", "spines"]
    if core:
        core_x = _places(spines * core)
        pod, spine, link = (part.ravel() for part in np.indices((pods, spines, core)))
        ends.append((spine_x[pod * spines + spine], 1.0, core_x[spine * core + link], 2.0))
        loads.append(core_loads(view).max(axis=0).ravel())
        axis.scatter(core_x, np.full_like(core_x, 2.0), marker="s", color="#30343a", s=20, zorder=3)
        rows.append("core")
    load = np.concatenate(loads)
    segments = np.concatenate([_segments(*group) for group in ends])
    order = np.argsort(load)  # the busiest on top
    links = LineCollection(list(segments[order]), cmap="YlOrRd", linewidths=1.2)
    links.set_array(load[order])
    links.set_clim(0.0, 1.0)
    axis.add_collection(links)
    axis.figure.colorbar(links, ax=axis, label="load of the busier direction", pad=0.01)
    axis.set(xlim=(0, 1), ylim=(-0.2, len(rows) - 0.8), yticks=range(len(rows)), yticklabels=rows)
    axis.tick_params(labelbottom=False, bottom=False)


def _draw_gpus(axis: Axes, view: ClusterView) -> None:
    """Draw a column of GPUs per node, each in the colour of the gang that holds it."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    held = _devices(view)
    picture = colormaps["tab20"](held % 20)[..., :3]
    picture[held == FREE] = to_rgb(FREE_COLOUR)
    picture[held == DOWN] = to_rgb(DOWN_COLOUR)
    absent = view.cluster.fabric.gpu_switch.reshape(held.shape) < 0
    picture[absent] = to_rgb(NO_GPU_COLOUR)
    axis.imshow(
        picture.swapaxes(0, 1),
        extent=(0, 1, held.shape[1], 0),
        aspect="auto",
        interpolation="nearest",
    )
    edges = np.flatnonzero(np.diff(view.cluster.node_leaf)) + 1
    axis.vlines(edges / len(held), 0, held.shape[1], color="#30343a", linewidth=1.0)
    axis.set(xlabel="nodes, by leaf", ylabel="GPUs of a node", yticks=[])
    axis.tick_params(labelbottom=False, bottom=False)


def _draw_queue(axis: Axes, view: ClusterView) -> None:
    """Draw a bar per pending gang, oldest on top."""
    shown = view.pending[:20]
    axis.barh([str(gang) for gang in shown["id"]], shown["gpus"], color="#9aa0a6")
    axis.set(xlabel="GPUs", title=f"queue: {len(view.pending)}")
    axis.invert_yaxis()
    axis.tick_params(labelsize=7)


def _places(count: int) -> NDArray[np.float64]:
    return (np.arange(count) + 0.5) / max(count, 1)


def _segments(
    x0: NDArray[np.float64], y0: float, x1: NDArray[np.float64], y1: float
) -> NDArray[np.float64]:
    """Return lines from (x0, y0) to (x1, y1), shape (n, 2, 2)."""
    begin, end = (np.column_stack([x, np.full_like(x, y)]) for x, y in ((x0, y0), (x1, y1)))
    return np.stack([begin, end], axis=1)


def _devices(view: ClusterView) -> NDArray[np.int32]:
    """Return the gang of every GPU by node and slot."""
    return view.gpu_job.reshape(view.cluster.num_nodes, -1)


def _spelled(held: NDArray[np.int32]) -> str:
    signs = {FREE: ".", DOWN: "x"}
    return " ".join(
        "".join(signs.get(gang) or LETTERS[gang % len(LETTERS)] for gang in node)
        for node in held.tolist()
    )


def _bar(held: NDArray[np.int32], width: int) -> str:
    busy = round(width * float((held >= 0).mean()))
    down = round(width * float((held == DOWN).mean()))
    free = max(width - busy - down, 0)
    return f"[{'#' * busy}{'.' * free}{'x' * down}]"
