"""When gangs waited for devices, read off a recorded episode."""

from __future__ import annotations

from gpuyard.envs.scene import REPLICA_PHASES

from .episode import ENDS, Episode

QUEUED = REPLICA_PHASES.index("queued")
AGAIN = {ENDS.index("preempted"), ENDS.index("failed")}
"""Ends after which a gang waits once more."""

Wait = tuple[int, float, float]
"""Gang, from when to when."""


def waits(episode: Episode) -> list[Wait]:
    """Return all waits in the order of gangs, then of time.

    A job waits from its arrival and whenever it was stopped, the gang of a replica while that is
    queued.
    """
    found: set[Wait] = set()
    for replica, phase, begin_s, end_s in episode.phases.tolist():
        if phase == QUEUED:
            found.add((episode.scenario.slots[replica].gang, begin_s, end_s))
    jobs = episode.gangs["service"] < 0
    since_s = {gang: float(episode.gangs["arrival_s"][gang]) for gang in jobs.nonzero()[0].tolist()}
    for run in episode.runs:
        if not jobs[run.gang]:
            continue
        if run.start_s > since_s[run.gang]:
            found.add((run.gang, since_s[run.gang], run.start_s))
        del since_s[run.gang]
        if run.ended in AGAIN:
            since_s[run.gang] = run.end_s
    found |= {(gang, begin_s, episode.end_s) for gang, begin_s in since_s.items()}
    return sorted(wait for wait in found if wait[2] > wait[1])
