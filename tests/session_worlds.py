"""Random sessions that answer back, for the engine and for the naive reference."""

from __future__ import annotations

import numpy as np
from reference_sessions import Turn

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


def waits(stream: RequestStream) -> list[Turn]:
    """Return what each request waits for."""
    assert stream.think_s is not None
    last: dict[int, int] = {}
    found = []
    for i, (session, think_s) in enumerate(
        zip(stream.session.tolist(), stream.think_s.tolist(), strict=True)
    ):
        found.append(Turn() if np.isnan(think_s) else Turn(last[session], think_s))
        last[session] = i
    return found
