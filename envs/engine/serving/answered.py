"""What an answer brings about: a further turn, sub-sessions, the end of a session or of a step.

A turn's answer may start sub-sessions; the turn that follows it waits for the last answer of each
of them. A session ends with its last turn. Where a world goes through several steps of rollouts,
each has as many sessions, by their numbers: the next one begins, and replicas take new weights,
when enough sessions of the latest have ended (:mod:`.weights`). A session is stale if it ended
under later weights than those that its step began with. Where only so many sessions are open at
once, each that ends lets the one begin that stands first in line.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .turns import make_known
from .weights import interrupt

MOST_OF_SESSIONS = 0.9
"""Share of the sessions after whose end the rest is a step's tail. Source: NeMo-RL pull 3663, which
reports when 540 of 600 sessions were done; RollPacker (arXiv:2509.21009) cuts the tail there."""


@kernel(inline=False)
def answer(w, e, request, end_s, router):
    """Note that a request was answered: further turns are known, or the session has ended."""
    for index in range(request.forks, request.forks + request.num_forks):
        make_known(w, e, index, end_s, router)
    following = int(request.following)
    if following < 0:
        end_session(w, e, request, end_s, router)
        return
    turn = w.requests[e, following]
    turn.joins -= 1
    if turn.joins == 0:
        make_known(w, e, following, end_s, router)


@kernel
def count_end(end_s, router):
    """Count a session that has ended."""
    router.sessions_ended += 1
    if router.sessions_ended == math.ceil(MOST_OF_SESSIONS * router.sessions):
        router.ended_90_s = end_s


@kernel
def end_session(w, e, request, end_s, router):
    """Count a session that has ended, and begin the next step if it was the last one awaited."""
    count_end(end_s, router)
    if router.step_sessions == 0:
        begin_next(w, e, end_s, router)
        return
    step = request.session // router.step_sessions
    router.stale_sessions += router.step - w.replicas[e, request.replica].outdated > step
    router.step_ended += step == router.step
    is_last = (router.step + 1) * router.step_sessions == router.sessions
    if router.step_ended == router.step_most and not is_last:
        begin_rollouts(w, e, end_s, router)


@kernel
def begin_next(w, e, now_s, router):
    """Begin the session that stands first in line, if there is one.

    The first turns of all sessions are the first rows, and those of the line stand behind the
    ``openers``, which arrive by the clock: without a line these are all sessions.
    """
    index = router.openers + router.sessions_ended - 1
    if index < router.sessions:
        make_known(w, e, index, now_s, router)


@kernel
def begin_rollouts(w, e, now_s, router):
    """Begin the next step of rollouts: new weights first, then its sessions."""
    router.step += 1
    router.step_ended = 0
    resume_s = now_s + router.update_s
    for r in range(len(w.replica_specs)):
        interrupt(w, e, r, now_s, resume_s, w.replicas[e, r], router)
    first = router.step * router.step_sessions
    for index in range(first, first + router.step_sessions):
        make_known(w, e, index, resume_s, router)
