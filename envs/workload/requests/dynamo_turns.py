"""Sessions as Dynamo and AIPerf write them: Mooncake's lines with whose turn each one is.

Source: Dynamo, ``lib/mocker/src/loadgen`` (formats ``mooncake``, ``mooncake-delta`` and
``agentic_mooncake`` of ``python -m dynamo.replay``), and AIPerf, ``mooncake_trace`` of several
turns. One JSON object a line:

| key | also named | meaning |
|---|---|---|
| `session_id` | | any label; its lines are its turns, in order |
| `input_length` | `input_tokens` | the whole prompt, or what is new in it (below) |
| `output_length` | `output_tokens` | >= 1 |
| `hash_ids` | | one id per block of the prompt, or of what is new in it |
| `timestamp` | `created_time` | ms, when a session begins |
| `delay` | `delay_ms` | ms from the answer before to this turn |
| `tool_wait_ms` | | further ms, of tools |
| `request_id`, `wait_for` | | names, and the requests whose answers a turn waits for |

Lengths are those of whole prompts (Dynamo's ``mooncake``) if a later turn's ids begin as those of
its session's first turn do; otherwise they are what each turn adds (``mooncake-delta``, and what
AIPerf does with ``mooncake_trace``).

``wait_for`` makes trees: a session whose first turn waits for a turn of another is started by it,
and the turn that follows that one waits for the last answers of all that were started.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trace_file import Table, first_line, parsed, read_jsonl
from .prefix import chain
from .stream import RequestStream
from .trees import in_order

BLOCK_TOKENS = 512
_PROMPT = ("input_length", "input_tokens")
_OUTPUT = ("output_length", "output_tokens")
_STAMP = ("timestamp", "created_time")
_DELAY = ("delay", "delay_ms")
_OTHERS = ("tool_wait_ms", "hash_ids", "request_id", "wait_for")
DELTA = "mooncake-delta"
"""What a scenario calls them if lengths are what each turn adds; "mooncake": whole prompts."""


def is_of_sessions(path: Path) -> bool:
    """Tell by its first line whether a file is of this kind."""
    first = first_line(path, "a header line or JSON objects")
    if not first.lstrip().startswith("{"):
        return False
    names = set(parsed(path, 1, first))
    return "session_id" in names and bool(names & set(_PROMPT) and names & set(_OUTPUT))


def read_sessions(path: Path, block_tokens: int, answer_token_s: float, form: str) -> RequestStream:
    """Read sessions: one behind the other in order of their begin, each with those it starts.

    Args:
        path: the file.
        block_tokens: prompt tokens per id of ``hash_ids``.
        answer_token_s: where turns have times and no delays: seconds per output token of an answer.
        form: :data:`DELTA`, "mooncake", or "auto".

    Raises:
        TraceError: naming the file, line, field, value and remedy.
    """
    names = set(parsed(path, 1, first_line(path, "JSON objects")))
    prompt, output = (
        next((name for name in keys if name in names), keys[0]) for keys in (_PROMPT, _OUTPUT)
    )
    table = read_jsonl(
        path, ("session_id", prompt, output), (*_STAMP, *_DELAY, *_OTHERS), packed="hash_ids"
    )
    stamp_s = _seconds(table, _STAMP)
    table.refuse(_STAMP[0], stamp_s < 0, "is negative", "write 0 or more milliseconds")
    rows, forks = in_order(table, np.nan_to_num(stamp_s))
    table, stamp_s = table.take(rows), stamp_s[rows]
    label = table.column("session_id")
    first = np.array([i == 0 or label[i] != label[i - 1] for i in range(len(label))])
    session = np.cumsum(first) - 1
    length, answer = table.tokens(prompt).astype(np.int64), table.tokens(output)
    think_s = _think_s(table, stamp_s, first, answer * answer_token_s)
    think_s[first & ~_is_started(forks, first)] = np.nan
    ids = _ids(table)
    is_whole = form == "mooncake" or (form == "auto" and _goes_on(ids, first))
    total = length + answer
    if is_whole:
        counts, prefix_ids, at = _of_prompts(table, ids, length, block_tokens)
    else:
        ran = np.cumsum(total)
        total = ran - (ran - total)[first][session]
        counts, prefix_ids, at = _of_sessions(table, ids, length, total, first, block_tokens)
    context = total - answer
    return RequestStream(
        arrival_s=np.where(np.isnan(think_s), np.nan_to_num(stamp_s), np.nan),
        prompt_tokens=context.astype(np.int32),
        output_tokens=answer,
        max_tokens=np.minimum(answer.max(), total.max() - context).astype(np.int32),
        session=session.astype(np.int32),
        prefix_offsets=np.concatenate([[0], np.cumsum(counts)]),
        prefix_ids=prefix_ids,
        prefix_block_tokens=block_tokens,
        priority=np.zeros(len(rows), np.float32),
        think_s=think_s,
        prefix_at=at,
        forks=forks if len(forks) else None,
    )


def _seconds(table: Table, names: tuple[str, ...]) -> NDArray[np.float64]:
    """Return milliseconds under one of two names as seconds (N,), NaN where neither is there."""
    found = np.full(len(table), np.nan)
    for name in names:
        values = table.column(name)
        there = np.array([value is not None for value in values])
        if there.any():
            given = table.take(np.flatnonzero(there))
            found[there] = given.numbers(name) / 1000.0
    return found


def _is_started(forks: NDArray[np.void], first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which rows are first turns of sessions that others start (N,)."""
    begins = np.flatnonzero(first)
    started = np.zeros(len(first), bool)
    for fork in forks:
        at = int(np.searchsorted(begins, fork["first"]))
        started[begins[at : at + fork["count"]]] = True
    return started


def _think_s(
    table: Table,
    stamp_s: NDArray[np.float64],
    first: NDArray[np.bool_],
    answer_s: NDArray[Any],
) -> NDArray[np.float64]:
    """Return the seconds from the answer before to each turn; of gaps between times, what is left.

    Without delays the time between two turns contains an answer, of ``answer_s`` for each of them.
    """
    delay_s, tool_s = _seconds(table, _DELAY), _seconds(table, ("tool_wait_ms",))
    for name, value in ((_DELAY[0], delay_s), ("tool_wait_ms", tool_s)):
        table.refuse(name, value < 0, "is negative", "write 0 or more milliseconds")
    gap_s = np.maximum(np.diff(stamp_s, prepend=np.nan) - np.roll(answer_s, 1), 0.0)
    think_s = np.where(np.isnan(delay_s), np.where(first, 0.0, np.nan_to_num(gap_s)), delay_s)
    return think_s + np.nan_to_num(tool_s)


def _ids(table: Table) -> list[NDArray[np.int64]]:
    """Return the block ids of each row, none where it has none."""
    found = []
    for row, ids in enumerate(table.column("hash_ids")):
        if ids is not None and not isinstance(ids, np.ndarray):
            table.fail(row, "hash_ids", ids, "is not a list of whole numbers", "write such a list")
        found.append(np.zeros(0, np.int64) if ids is None else ids)
    return found


def _goes_on(ids: list[NDArray[np.int64]], first: NDArray[np.bool_]) -> bool:
    """Tell whether the ids of any later turn begin as those of its session's first turn do."""
    begin = 0
    for i, is_first in enumerate(first):
        begin = i if is_first else begin
        if i > begin and len(ids[i]) and len(ids[begin]) and ids[i][0] == ids[begin][0]:
            return True
    return False


def _whole_blocks(
    table: Table, row: int, ids: NDArray[np.int64], tokens: int, block: int
) -> NDArray[np.int64]:
    """Return the ids of the whole blocks of a prompt."""
    if len(ids) > -(-tokens // block):
        problem = f"has {len(ids)} ids, and {tokens} tokens are fewer blocks of {block}"
        remedy = "set workload.prefix_block_tokens to what the file was made with"
        table.fail(row, "hash_ids", ids[:4].tolist(), problem, remedy)
    return ids[: tokens // block]


Prefixes = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]
"""How many ids each turn has (N,), all ids (M,), and where each one's begin (N,)."""


def _of_prompts(
    table: Table, ids: list[NDArray[np.int64]], prompt: NDArray[np.int64], block: int
) -> Prefixes:
    """Return the prefixes of turns whose ids are those of their whole prompts."""
    whole = [_whole_blocks(table, i, ids[i], int(prompt[i]), block) for i in range(len(ids))]
    counts = np.array([len(some) for some in whole])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return counts, chain(offsets, np.concatenate(whole).astype(np.int64)), offsets[:-1]


def _of_sessions(
    table: Table,
    ids: list[NDArray[np.int64]],
    new: NDArray[np.int64],
    total: NDArray[np.int64],
    first: NDArray[np.bool_],
    block: int,
) -> Prefixes:
    """Return the prefixes of turns that go on from all before: a session's have one place.

    What a session begins with may be as in another; all behind it, answers among it, is its own.
    """
    begins = np.flatnonzero(first)
    blocks = total[np.append(begins[1:], len(total)) - 1] // block
    known = 1 + max((int(some.max(initial=0)) for some in ids), default=0)
    lists = []
    for row, count in zip(begins.tolist(), blocks.tolist(), strict=True):
        shared = _whole_blocks(table, row, ids[row], int(new[row]), block)
        lists.append(np.concatenate([shared, np.arange(known, known + count - len(shared))]))
        known += count - len(shared)
    offsets = np.concatenate([[0], np.cumsum(blocks)])
    prefix_ids = chain(offsets, np.concatenate(lists).astype(np.int64))
    return total // block, prefix_ids, offsets[:-1][np.cumsum(first) - 1]
