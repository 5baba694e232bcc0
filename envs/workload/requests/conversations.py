"""What the requests are: conversations that grow turn by turn over shared system prompts."""

from __future__ import annotations

import math

import numpy as np

from ...engine.core.compile import entry, kernel
from ...engine.core.heap import push, replace_first
from ...engine.core.random import normal, uniform
from .arrivals import first_gap, next_gap, seconds, start_clock
from .quantiles import draw

FIRST, FOLLOW_UP, OUTPUT, THINK, DUE = range(5)  # rows of the tables
_TRIES = 16  # at lengths that fit, before they are cut

SPEC = np.dtype(
    [
        ("max_tokens", "i4"),
        ("block_tokens", "i4"),
        ("conversing", "i4"),  # 0: every request stands alone
        ("max_ids", "i4"),  # distinct prefix ids of one stream, per request
        ("waiting", "f8"),  # mean number of conversations between two turns
        ("reply_token_s", "f8"),
        ("edit_prob", "f8"),
        ("urgent_share", "f8"),
    ]
)

TALK = np.dtype(  # one conversation
    [
        ("client", "i4"),
        ("turn", "i4"),  # turns so far
        ("history", "i4"),  # tokens behind the system prompt
        ("last", "i4"),  # its latest request in the stream, -1: none
        ("number", "i4"),
        ("priority", "f4"),
    ]
)

DRAFT = np.dtype(  # one request while its neighbours are not known
    [
        ("client", "i4"),
        ("previous", "i4"),  # request before it in its conversation, -1: none
        ("common", "i4"),  # whole blocks that it shares with that one, or with its client's others
        ("ahead", "i4"),  # whole blocks that it shares with the next request of its conversation
        ("kept", "i4"),  # blocks with an id
        ("begin", "i8"),
    ]
)


@kernel
def _begin(state, spec, talk, client):
    """Set a conversation to its beginning."""
    talk.client = client
    talk.turn = 0
    talk.history = 0
    talk.last = -1
    talk.number = -1
    talk.priority = 0.0
    if spec.urgent_share > 0.0 and uniform(state) < spec.urgent_share:
        talk.priority = 1.0


@kernel
def _lengths(state, spec, tables, turn, room):
    """Draw user and output tokens that fit in ``room`` together; cut them if none of 16 fit."""
    row = FIRST if turn == 0 else FOLLOW_UP
    user, output = 0, 0
    for _ in range(_TRIES):
        user = max(1, int(draw(state, tables[row]) + 0.5))
        output = max(1, int(draw(state, tables[OUTPUT]) + 0.5))
        if user + output <= room:
            return user, output
    output = min(output, room // 2)
    return min(user, room - output), output


@kernel
def _take_turn(state, spec, talk, system, tables):
    """Take a conversation's next turn: returns prompt, output and tokens shared with the last one.

    A turn that edits the conversation keeps a random part of its history. Where the context is
    full the client drops the older half of it, which leaves only the system prompt in common.
    """
    room = spec.max_tokens - system
    user, output = _lengths(state, spec, tables, talk.turn, room)
    history = talk.history
    if history > 0 and spec.edit_prob > 0.0 and uniform(state) < spec.edit_prob:
        history = int(uniform(state) * history)
    shared = system + history
    if history + user + output > room:
        history = (room - user - output) // 2
        shared = system
    talk.history = history + user + output
    talk.turn += 1
    return system + history + user, output, shared


@kernel
def _goes_on(state, talk, go_on):
    return uniform(state) < go_on[min(talk.turn, len(go_on)) - 1]


@entry
def rehearse(state, spec, clients, tables, go_on, snapshots):
    """Fill ``snapshots`` with conversations as they stand between two of their turns.

    Weighted by how often a conversation comes to stand so: what a stream finds under way.
    """
    count = 0
    while count < len(snapshots):
        p = uniform(state)
        client = 0
        while client < len(clients) - 1 and clients[client].share_below <= p:
            client += 1
        _begin(state, spec, snapshots[count], client)
        while count < len(snapshots):
            _take_turn(state, spec, snapshots[count], clients[client].system_tokens, tables)
            if not _goes_on(state, snapshots[count], go_on):
                break
            count += 1
            if count < len(snapshots):
                snapshots[count] = snapshots[count - 1]


@entry
def generate(
    state, drafts, talks, clock, clients, spec, clock_spec, burst, profile, tables, go_on, snapshots
):
    """Generate a request for each of ``drafts``; the caller provides the scratch records.

    Args:
        state: random state.
        drafts: DRAFT (n,), scratch.
        talks: TALK (n + the most conversations that may be under way at the beginning,), scratch.
        clock: CLOCK (1,), scratch.
        clients: CLIENT (K,), changed.
        spec: SPEC (1,).
        clock_spec: CLOCK_SPEC (1,).
        burst: BURST_SPEC (1,).
        profile: float64 (hours,), mean 1.
        tables: float64 (5, cells + 1).
        go_on: float64 (T,), probability of a further turn.
        snapshots: TALK (S,), from :func:`rehearse`, shuffled; a stream takes a run of them.

    Returns:
        The columns of a ``RequestStream`` but for ``prefix_block_tokens``.
    """
    n = len(drafts)
    arrival_s = np.empty(n)
    prompt = np.empty(n, np.int32)
    output = np.empty(n, np.int32)
    session = np.empty(n, np.int32)
    priority = np.empty(n, np.float32)
    due_s = np.empty(len(talks))
    due = np.empty(len(talks), np.int32)
    waiting = first = 0
    if spec[0].conversing:
        first = int(uniform(state) * len(snapshots))
        spread = math.sqrt(spec[0].waiting) * normal(state)
        waiting = max(0, min(len(talks) - n, int(spec[0].waiting + spread + 0.5)))
    for i in range(waiting):
        talks[i] = snapshots[(first + i) % len(snapshots)]
        push(due_s, due, i, draw(state, tables[DUE]), i)
    start_clock(state, clock_spec[0], profile, clock[0])
    start = np.empty(len(clients))
    starter = np.empty(len(clients), np.int32)
    for client in range(len(clients)):
        push(start, starter, client, first_gap(state, clients[client], burst[0]), client)
    begun_s = seconds(state, clock_spec[0], profile, clock[0], start[0])
    known, numbers = waiting, 0
    for i in range(n):
        if waiting > 0 and due_s[0] < begun_s:
            at = due[0]
            arrival_s[i] = due_s[0]
            waiting -= 1
            replace_first(due_s, due, waiting, due_s[waiting], due[waiting])
        else:
            at = known
            known += 1
            client = starter[0]
            _begin(state, spec[0], talks[at], client)
            arrival_s[i] = begun_s
            gap = next_gap(state, clients[client], burst[0])
            replace_first(start, starter, len(start), start[0] + gap, client)
            begun_s = seconds(state, clock_spec[0], profile, clock[0], start[0])
        talk = talks[at]
        system = clients[talk.client].system_tokens
        prompt[i], output[i], shared = _take_turn(state, spec[0], talk, system, tables)
        if talk.number < 0:
            talk.number = numbers
            numbers += 1
        session[i] = talk.number if spec[0].conversing else -1
        priority[i] = talk.priority
        draft = drafts[i]
        draft.client = talk.client
        draft.previous = talk.last
        draft.common = (shared if talk.last >= 0 else system) // spec[0].block_tokens
        draft.ahead = 0
        if talk.last >= 0:
            drafts[talk.last].ahead = draft.common
        talk.last = i
        if spec[0].conversing and _goes_on(state, talk, go_on):
            gap = output[i] * spec[0].reply_token_s + draw(state, tables[THINK])
            push(due_s, due, waiting, arrival_s[i] + gap, at)
            waiting += 1
    offsets, ids = prefixes(spec[0], len(clients), drafts)
    return arrival_s, prompt, output, session, offsets, ids, priority


@kernel
def prefixes(spec, num_clients, drafts):
    """Give ids to the prefixes that two or more of the requests share.

    Returns:
        offsets int64 (n + 1,) and ids int32 (M,): exactly what ``prefix.shared_only`` would keep
        of all whole blocks, up to ``spec.max_ids`` distinct ids per request.
    """
    n = len(drafts)
    requests = np.zeros(num_clients, np.int32)
    for i in range(n):
        requests[drafts[i].client] += 1
    roots = np.full(num_clients, -1, np.int32)  # blocks of each client's system prompt with ids
    offsets = np.empty(n + 1, np.int64)
    end = 0
    left = spec.max_ids * n
    for i in range(n):
        draft = drafts[i]
        common = draft.common
        if draft.previous >= 0:
            common = min(common, drafts[draft.previous].kept)
        elif requests[draft.client] < 2:
            common = 0
        else:
            if roots[draft.client] < 0:
                roots[draft.client] = min(common, left)
                left -= roots[draft.client]
            common = roots[draft.client]
        fresh = max(0, min(draft.ahead - common, left))
        left -= fresh
        draft.common = common
        draft.kept = common + fresh
        draft.begin = end
        offsets[i] = end
        end += draft.kept
    offsets[n] = end
    return offsets, _name(drafts, roots, end)


@kernel
def _name(drafts, roots, total):
    """Write the ids of all requests one after the other, dense in order of first use."""
    ids = np.empty(total, np.int32)
    roots[:] = -1  # from here on the first id of each client's system prompt
    known = 0
    for i in range(len(drafts)):
        draft = drafts[i]
        begin, common, kept = draft.begin, draft.common, draft.kept
        if draft.previous >= 0:
            source = drafts[draft.previous].begin
            for j in range(common):
                ids[begin + j] = ids[source + j]
        elif common > 0:
            if roots[draft.client] < 0:
                roots[draft.client] = known
                known += common
            root = roots[draft.client]
            for j in range(common):
                ids[begin + j] = root + j
        for j in range(common, kept):
            ids[begin + j] = known + j - common
        known += kept - common
    return ids


ENTRIES = (rehearse, generate)
"""What Python calls."""
