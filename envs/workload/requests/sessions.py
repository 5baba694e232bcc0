"""Sessions that answer back, drawn from distributions: what a step of rollouts consists of.

A session is a chain of turns. Each turn's prompt is all that came before it and some new tokens
(the task at first, then what a tool has returned), and it arrives when the turn before has been
answered and the tool has run. A group of sessions may have one task, as in GRPO; all share a system
prompt. There may be several steps of rollouts, and turns that hand work to sub-agents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .parameters import check
from .steps import FORK, ONE_STEP, Steps, check_concurrency, waiting_for_others
from .stream import RequestStream

P90 = 1.2815515655446004
"""Standard deviations from the median of a normal distribution to its 90th percentile."""


class Sessions(Protocol):
    """Where sessions come from."""

    @property
    def prefix_block_tokens(self) -> int:
        """Tokens per prefix id, 0 if there are none."""

    @property
    def longest(self) -> int:
        """Most prompt and output tokens of a request."""

    @property
    def room(self) -> tuple[int, int, int]:
        """Bounds for one episode: its requests, their prefix ids, and distinct ones."""

    @property
    def sessions(self) -> int:
        """Sessions of a step, without those of sub-agents."""

    @property
    def num_sessions(self) -> int:
        """Sessions of an episode at most, those of sub-agents among them."""

    @property
    def steps(self) -> Steps:
        """Steps of rollouts in an episode."""

    def sample(self, rng: np.random.Generator) -> RequestStream:
        """Return the sessions of one episode."""


@dataclass(frozen=True)
class Spread:
    """A log-normal distribution by two of its quantiles.

    Attributes:
        p50: its median.
        p90: its 90th percentile; the median again: always that.
        most: what lies above is cut to this.
    """

    p50: float
    p90: float
    most: float

    def __post_init__(self) -> None:
        check(self, "p50", 0.0)
        check(self, "p90", self.p50)
        check(self, "most", self.p50)

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return ``count`` values."""
        if self.p50 == 0.0:
            return np.zeros(count)
        sigma = math.log(self.p90 / self.p50) / P90
        values = self.p50 * np.exp(sigma * rng.standard_normal(count))
        return np.minimum(values, self.most)

    def tokens(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return ``count`` whole numbers, at least 1."""
        return np.maximum(np.rint(self.draw(rng, count)), 1.0).astype(np.int64)


@dataclass(frozen=True)
class FanOut:
    """Turns that hand work to sub-agents: sessions of their own, whose last answers they wait for.

    Source of the defaults: Anthropic's multi-agent research system (its engineering post of 2025):
    three to five sub-agents side by side, ten to fifteen calls each where two to four compare.

    Attributes:
        times: turns of a session, drawn from all but its last one, that do so; 0: none.
        agents: that one such turn starts.
        turns: of a sub-agent.
        prompt: tokens of its task, behind the system prompt.
    """

    times: int = 0
    agents: Spread = Spread(3.0, 5.0, 8.0)
    turns: Spread = Spread(10.0, 15.0, 30.0)
    prompt: Spread = Spread(500.0, 1500.0, 8000.0)

    def __post_init__(self) -> None:
        check(self, "times", 0, 1024)
        for name in ("agents", "turns", "prompt"):
            check(getattr(self, name), "p50", 1.0)

    @property
    def most(self) -> tuple[int, int]:
        """Most sub-agents of a session, and most turns of theirs."""
        agents = self.times * round(self.agents.most)
        return agents, agents * round(self.turns.most)


ALONE = FanOut()


@dataclass(frozen=True)
class SessionGenerator:
    """A fixed set of sessions, drawn anew for each episode.

    Attributes:
        sessions: of a step, how many there are.
        group: sessions that share a task, one behind the other.
        turns: of a session.
        prompt: tokens of a task, behind the system prompt.
        new: tokens that each further turn adds to the context.
        output: tokens of an answer.
        tool_s: seconds from an answer to the next turn.
        system_tokens: of the prompt that all sessions begin with.
        max_tokens: a session ends before its context would be longer.
        wave: sessions that begin together; 0: all do.
        wave_s: seconds between two waves.
        max_concurrency: sessions open at once, a further one begins when one ends; 0: any number.
        prefix_block_tokens: tokens per prefix id.
        steps: of rollouts, each with as many sessions and new weights.
        fan_out: turns that hand work to sub-agents, which use tools and answer as sessions do.
    """

    turns: Spread
    prompt: Spread
    new: Spread
    output: Spread
    tool_s: Spread
    sessions: int = 64
    group: int = 1
    system_tokens: int = 0
    max_tokens: int = 32_768
    wave: int = 0
    wave_s: float = 0.0
    max_concurrency: int = 0
    prefix_block_tokens: int = 64
    steps: Steps = ONE_STEP
    fan_out: FanOut = ALONE

    def __post_init__(self) -> None:
        check(self, "sessions", 1, 2**16)
        check(self, "group", 1, 2**16)
        check(self, "system_tokens", 0, 2**30)
        check(self, "max_tokens", 16, 2**30)
        check(self, "wave", 0, 2**16)
        check(self, "wave_s", 0.0, 1e6)
        check_concurrency(self.max_concurrency, self.steps)
        check(self, "prefix_block_tokens", 1, 2**20)
        for name in ("turns", "prompt", "new", "output"):
            check(getattr(self, name), "p50", 1.0)
        if self.system_tokens > self.max_tokens // 2:
            raise ValueError(
                f"SessionGenerator.system_tokens = {self.system_tokens} must be at most half of "
                f"max_tokens = {self.max_tokens}"
            )

    @property
    def own_sessions(self) -> int:
        """Sessions of all steps, without those of sub-agents."""
        return self.sessions * self.steps.count

    @property
    def num_sessions(self) -> int:
        """Sessions of an episode at most, those of sub-agents among them."""
        return self.own_sessions * (1 + self.fan_out.most[0])

    @property
    def longest(self) -> int:
        """Most prompt and output tokens of a request."""
        return self.max_tokens

    @property
    def room(self) -> tuple[int, int, int]:
        """Bounds for one episode: its requests, their prefix ids, and distinct ones."""
        ids = self.num_sessions * (self.max_tokens // self.prefix_block_tokens)
        return self.own_sessions * (round(self.turns.most) + self.fan_out.most[1]), ids, ids

    def sample(self, rng: np.random.Generator) -> RequestStream:
        """Return the sessions of one episode, turns behind the requests that begin one."""
        session, new, output = self._draw(rng, self.turns, self.own_sessions, self._tasks)
        think_s = self.tool_s.draw(rng, len(session))
        parents = agents = np.zeros(0, np.int64)
        if self.fan_out.times > 0:
            parents, agents = self._parents(rng, session)
            subs = self._draw(rng, self.fan_out.turns, int(agents.sum()), self._subtasks)
            session = np.concatenate([session, subs[0] + self.own_sessions])
            new, output = np.concatenate([new, subs[1]]), np.concatenate([output, subs[2]])
            think_s = np.concatenate([think_s, self.tool_s.draw(rng, len(subs[0]))])
        first = np.flatnonzero(np.diff(session, prepend=-1))
        think_s[first] = np.nan
        total = _running_sum(new + output, first)
        begin, ids = self._prefixes(new[first], total, first)
        order = np.concatenate([first, np.setdiff1d(np.arange(len(session)), first)])
        count = (total // self.prefix_block_tokens)[order]
        prompt = (total - output)[order]
        longest = min(math.ceil(self.output.most), self.max_tokens)
        arrival_s, think_s = waiting_for_others(
            think_s[order],
            self.begins_s(np.arange(len(first))),
            min(self.max_concurrency, self.sessions) or self.sessions,
        )
        return RequestStream(
            arrival_s=arrival_s,
            prompt_tokens=prompt.astype(np.int32),
            output_tokens=output[order].astype(np.int32),
            max_tokens=np.minimum(longest, self.max_tokens - prompt).astype(np.int32),
            session=session[order].astype(np.int32),
            prefix_offsets=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
            prefix_ids=ids,
            prefix_block_tokens=self.prefix_block_tokens,
            priority=np.zeros(len(order), np.float32),
            think_s=think_s,
            prefix_at=begin[session[order]],
            steps=self.steps,
            forks=self._forks(np.argsort(order)[parents], agents) if len(parents) else None,
        )

    def begins_s(self, session: NDArray[np.int64]) -> NDArray[Any]:
        """Return when sessions begin in their step, by their numbers: all at once, or in waves.

        Those of sub-agents begin with the answer that starts them, those of a line when others end.
        """
        if self.wave == 0:
            return np.zeros(len(session))
        waits_s = (session % self.sessions // self.wave) * self.wave_s
        return np.where(session < (self.max_concurrency or self.own_sessions), waits_s, 0.0)

    def _tasks(self, rng: np.random.Generator, sessions: int) -> NDArray[np.int64]:
        """Draw the tokens of each session's task, which its group has in common."""
        tasks = self.prompt.tokens(rng, -(-sessions // self.group))
        return np.repeat(tasks, self.group)[:sessions]

    def _subtasks(self, rng: np.random.Generator, agents: int) -> NDArray[np.int64]:
        """Draw the tokens of each sub-agent's task."""
        return self.fan_out.prompt.tokens(rng, agents)

    def _forks(self, parents: NDArray[np.int64], agents: NDArray[np.int64]) -> NDArray[np.void]:
        """Return FORK (K,): which rows start how many sub-agents, whose first turns follow."""
        forks = np.zeros(len(parents), FORK)
        forks["parent"], forks["count"] = parents, agents
        forks["first"] = self.own_sessions + np.cumsum(agents) - agents
        return forks

    def _parents(
        self, rng: np.random.Generator, session: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw the turns that start sub-agents, in order, and how many each of them starts."""
        has_next = np.flatnonzero(np.diff(session, append=-1) == 0)
        lot = rng.random(len(has_next))
        order = np.lexsort([lot, session[has_next]])  # in each session, its turns at random
        whose = session[has_next][order]
        place = np.arange(len(whose)) - np.searchsorted(whose, whose)
        parents = np.sort(has_next[order][place < self.fan_out.times])
        return parents, self.fan_out.agents.tokens(rng, len(parents))

    def _draw(
        self,
        rng: np.random.Generator,
        spread: Spread,
        sessions: int,
        tasks: Callable[[np.random.Generator, int], NDArray[np.int64]],
    ) -> tuple[NDArray[np.int64], ...]:
        """Draw the turns, session by session: whose, tokens that are new, tokens of the answer."""
        turns = spread.tokens(rng, sessions)
        session = np.repeat(np.arange(sessions), turns)
        first = np.flatnonzero(np.diff(session, prepend=-1))
        new, output = (kind.tokens(rng, len(session)) for kind in (self.new, self.output))
        new[first] = tasks(rng, sessions) + self.system_tokens
        new[first] = np.minimum(new[first], self.max_tokens // 2)
        output = np.minimum(output, self.max_tokens // 2)
        fits = _running_sum(new + output, first) <= self.max_tokens
        return session[fits], new[fits], output[fits]

    def _prefixes(
        self, prompt: NDArray[np.int64], total: NDArray[np.int64], first: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return where each session's ids begin (S,), and all ids.

        Args:
            prompt: tokens of each session's first prompt (S,), which its group has in common.
            total: tokens of prompt and output of each turn (N,).
            first: each session's first turn (S,).
        """
        block = self.prefix_block_tokens
        last = np.append(first[1:], len(total)) - 1
        blocks, task = total[last] // block, prompt // block
        system = self.system_tokens // block
        number = np.arange(len(first))
        leader = np.where(number < self.own_sessions, number // self.group * self.group, number)
        of_task = np.where(leader == number, task - np.minimum(system, task), 0)
        task_begin = system + (np.cumsum(of_task) - of_task)
        task_begin = task_begin[leader]
        own = np.maximum(blocks - task, 0)
        own_begin = system + of_task.sum() + np.cumsum(own) - own
        begin = np.cumsum(blocks) - blocks
        whose = np.repeat(np.arange(len(first)), blocks)
        place = np.arange(len(whose)) - begin[whose]
        ids = np.where(
            place < system,
            place,
            np.where(
                place < task[whose],
                task_begin[whose] + place - system,
                own_begin[whose] + place - task[whose],
            ),
        )
        return begin.astype(np.int64), ids.astype(np.int32)


def _running_sum(values: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the running sums inside each session; ``first`` says where these begin."""
    total = np.cumsum(values)
    before = np.repeat(total[first] - values[first], np.diff(first, append=len(values)))
    return total - before


def _agentic() -> SessionGenerator:
    """Coding agents.

    Turns: NeMo-RL pull 3663 (610 sessions, p50 29, p90 56, p99 85, most 99; a log-normal of the
    first two has a p99 of 96). Tool times and growth: vLLM's Mooncake-store post (5.2 s median,
    81.4 s P99; 2,242 more tokens a turn on average, here 1,743 new ones and 501 of the answer,
    whose spread is an assumption). Outputs: 3,376 recorded turns of ``traces/agentic-sessions``
    (median 224, P90 1,141). Tasks and the system prompt are assumptions.
    """
    return SessionGenerator(
        turns=Spread(29.0, 56.0, 99.0),
        prompt=Spread(1500.0, 4000.0, 12_000.0),
        new=Spread(950.0, 3900.0, 16_000.0),
        output=Spread(224.0, 1141.0, 8192.0),
        tool_s=Spread(5.2, 23.7, 300.0),
        group=4,
        system_tokens=4096,
        max_tokens=131_072,
    )


def _math() -> SessionGenerator:
    """Single answers with a long tail, groups of one task.

    Lengths: a median of 500 tokens and a P99 of 5,000, of which 5 % hold 30 to 50 % of the decoded
    tokens (``perf/techniques/rollout.csv``, illustrative there); prompts are an assumption.
    """
    return SessionGenerator(
        turns=Spread(1.0, 1.0, 1.0),
        prompt=Spread(120.0, 300.0, 1000.0),
        new=Spread(1.0, 1.0, 1.0),
        output=Spread(500.0, 1780.0, 16_384.0),
        tool_s=Spread(0.0, 0.0, 0.0),
        group=8,
        system_tokens=64,
        max_tokens=20_480,
        prefix_block_tokens=16,
    )


PRESETS = {"agentic": _agentic, "math": _math}
"""Named sets of sessions."""


def preset(name: str, /, **changes: Any) -> SessionGenerator:
    """Return a named set of sessions, with fields changed; a spread may be a table of its fields.

    Raises:
        ValueError: there is no such set, no such field, or a value is out of its range.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown sessions {name!r}; choose one of {', '.join(PRESETS)}")
    return changed(PRESETS[name](), changes, "sessions have")


def changed(old: Any, changes: dict[str, Any], owner: str) -> Any:
    """Return tables of numbers with fields changed, each field that is a table by its own."""
    values: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in vars(old):
            raise ValueError(f"{owner} no field {key!r}; choose from {', '.join(vars(old))}")
        was = getattr(old, key)
        if isinstance(was, Spread | Steps | FanOut):
            known = ", ".join(item.name for item in fields(was))
            if not isinstance(value, dict) or not set(value) <= set(known.split(", ")):
                raise ValueError(f"{key} = {value!r} must be a table of {known}")
            value = changed(was, value, f"{key} has")
        values[key] = value
    return replace(old, **values)
