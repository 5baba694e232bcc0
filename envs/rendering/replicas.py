"""The world as text and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..scenario import Scenario
from .canvas import image_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ReplicaView:
    """One line of the picture: what a replica is doing; its phase where it does not just serve."""

    name: str
    phase: str
    running: int
    waiting: int
    max_num_seqs: int
    kv_share: float


@dataclass(frozen=True)
class Picture:
    """What is drawn of one environment."""

    title: str
    replicas: tuple[ReplicaView, ...]

    @classmethod
    def of(
        cls,
        scenario: Scenario,
        now_s: float,
        router: Any,
        replicas: NDArray[np.void],
        phases: Mapping[int, str],
    ) -> Picture:
        """Read the picture of one environment off its ROUTER record and REPLICA records.

        Args:
            scenario: whose replicas they are.
            now_s: time of the picture.
            router: ROUTER record.
            replicas: REPLICA records.
            phases: names of those in which a replica is shown; of others it is left out.
        """
        title = (
            f"{scenario.name}  t = {now_s:.2f} s  "
            f"requests {router['finished']}/{router['num_requests']} finished, "
            f"{router['in_flight']} in flight, {router['held']} held"
        )
        views = []
        for number, replica in enumerate(scenario.replicas):
            state = replicas[number]
            if int(state["phase"]) not in phases:
                continue
            held = replica.kv_blocks - int(state["free_blocks"])
            deployment = replica.deployment
            views.append(
                ReplicaView(
                    f"{number} {deployment.gpus}x{deployment.gpu.name} {deployment.model.name}",
                    phases[int(state["phase"])],
                    int(state["running"]),
                    int(state["waiting"]),
                    deployment.max_num_seqs,
                    held / replica.kv_blocks,
                )
            )
        return cls(title, tuple(views))


def as_text(picture: Picture, width: int = 20) -> str:
    """Return the picture as lines of text, bars of ``width`` characters."""
    widest = max((len(view.name) for view in picture.replicas), default=0)
    lines = [picture.title]
    for view in picture.replicas:
        filled = round(width * view.kv_share)
        bar = "#" * filled + "." * (width - filled)
        lines.append(
            f"{view.name:<{widest}}  KV [{bar}] {view.kv_share:4.0%}  "
            f"running {view.running:3d}/{view.max_num_seqs}  waiting {view.waiting}"
            f"{f'  {view.phase}' if view.phase else ''}"
        )
    return "\n".join(lines)


def as_image(picture: Picture) -> NDArray[np.uint8]:
    """Return the picture as a uint8 image (h, w, 3).

    Raises:
        ImportError: matplotlib is not installed.
    """
    return image_of(lambda figure: _draw(figure, picture), 10, 1.2 + 0.35 * len(picture.replicas))


def _draw(figure: Figure, picture: Picture) -> None:
    """Draw KV blocks held, and sequences running and waiting, a bar per replica."""
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(picture.replicas))
    left.barh(rows, [100 * view.kv_share for view in picture.replicas], color="tab:blue")
    left.set_xlim(0, 100)
    left.set_xlabel("KV blocks held, %")
    left.set_yticks(rows, [f"{view.name} {view.phase}".rstrip() for view in picture.replicas])
    left.invert_yaxis()
    running = [view.running for view in picture.replicas]
    right.barh(rows, running, color="tab:green", label="running")
    waiting = [view.waiting for view in picture.replicas]
    right.barh(rows, waiting, left=running, color="tab:red", label="waiting")
    right.set_xlim(0, max((view.max_num_seqs for view in picture.replicas), default=1))
    right.set_xlabel("requests")
    right.legend(loc="lower right")
    figure.suptitle(picture.title, fontsize=10)
