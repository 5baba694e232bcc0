"""What becomes of a session whose turn ends unserved: it fails, its further turns are not asked.

So do clients of rollouts: a trajectory whose request is refused or times out is aborted, and its
sample dropped (``Sample.Status.ABORTED`` of slime and miles, github.com/radixark/miles/issues/2800;
the workers of agent-lightning begin it anew, which is not modelled). Sub-sessions that a turn to
come would have started are not asked either; where a sub-session itself fails, the turn that waits
for it goes on with what the others have answered. A session that failed has ended: the next one in
line begins.
"""

from __future__ import annotations

from ..core.compile import kernel
from ..core.units import unit
from .answered import begin_next, count_end
from .turns import make_known

NEVER_ASKED = 3
"""Outcome of a request, behind those of :mod:`.refusal`."""


@unit
def fail_session(w, e, failed, now_s):
    """Let the session of a turn that has ended unserved fail: all that waits for it is not asked.

    Requests that are still to be looked at are linked by ``next``: none of them is in a queue.
    """
    router, top = w.router[e], failed
    router.last_finish_s = max(router.last_finish_s, now_s)
    w.requests[e, failed].next = -1
    while top >= 0:
        index, request = top, w.requests[e, top]
        top = int(request.next)
        if index != failed:
            request.outcome = NEVER_ASKED
            router.never_asked += 1
            router.unknown -= 1
        for first in range(request.forks, request.forks + request.num_forks):
            w.requests[e, first].next = top
            top = first
        following = int(request.following)
        if following < 0:
            count_end(now_s, router)
            begin_next(w, e, now_s, router)
        elif w.requests[e, following].session == request.session:
            w.requests[e, following].next = top
            top = following
        else:
            join(w, e, following, now_s, router)


@kernel
def join(w, e, index, now_s, router):
    """Let a turn wait for one sub-session less; it still waits for a turn before it that failed."""
    w.requests[e, index].joins -= 1
    if w.requests[e, index].joins == 0:
        make_known(w, e, index, now_s, router)
