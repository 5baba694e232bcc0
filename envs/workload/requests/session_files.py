"""Sessions out of a trace: turns in order, and how long each waits for the answer before.

Two kinds of files hold sessions. A table of turns says whose each is and how long its tool took:

| column | also named | meaning |
|---|---|---|
| `session` | | any label |
| `turn` | `turn_index`, `span_index` | order inside the session; without it that of the file |
| `prompt_tokens` | `input_tokens` | the whole context, or `new_tokens`: what is new in it |
| `output_tokens` | | >= 1; rows with 0 have failed and are left out |
| `tool_s` | `think_time_s`, `think_s` | seconds from the answer before to this turn's arrival |
| `start_time_s` and `duration_ms` | | instead: when each call began and how long it took |

Any other trace of requests (:mod:`.readers`) has sessions by its labels, or else by its prefixes: a
request follows the last one whose whole blocks it begins with, if that has two or more and nobody
else follows it. There an answer's time is not known: it counts as ``answer_token_s`` per token.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trace_file import Table, cells, first_line, parsed, read_csv, read_jsonl, warn
from .stream import RequestStream

ANSWER_TOKEN_S = 0.02
"""Assumed time per output token of whoever answered in a trace that does not say."""

_TURN = ("turn", "turn_index", "span_index")
_CONTEXT = ("prompt_tokens", "input_tokens")
_TOOL = ("tool_s", "think_time_s", "think_s")
_CALL = ("start_time_s", "duration_ms")


def is_table_of_turns(path: Path) -> bool:
    """Tell by its column names whether a file says of each turn how long its tool took."""
    names = _names(path)
    times = names & set(_TOOL) or names >= set(_CALL)
    return bool("session" in names and names & {*_CONTEXT, "new_tokens"} and times)


def _names(path: Path) -> set[str]:
    first = first_line(path, "a header line or JSON objects")
    if first.lstrip().startswith("{"):
        return set(parsed(path, 1, first))
    return set(cells(path, first))


def read_turns(path: Path, block_tokens: int) -> RequestStream:
    """Read a table of turns: all its sessions, one behind the other, in order of their begin.

    Args:
        path: the file, CSV or JSON lines.
        block_tokens: tokens per prefix id, of which the file has none.

    Raises:
        TraceError: naming the file, line, field, value and remedy.
    """
    names = _names(path)
    is_json = first_line(path, "").lstrip().startswith("{")
    context = _one_of(names, (*_CONTEXT, "new_tokens"))
    turn, tool = _one_of(names, _TURN), _one_of(names, _TOOL)
    times = (tool,) if tool else _CALL
    fields = ("session", context, "output_tokens", *times, *((turn,) if turn else ()))
    table = read_jsonl(path, fields) if is_json else read_csv(path)
    table = _without_failed(table)
    place: NDArray[Any] = table.numbers(turn) if turn else np.arange(len(table))
    order, first = _by_session(table.column("session"), place)
    table = table.take(order)
    prompt, output = table.tokens(context).astype(np.int64), table.tokens("output_tokens")
    if context == "new_tokens":
        prompt = _contexts(prompt, output, first)
    begin_s = table.seconds("start_time_s") if not tool else np.zeros(len(table))
    think_s = _think_s(table, tool, begin_s)
    table.refuse(times[0], think_s < 0, "is negative", "write 0 or more seconds")
    think_s[first] = np.nan
    begin_s = np.where(np.isnan(think_s), begin_s - begin_s[first].min(), np.nan)
    return _chained(prompt, output, think_s, begin_s, block_tokens)


def _one_of(names: set[str], aliases: tuple[str, ...]) -> str:
    """Return the alias that a table has, "" if it has none."""
    return next((name for name in aliases if name in names), "")


def _without_failed(table: Table) -> Table:
    """Leave out turns without an answer."""
    tokens = table.numbers("output_tokens")
    failed = int((tokens == 0).sum())
    if failed:
        warn(table.path, f"{failed} of {len(table)} turns have no output: they are left out")
        return table.take(np.flatnonzero(tokens != 0))
    return table


def _by_session(
    labels: list[Any], place: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows session by session, in order of first use, and where each begins."""
    known: dict[Any, int] = {}
    number = np.array([known.setdefault(label, len(known)) for label in labels])
    order = np.lexsort((place, number))
    return order, np.flatnonzero(np.diff(number[order], prepend=-1))


def _contexts(
    new: NDArray[np.int64], output: NDArray[np.int32], first: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the prompts whose new tokens are given."""
    total = np.cumsum(new + output)
    before = np.repeat(total[first] - (new + output)[first], np.diff(first, append=len(new)))
    return total - before - output


def _think_s(table: Table, tool: str, begin_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the seconds before each turn; those of a session's first turn mean nothing."""
    if tool:
        given = ["0" if text in ("", None) else text for text in table.column(tool)]
        empty = sum(text in ("", None) for text in table.column(tool))
        if empty:
            warn(table.path, f"{tool} is empty in {empty} of {len(table)} turns: it counts as 0 s")
        return Table(table.path, {tool: given}, table.lines).seconds(tool)
    end_s = begin_s + table.numbers("duration_ms") / 1000.0
    return np.maximum(begin_s - np.concatenate([[0.0], end_s[:-1]]), 0.0)


def _chained(
    prompt: NDArray[np.int64],
    output: NDArray[np.int32],
    think_s: NDArray[np.float64],
    begin_s: NDArray[np.float64],
    block: int,
) -> RequestStream:
    """Return the stream of turns that are told by lengths alone.

    A turn begins with all of the turn before if it is as long, with that one's prompt if it is as
    long as that (reasoning is not sent back), else with nothing of it: the context was compacted.
    """
    total = prompt + output
    ids: list[int] = []
    begin, count = np.zeros(len(prompt), np.int64), total // block
    known, listed = 0, 0
    for i in range(len(prompt)):
        kept = 0
        if not np.isnan(think_s[i]):
            kept = int(prompt[i - 1]) if prompt[i] >= prompt[i - 1] else 0
            kept = int(total[i - 1]) if prompt[i] >= total[i - 1] else kept
        if kept // block >= listed and listed:  # goes on where the turn before ended
            begin[i] = begin[i - 1]
        else:
            begin[i] = len(ids)
            ids += ids[begin[i - 1] : begin[i - 1] + kept // block] if kept else []
        fresh = int(count[i]) - (len(ids) - int(begin[i]))
        ids += range(known, known + fresh)
        known, listed = known + max(fresh, 0), int(count[i])
    session = np.cumsum(np.isnan(think_s)) - 1
    return RequestStream(
        arrival_s=begin_s,
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=output,
        max_tokens=np.minimum(output.max(), total.max() - prompt).astype(np.int32),
        session=session.astype(np.int32),
        prefix_offsets=np.concatenate([[0], np.cumsum(count)]),
        prefix_ids=np.array(ids, np.int32),
        prefix_block_tokens=block,
        priority=np.zeros(len(prompt), np.float32),
        think_s=think_s,
        prefix_at=begin,
    )


def answering_back(stream: RequestStream, answer_token_s: float) -> RequestStream:
    """Return a trace of requests session by session, with what each turn waits for.

    Args:
        stream: in order of arrival.
        answer_token_s: seconds per output token that the gaps of the trace contain.
    """
    labels = stream.session.astype(np.int64)
    if (labels < 0).all():
        labels = _by_prefix(stream)
    alone = labels < 0
    labels[alone] = labels.max(initial=-1) + 1 + np.arange(alone.sum())
    order, first = _by_session(labels.tolist(), np.arange(len(labels)))
    arrival_s = stream.arrival_s[order]
    answer_s = stream.output_tokens[order] * answer_token_s
    think_s = np.maximum(np.diff(arrival_s, prepend=0.0) - np.roll(answer_s, 1), 0.0)
    think_s[first] = np.nan
    counts = np.diff(stream.prefix_offsets)[order]
    return replace(
        stream,
        arrival_s=np.where(np.isnan(think_s), arrival_s, np.nan),
        prompt_tokens=stream.prompt_tokens[order],
        output_tokens=stream.output_tokens[order],
        max_tokens=stream.max_tokens[order],
        session=(np.cumsum(np.isnan(think_s)) - 1).astype(np.int32),
        prefix_offsets=np.concatenate([[0], np.cumsum(counts)]),
        priority=stream.priority[order],
        think_s=think_s,
        prefix_at=stream.prefix_begin[order],
    )


def _by_prefix(stream: RequestStream) -> NDArray[np.int64]:
    """Return a label of each request's session: that of the request it goes on from, or its own."""
    label = np.arange(len(stream))
    open_by_last: dict[int, int] = {}  # last id of a request that nobody follows: which one
    for i, (begin, end) in enumerate(
        zip(stream.prefix_offsets[:-1].tolist(), stream.prefix_offsets[1:].tolist(), strict=True)
    ):
        for at in range(end - 1, begin, -1):
            before = open_by_last.pop(int(stream.prefix_ids[at]), -1)
            if before >= 0:
                label[i] = label[before]
                break
        if end - begin >= 2:
            open_by_last[int(stream.prefix_ids[end - 1])] = i
    return label
