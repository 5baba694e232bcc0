"""A recorded episode as one still picture: devices, replicas and queues over time (matplotlib)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.scene import REQUEST_PHASES

from ..plots import over_time
from .document import num_services
from .episode import Episode
from .site import replica_names, role_names
from .waits import waits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 900
"""Moments that are drawn."""

ROLES = ("#0072b2", "#d55e00", "#009e73", "#b14f8f", "#c98500", "#3a9bd9")
JOBS = ("#a7b3c4", "#8696ad", "#c3c9d4", "#97a39f", "#b3a9bd", "#7d8a99")
FREE, DOWN, WAITING, BUSY = "#f1f3f6", "#2b2f36", "#c98500", "#5b6675"
ROUTER, QUEUE = REQUEST_PHASES.index("router"), REQUEST_PHASES.index("queue")


Panel = tuple[float, "Callable[[Axes, Episode], None]"]


def require() -> None:
    """Make sure that pictures can be drawn.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: install gpuyard[plot]") from error


def save(episode: Episode, path: Path) -> None:
    """Write the picture of an episode as a PNG file; see :func:`require`."""
    from matplotlib.figure import Figure

    panels = _panels(episode)
    heights = [height for height, _ in panels]
    figure = Figure(figsize=(11, 0.8 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (_, draw) in zip(axes, panels, strict=True):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        draw(axis, episode)
    axes[-1].set(xlabel="time, s", xlim=(0, episode.end_s))
    figure.suptitle(f"{episode.scenario.name}, {episode.policy}, seed {episode.seed}", fontsize=11)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _panels(episode: Episode) -> list[Panel]:
    """Return the height in inches and the drawing of each panel that the episode has."""
    decisions = episode.scenario.decisions
    panels: list[Panel] = []
    if "place" in decisions:
        panels += [(3.6, _devices), (1.2, _gang_queue), (1.2, _links)]
    if "route" in decisions:
        panels += [(0.6 + 0.16 * len(episode.scenario.replicas), _replicas), (1.3, _requests)]
    return panels


def _devices(axis: Axes, episode: Episode) -> None:
    """Draw a line per GPU in the colour of what holds it."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    cluster = episode.scenario.cluster
    assert cluster is not None
    picture = np.empty((cluster.num_nodes * cluster.gpus_per_node, COLUMNS, 3))
    picture[:] = to_rgb(FREE)
    services, roles = num_services(episode), _roles_of_gangs(episode)
    for run in episode.runs:
        begin, end = _columns(episode, run.start_s, run.end_s)
        for rank, gpu in enumerate(run.devices.tolist()):
            if run.gang < services:
                colour = ROLES[roles[run.gang][rank] % len(ROLES)]
            else:
                colour = JOBS[(run.gang - services) % len(JOBS)]
            picture[gpu, begin:end] = to_rgb(colour)
    for node, begin_s, end_s in episode.outages.tolist():
        begin, end = _columns(episode, begin_s, end_s)
        first = node * cluster.gpus_per_node
        picture[first : first + cluster.gpus_per_node, begin:end] = to_rgb(DOWN)
    picture = picture[cluster.fabric.gpu_switch >= 0]
    extent = (0, episode.end_s, len(picture), 0)
    axis.imshow(picture, extent=extent, aspect="auto", interpolation="nearest")
    axis.set(ylabel="GPUs, by node")
    names = role_names(episode.scenario)
    parts = [Patch(color=ROLES[k % len(ROLES)], label=name) for k, name in enumerate(names)]
    parts += [Patch(color=JOBS[0], label="jobs"), Patch(color=FREE, label="free")]
    parts += [Patch(color=DOWN, label="failed")] * bool(len(episode.outages))
    axis.legend(handles=parts, fontsize=7, loc="upper right", ncols=len(parts))


def _roles_of_gangs(episode: Episode) -> list[list[int]]:
    """Return the role of every rank of the gangs of services."""
    scenario = episode.scenario
    found: list[list[int]] = [[0] * gpus for gpus in episode.gangs["gpus"].tolist()]
    for slot, replica in zip(scenario.slots, scenario.replicas, strict=False):
        here = slice(slot.rank, slot.rank + replica.deployment.gpus)
        found[slot.gang][here] = [slot.role] * replica.deployment.gpus
    return found


def _columns(episode: Episode, begin_s: float, end_s: float) -> tuple[int, int]:
    """Return the first column of a stretch of time and the end of its last, one at least."""
    begin, end = (int(COLUMNS * time_s / episode.end_s) for time_s in (begin_s, end_s))
    return begin, max(end, begin + 1)


def _gang_queue(axis: Axes, episode: Episode) -> None:
    _, _, gpus, begins, ends = np.array(waits(episode), float).reshape(-1, 5).T
    _fill(axis, gpus, begins, ends, WAITING, "")
    axis.set_ylabel("GPUs\nwaited for", fontsize=8)


def _links(axis: Axes, episode: Episode) -> None:
    times_s, loads = episode.samples.times_s, episode.samples.link_load
    if not loads.shape[1]:
        return
    busiest, mean = loads.max(axis=1), loads.mean(axis=1)
    axis.step(times_s, busiest, where="post", color=BUSY, linewidth=0.8, label="busiest link")
    axis.step(times_s, mean, where="post", color=ROLES[1], linewidth=1.2, label="mean")
    axis.set(ylim=(0, 105))
    axis.set_ylabel("link load, %", fontsize=8)
    axis.legend(frameon=False, fontsize=7, loc="upper right")


def _replicas(axis: Axes, episode: Episode) -> None:
    """Draw a line per replica, darker the more requests it has."""
    edges = np.linspace(0.0, episode.end_s, COLUMNS + 1)
    names = replica_names(episode.scenario)
    picture = np.zeros((len(names), COLUMNS))
    for replica in range(len(names)):
        own = episode.stays[episode.stays["replica"] == replica]
        times, number = _steps(np.ones(len(own)), own["begin_s"], own["end_s"])
        picture[replica] = number[np.searchsorted(times, edges[:-1], side="right")]
    extent = (0, episode.end_s, len(names), 0)
    drawn = axis.imshow(picture, "Blues", extent=extent, aspect="auto", interpolation="nearest")
    axis.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=6)
    axis.figure.colorbar(drawn, ax=axis, label="requests", pad=0.01)


def _requests(axis: Axes, episode: Episode) -> None:
    for phase, colour, label in ((QUEUE, BUSY, "queued"), (ROUTER, WAITING, "at the router")):
        own = episode.stays[episode.stays["phase"] == phase]
        _fill(axis, np.ones(len(own)), own["begin_s"], own["end_s"], colour, label)
    axis.set_ylabel("requests\nthat wait", fontsize=8)
    axis.legend(frameon=False, fontsize=7, loc="upper right")


def _fill(
    axis: Axes, amounts: NDArray, begins: NDArray, ends: NDArray, colour: str, label: str
) -> None:
    times, sums = over_time(amounts, begins, ends)
    axis.fill_between(times, sums, step="post", color=colour, label=label or None)


def _steps(amounts: NDArray, begins: NDArray, ends: NDArray) -> tuple[NDArray, NDArray]:
    """Return moments and what holds before the first of them and from each one on."""
    times, sums = over_time(amounts, begins, ends)
    return times, np.concatenate([[0.0], sums])
