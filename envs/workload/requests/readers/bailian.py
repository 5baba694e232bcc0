"""Qwen-Bailian JSONL: chat_id, parent_chat_id, timestamp (s), lengths, hash_ids.

Source: github.com/alibaba-edu/qwen-bailian-usagetraces-anon (Wang et al., "KVCache Cache in the
Wild", USENIX ATC 2025, Apache-2.0). Each prompt block of 16 tokens is hashed by itself, so that an
id alone says nothing about what stands before it: ids are chained into prefixes. A conversation is
the tree of requests below one root (parent -1, or a parent outside the file).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...trace_file import Table, drop_zero_output, read_jsonl
from ..assemble import Blocks, assemble
from ..stream import RequestStream

BLOCK_TOKENS = 16
_STAMP, _PROMPT, _OUTPUT, _IDS = ("timestamp", "input_length", "output_length", "hash_ids")
_CHAT, _PARENT = ("chat_id", "parent_chat_id")
_FIELDS = (_CHAT, _PARENT, _STAMP, _PROMPT, _OUTPUT, _IDS)


def detect(names: set[str]) -> bool:
    """Tell whether these keys are of this format."""
    return names >= set(_FIELDS)


def read(path: Path, *, sort: bool = False, drop_failed: bool = False) -> RequestStream:
    """Read a Qwen-Bailian trace; ``drop_failed`` leaves out requests without output."""
    table = read_jsonl(path, _FIELDS, packed=_IDS)
    roots = _roots(table)
    if drop_failed:
        table = drop_zero_output(table, _OUTPUT)
    blocks = Blocks(_IDS, table.column(_IDS), BLOCK_TOKENS)
    session = [roots[chat] for chat in table.column(_CHAT)]
    return assemble(table, _STAMP, _PROMPT, _OUTPUT, sort=sort, session=session, blocks=blocks)


def _roots(table: Table) -> dict[Any, Any]:
    """Return the first ancestor of every chat id that the file knows of."""
    chats, parent_of = (table.column(name) for name in (_CHAT, _PARENT))
    for field, labels in ((_CHAT, chats), (_PARENT, parent_of)):
        odd = [not isinstance(label, (int, str)) for label in labels]
        table.refuse(field, np.array(odd), "is no id", "write a number or text")
    parents = dict(zip(chats, parent_of, strict=True))
    roots: dict[Any, Any] = {}
    for chat in parents:
        path = {chat: None}  # in order
        last = chat
        while last in parents and last not in roots and parents[last] != -1:
            last = parents[last]
            if last in path:
                row = chats.index(last)
                table.fail(row, _PARENT, parents[last], "is its own ancestor", "break the cycle")
            path[last] = None
        roots |= dict.fromkeys(path, roots.get(last, last))
    return roots
