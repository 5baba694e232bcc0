"""The ``[workload]`` table of a scenario with ``closed_loop = true``: sessions that answer back.

Generated: `preset` (agentic, or math; see :mod:`gpuyard.envs.workload.requests.sessions`) and any
field of :class:`gpuyard.envs.workload.requests.sessions.SessionGenerator`: `sessions` (64),
`group`, `turns`, `prompt`, `new`, `output`, `tool_s` (tables of `p50`, `p90`, `most`),
`system_tokens`, `max_tokens`, `wave` (sessions that begin together, 0: all), `wave_s` (seconds
between two waves), `max_concurrency` (sessions open at once, a further one begins when one ends; 0:
any number), `prefix_block_tokens`, `steps` (a table of `count` (1) steps of rollouts with as
many sessions each, `next_at` (1; share of a step's sessions after whose end the next one begins),
`update_s` (20; until replicas have the new weights) and `keep_cache` (false)), `fan_out` (a table
of `times` (0) turns of a session that start sub-agents and wait for them, and the spreads `agents`,
`turns` and `prompt`).

From a file: `trace`, `format` (auto; see :mod:`gpuyard.envs.workload.requests.session_files` and
:mod:`gpuyard.envs.workload.requests.dynamo_turns`),
`sessions` (64; 0: all), `starts` ("waves", or "trace": sessions begin when they did there), `wave`,
`wave_s`, `max_concurrency`, `steps`, `answer_token_s` (0.02; where no tool times are given, seconds
per output token that the gaps of the trace contain), `prefix_block_tokens` (64; of a table of
turns, or 512 for the `hash_ids` of sessions in Mooncake's lines).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..workload.requests import dynamo_turns, readers, sessions
from ..workload.requests.closed_loop import ClosedLoop
from ..workload.requests.recorded import RecordedSessions
from ..workload.requests.session_files import (
    ANSWER_TOKEN_S,
    answering_back,
    is_table_of_turns,
    read_turns,
)
from ..workload.requests.source import Workload
from ..workload.requests.steps import Steps, check_concurrency
from ..workload.requests.stream import RequestStream
from .checks import ScenarioError, check_type, check_whole, checked_table, refuse_unknown

OF_TRACE: dict[str, Any] = {
    **{"trace": "sessions.jsonl", "format": "auto", "starts": "waves", "wave_s": 0.0},
    **{"sessions": 64, "wave": 0, "answer_token_s": ANSWER_TOKEN_S, "prefix_block_tokens": 64},
    "max_concurrency": 0,
}
"""Fields of a closed loop out of a trace, with their defaults."""


def read_closed_loop(table: dict[str, Any], folder: Path) -> ClosedLoop:
    """Build the workload of sessions that answer back.

    Raises:
        ScenarioError: naming the field, value and remedy.
        TraceError: naming the trace file, line, field, value and remedy.
    """
    for key in ("num_requests", "rate_scale", "rate_per_s"):
        if key in table:
            raise ScenarioError(
                f"workload.{key} = {table[key]!r} has no place in a closed loop, whose "
                "turns arrive when they are answered: set workload.sessions, and leave it out"
            )
    if "images" in table:
        raise ScenarioError("workload.images: turns of a closed loop bring none; leave it out")
    if "trace" in table:
        return _recorded(table, folder)
    table = dict(table)
    name = table.pop("preset", "agentic")
    check_type("workload.preset", name, "agentic")
    try:
        return ClosedLoop.of(sessions.preset(name, **table))
    except ValueError as error:
        raise ScenarioError(f"workload: {error}") from error


def refuse_in_service(workload: Workload) -> None:
    """Refuse what is modelled for the replicas of a router alone.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    if workload.num_steps > 1:
        raise ScenarioError(
            f"workload.steps.count = {workload.num_steps} is modelled for [[replicas]] only: "
            "leave it out"
        )
    source = workload.source
    if isinstance(source, sessions.SessionGenerator) and source.fan_out.times > 0:
        raise ScenarioError(
            f"workload.fan_out.times = {source.fan_out.times} is modelled for [[replicas]] only: "
            "leave it out"
        )
    if isinstance(source, RecordedSessions) and source.stream.forks is not None:
        raise ScenarioError(
            "workload.trace: sessions that start others (wait_for) are modelled for [[replicas]] "
            "only: leave those lines out"
        )
    if isinstance(source, sessions.SessionGenerator | RecordedSessions) and source.max_concurrency:
        raise ScenarioError(
            f"workload.max_concurrency = {source.max_concurrency} is modelled for [[replicas]] "
            "only: leave it out"
        )


def _recorded(table: dict[str, Any], folder: Path) -> ClosedLoop:
    table = dict(table)
    in_steps = checked_table(table.pop("steps", {}), "workload.steps")
    refuse_unknown(table, OF_TRACE, "workload")
    given = OF_TRACE | table
    for key, example in OF_TRACE.items():
        check_type(f"workload.{key}", given[key], example)
    whole = (("sessions", 0), ("wave", 0), ("prefix_block_tokens", 1), ("max_concurrency", 0))
    for key, least in whole:
        check_whole(f"workload.{key}", given[key], least)
    for key in ("answer_token_s", "wave_s"):
        if not 0 <= given[key] <= 1e6:
            raise ScenarioError(f"workload.{key} = {given[key]!r} must lie in [0, 1e6] seconds")
    if given["starts"] not in ("waves", "trace"):
        raise ScenarioError(f"workload.starts = {given['starts']!r} must be waves or trace")
    if given["starts"] == "trace" and given["max_concurrency"]:
        raise ScenarioError(
            f"workload.max_concurrency = {given['max_concurrency']} lets sessions begin when "
            'others end, and starts = "trace" when they did there: leave one of the two out'
        )
    stream = _stream(folder / given["trace"], table, given)
    try:
        steps = sessions.changed(Steps(), in_steps, "steps have")
        check_concurrency(given["max_concurrency"], steps)
    except ValueError as error:
        raise ScenarioError(f"workload: {error}") from error
    roots = np.count_nonzero(np.isfinite(stream.arrival_s))
    count = roots // steps.count
    if count == 0:
        raise ScenarioError(
            f"workload.steps.count = {steps.count} is above the {roots} sessions of the trace: "
            "lower it"
        )
    number = min(given["sessions"], count) or count
    begin = given["starts"], given["wave"], given["wave_s"], given["max_concurrency"]
    return ClosedLoop.of(RecordedSessions(stream, number, *begin, steps))


def _stream(path: Path, table: dict[str, Any], given: dict[str, Any]) -> RequestStream:
    """Read sessions from whichever kind of file it is."""
    form, block = given["format"], given["prefix_block_tokens"]
    is_plain = form in ("auto", "mooncake") and dynamo_turns.is_of_sessions(path)
    if is_plain or form == dynamo_turns.DELTA:
        block = table.get("prefix_block_tokens", dynamo_turns.BLOCK_TOKENS)
        return dynamo_turns.read_sessions(path, block, given["answer_token_s"], form)
    if form == "auto" and is_table_of_turns(path):
        return read_turns(path, block)
    read = readers.read(path, form)
    if read.deadline_s is not None:
        raise ScenarioError(
            f"workload.trace = {table['trace']!r} has a column deadline_s, which is not "
            "modelled for sessions that answer back: leave out closed_loop, or the column"
        )
    read = replace(read, client=0, client_names=())  # drawn, one for each session
    return answering_back(read, given["answer_token_s"])
