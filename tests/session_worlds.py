"""Random sessions that answer back, for the engine and for the naive reference."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from reference_sessions import Rollouts, Turn

from gpuyard.envs.workload.requests.steps import FORK, Steps, waiting_for_others
from gpuyard.envs.workload.requests.stream import RequestStream


def random_sessions(rng: np.random.Generator, num_sessions: int, unit: int) -> RequestStream:
    """Sessions of one to seven turns, whose context grows to 600 tokens at most.

    A tool takes no time, as long as another's, or any. Some sessions share the beginning of their
    prompts. The turns of a session have their prefix ids in one place.
    """
    rows, ids = [], []
    shared = [*range(600 // unit)] if unit else []
    known = len(shared)
    for session in range(num_sessions):
        begun, context, begin, listed = rng.uniform(0, 2.0), 0, len(ids), 0
        common = int(rng.integers(0, 4)) if unit else 0
        for turn in range(int(rng.integers(1, 8))):
            prompt, output = context + int(rng.integers(1, 90)), int(rng.integers(1, 60))
            if prompt + output > 560:
                break
            context = prompt + output
            count = context // unit if unit else 0
            for place in range(listed, count):
                ids.append(shared[place] if place < common else known)
                known += place >= common
            listed = count
            think_s = rng.choice([0.0, 0.05, rng.exponential(0.3)]) if turn else np.nan
            rows.append((turn, session, begun, prompt, output, think_s, begin, count))
    rows.sort(key=lambda row: (row[0] > 0, row[2] if row[0] == 0 else row[0]))
    _, session, arrival, prompt, output, think, begin, count = map(
        np.array, zip(*rows, strict=True)
    )
    return RequestStream(
        arrival_s=np.where(np.isnan(think), arrival, np.nan),
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=output.astype(np.int32),
        max_tokens=np.minimum(output + 40, 600 - prompt).astype(np.int32),
        session=session.astype(np.int32),
        prefix_offsets=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        prefix_ids=np.array(ids, np.int32),
        prefix_block_tokens=unit,
        priority=np.zeros(len(rows), np.float32),
        think_s=think,
        prefix_at=begin.astype(np.int64),
    )


def numbered(stream: RequestStream) -> RequestStream:
    """Number the sessions by the rows of their first turns."""
    firsts = stream.session[np.isnan(stream.think_s)]
    number = np.empty(len(firsts), np.int32)
    number[firsts] = np.arange(len(firsts))
    return replace(stream, session=number[stream.session])


def with_forks(rng: np.random.Generator, stream: RequestStream, subs: int) -> RequestStream:
    """Let the last ``subs`` sessions be started by turns of sessions before them."""
    stream = numbered(stream)
    count = int(stream.session.max()) + 1
    arrival_s, think_s = stream.arrival_s.copy(), stream.think_s.copy()
    forks, first = [], count - subs
    while first < count:
        size = int(rng.integers(1, count - first + 1))
        earlier = np.flatnonzero(stream.session < first)
        parents = [i for i in earlier if (stream.session[i + 1 :] == stream.session[i]).any()]
        parents = [i for i in parents if i not in [parent for parent, _, _ in forks]]
        if not parents:
            break
        forks.append((int(rng.choice(parents)), first, size))
        arrival_s[first : first + size] = np.nan
        think_s[first : first + size] = rng.choice([0.0, 0.05, rng.exponential(0.3)], size)
        first += size
    return replace(stream, arrival_s=arrival_s, think_s=think_s, forks=np.array(forks, FORK))


def with_steps(stream: RequestStream, steps: Steps) -> RequestStream:
    """Let the sessions that no other starts be those of several steps of rollouts."""
    stream = numbered(stream) if stream.forks is None else stream
    own = int(np.isnan(stream.think_s).sum())
    begins_s = stream.arrival_s[:own]
    arrival_s, think_s = waiting_for_others(stream.think_s, begins_s, own // steps.count)
    return replace(stream, arrival_s=arrival_s, think_s=think_s, steps=steps)


def in_line(stream: RequestStream, most: int) -> RequestStream:
    """Let no more than ``most`` sessions be open at once; they begin in order of their numbers."""
    stream = numbered(stream) if stream.forks is None else stream
    begins_s = stream.arrival_s[: int(np.isnan(stream.think_s).sum())]
    begins_s = np.concatenate([begins_s[:most], np.zeros(len(begins_s[most:]))])
    arrival_s, think_s = waiting_for_others(stream.think_s, begins_s, most)
    return replace(stream, arrival_s=arrival_s, think_s=think_s)


def last_turns(stream: RequestStream) -> list[int]:
    """Return the request that ends each session that no other starts, by their numbers."""
    own = len(set(stream.session.tolist()))
    own -= 0 if stream.forks is None else int(stream.forks["count"].sum())
    last = {int(session): i for i, session in enumerate(stream.session)}
    return [last[session] for session in range(own)]


def waits(stream: RequestStream) -> list[Turn]:
    """Return what each request waits for."""
    assert stream.think_s is not None
    at_first = int(np.isnan(stream.think_s).sum())
    forks = [] if stream.forks is None else stream.forks.tolist()
    starts = {row: parent for parent, first, k in forks for row in range(first, first + k)}
    own = len(set(stream.session.tolist())) - len(starts)
    of_step = own // stream.steps.count if stream.steps else own
    last: dict[int, int] = {}
    found = []
    for i, (session, think_s) in enumerate(
        zip(stream.session.tolist(), stream.think_s.tolist(), strict=True)
    ):
        if session in last:
            found.append(Turn(last[session], think_s))
        elif i in starts:
            found.append(Turn(starts[i], think_s))
        elif stream.steps is None and i >= at_first:
            found.append(Turn(ends=i - at_first + 1, think_s=think_s))
        else:
            found.append(Turn(step=i // of_step, think_s=0.0 if np.isnan(think_s) else think_s))
        last[session] = i
    for parent, first, k in forks:
        following = next(
            i for i, turn in enumerate(found) if i >= first + k and turn.after == parent
        )
        ends = [last[int(session)] for session in stream.session[first : first + k]]
        found[following] = replace(found[following], after=(parent, *ends))
    return found


def rollouts_of(stream: RequestStream) -> Rollouts:
    """Return the steps of a stream for the naive reference."""
    assert stream.steps is not None
    ends, steps = last_turns(stream), stream.steps
    of_step = len(ends) // steps.count
    most = math.ceil(round(steps.next_at * of_step, 9))
    return Rollouts(ends, of_step, most, steps.update_s, steps.keep_cache)
