"""From checked columns to a request stream: order of arrival, session numbers, prefix ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trace_file import MOST_S, Table
from .stream import RequestStream


@dataclass(frozen=True)
class Blocks:
    """The block ids of a table's requests.

    Attributes:
        field: the column they came from.
        ids: (N,) int64 arrays, one id per block, the first block first.
        tokens: tokens per block.
        cover_output: whether ids go on over the output, or end with the prompt.
    """

    field: str
    ids: Sequence[NDArray[np.int64]]
    tokens: int
    cover_output: bool = False


def assemble(
    table: Table,
    arrival: str,
    prompt: str,
    output: str,
    *,
    sort: bool = False,
    arrival_s: NDArray[np.float64] | None = None,
    session: Sequence[Any] | None = None,
    priority: NDArray[np.float64] | None = None,
    blocks: Blocks | None = None,
    bound: str | None = None,
    client: Sequence[Any] | None = None,
    deadline_s: NDArray[np.float64] | None = None,
) -> RequestStream:
    """Build the stream of a table whose columns ``arrival``, ``prompt`` and ``output`` are named.

    Args:
        table: the rows of the file.
        arrival: column of the arrival time.
        prompt: column of the prompt tokens.
        output: column of the output tokens.
        sort: bring rows into order of arrival instead of refusing a file out of order.
        arrival_s: (N,) times in seconds; by default the numbers of column ``arrival``.
        session: (N,) labels; None or "" = unknown.
        priority: (N,), in [0, 1]; 0 by default.
        blocks: block ids, if the trace has them.
        bound: column of ``max_tokens``; without one the longest output of the trace is the bound
            for all, or what a prompt leaves of the longest prompt and output together.
        client: (N,) labels of who sent them; None: nobody knows.
        deadline_s: (N,), seconds from its arrival until it expires, NaN: never.

    Raises:
        TraceError: a value is out of its range, or the file is not in order of arrival.
    """
    prompt_tokens, output_tokens = table.tokens(prompt), table.tokens(output)
    if arrival_s is None:
        arrival_s = table.numbers(arrival)
    order = _order(table, arrival, arrival_s, sort)
    max_tokens = _bounds(table, output, prompt_tokens, output_tokens, bound)
    covered = prompt_tokens.astype(np.int64)
    if blocks is not None and blocks.cover_output:
        covered += output_tokens
    offsets, ids = _prefixes(table, blocks, covered, order)
    if priority is None:
        priority = np.zeros(len(table))
    return RequestStream(
        arrival_s=arrival_s[order],
        prompt_tokens=prompt_tokens[order],
        output_tokens=output_tokens[order],
        max_tokens=max_tokens[order],
        session=_numbered(session, order),
        prefix_offsets=offsets,
        prefix_ids=ids,
        prefix_block_tokens=blocks.tokens if blocks else 0,
        priority=priority[order].astype(np.float32),
        **_clients(client, order),
        deadline_s=None if deadline_s is None else deadline_s[order],
    )


def _bounds(
    table: Table,
    output: str,
    prompt_tokens: NDArray[np.int32],
    output_tokens: NDArray[np.int32],
    bound: str | None,
) -> NDArray[np.int32]:
    """Return what each request states as the most tokens of its output."""
    if bound is None:
        prompt = prompt_tokens.astype(np.int64)
        longest = (prompt + output_tokens).max()
        return np.minimum(output_tokens.max(), longest - prompt).astype(np.int32)
    bounds = table.tokens(bound)
    short = np.flatnonzero(bounds < output_tokens)
    if len(short):
        row = int(short[0])
        problem = f"is below the {output_tokens[row]} tokens of {output}"
        table.fail(row, bound, bounds[row], problem, "correct it or leave the column out")
    return bounds


def _order(
    table: Table, field: str, arrival_s: NDArray[np.float64], sort: bool
) -> NDArray[np.int64]:
    """Return the rows by arrival: as they stand, or sorted (stable) if ``sort``."""
    values = table.columns[field]
    table.refuse(field, arrival_s < 0, "is negative", "shift times to start at 0 or later")
    table.refuse(field, ~(arrival_s <= MOST_S), "is no time", f"write at most {MOST_S:g} s")
    back = np.flatnonzero(np.diff(arrival_s) < 0)
    if len(back) and not sort:
        row = int(back[0]) + 1
        problem = f"is earlier than {values[row - 1]!r} on line {table.lines[row - 1]}"
        table.fail(row, field, values[row], problem, "sort the file by time or pass sort=True")
    return np.argsort(arrival_s, kind="stable") if len(back) else np.arange(len(arrival_s))


def _numbered(labels: Sequence[Any] | None, order: NDArray[np.int64]) -> NDArray[np.int32]:
    """Number sessions densely in order of first use; -1 where the label is missing."""
    known: dict[Any, int] = {None: -1, "": -1}
    if labels is None:
        return np.full(len(order), -1, np.int32)
    return np.array([known.setdefault(labels[i], len(known) - 2) for i in order], np.int32)


def _clients(labels: Sequence[Any] | None, order: NDArray[np.int64]) -> dict[str, Any]:
    """Return the number of each request's client, and the clients' names by number."""
    if labels is None:
        return {}
    texts = [str(labels[i]) for i in order]
    names = {name: number for number, name in enumerate(dict.fromkeys(texts))}
    numbers = np.array([names[text] for text in texts], np.int32)
    return {"client": numbers, "client_names": tuple(names)}


def _prefixes(
    table: Table, blocks: Blocks | None, covered: NDArray[np.int64], order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return offsets (N + 1,) and ids (M,): the partial last block of a request has none."""
    if blocks is None:
        return np.zeros(len(order) + 1, np.int64), np.zeros(0, np.int32)
    given = np.array([len(ids) for ids in _checked(table, blocks)])
    most = -(-covered // blocks.tokens)
    extra = np.flatnonzero(given > most)
    if len(extra):
        row = int(extra[0])
        what = "prompt and output" if blocks.cover_output else "the prompt"
        problem = f"has {given[row]} ids, but {what} of {covered[row]} tokens has {most[row]} "
        problem += f"blocks of {blocks.tokens}"
        head = " ".join(map(str, blocks.ids[row][:4])) + " ..."
        table.fail(row, blocks.field, head, problem, "check the block size or remove the ids")
    whole = np.minimum(given, covered // blocks.tokens)
    offsets = np.concatenate([[0], np.cumsum(whole[order])]).astype(np.int64)
    from .prefix import chain  # compiled; formats are listed without it

    return offsets, chain(offsets, np.concatenate([blocks.ids[i][: whole[i]] for i in order]))


def _checked(table: Table, blocks: Blocks) -> Sequence[NDArray[np.int64]]:
    """Return the arrays of ids after making sure that they are such."""
    for row, ids in enumerate(blocks.ids):
        if not isinstance(ids, np.ndarray):
            problem, remedy = "is not a list of whole numbers", "write block ids as whole numbers"
            table.fail(row, blocks.field, str(ids)[:60], problem, remedy)
    return blocks.ids
