"""When jobs and replicas waited for devices, read off a recorded episode."""

from __future__ import annotations

from typing import NamedTuple

from gpuyard.envs.scene import REPLICA_PHASES

from .episode import ENDS, Episode

QUEUED = REPLICA_PHASES.index("queued")
AGAIN = {ENDS.index("preempted"), ENDS.index("failed")}
"""Ends after which a job waits once more."""


class Wait(NamedTuple):
    """Somebody who waits for devices.

    Attributes:
        gang: number among all gangs.
        replica: of a service, -1: it is a job.
        gpus: that it waits for.
        begin_s, end_s: from when to when.
    """

    gang: int
    replica: int
    gpus: int
    begin_s: float
    end_s: float


def waits(episode: Episode) -> list[Wait]:
    """Return all waits in the order of the queue, services first, then of time.

    A job waits from its arrival and whenever it was stopped, a replica while it is queued.
    """
    found = [*_of_replicas(episode), *_of_jobs(episode)]
    return sorted(wait for wait in found if wait.end_s > wait.begin_s)


def _of_replicas(episode: Episode) -> list[Wait]:
    slots, replicas = episode.scenario.slots, episode.scenario.replicas
    return [
        Wait(slots[replica].gang, replica, replicas[replica].deployment.gpus, begin_s, end_s)
        for replica, phase, begin_s, end_s in episode.phases.tolist()
        if phase == QUEUED
    ]


def _of_jobs(episode: Episode) -> list[Wait]:
    found, gpus = [], episode.gangs["gpus"].tolist()
    jobs = (episode.gangs["service"] < 0).nonzero()[0].tolist()
    since_s = {gang: float(episode.gangs["arrival_s"][gang]) for gang in jobs}
    for run in episode.runs:
        if run.gang not in since_s:
            continue
        begin_s = since_s.pop(run.gang)
        found.append(Wait(run.gang, -1, gpus[run.gang], begin_s, run.start_s))
        if run.ended in AGAIN:
            since_s[run.gang] = run.end_s
    return found + [
        Wait(gang, -1, gpus[gang], begin_s, episode.end_s) for gang, begin_s in since_s.items()
    ]
