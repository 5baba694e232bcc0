"""Signs of public reports on routing in rollouts: ``python benchmarks/rollout_signs.py [--write]``.

Each report says which way a rule moved a step, on machines and sessions that are known in part.
Here the rules meet generated coding agents (preset ``agentic``) in worlds with what the reports say
of theirs: four H100 with Llama-3-8B at several loads, and with few long sessions among many short
ones (verl 7435: long conversations that stay together while other replicas go idle); two and four
TP8 engines of GLM-4.5-Air with 128 sessions each, whose contexts of up to 131,072 tokens have room
(verl 6533: 50,000 to 100,000 tokens that are computed again; prime-rl's engines); and twelve TP4
engines with 610 sessions (NeMo-RL's counts; its model is not in the catalogue, and GLM-4.5-Air on
B200 has room for the contexts as that had), with tools and without. NeMo-RL replayed turns without
the time of tools: 99 turns in 837 s leave 8 s for each. ``--write`` puts the table into
``docs/rollouts.md``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from calls import remembered
from numpy.typing import NDArray

import gpuyard  # noqa: F401
from gpuyard import baselines
from gpuyard.envs.scenario import Scenario, from_dict, load
from gpuyard.evaluation.sessions import session_seconds
from gpuyard.evaluation.statistics import Interval, mean_interval

PAGE = Path(__file__).parents[1] / "docs" / "rollouts.md"
GROUP = 4
WINDOW_S = 120.0
"""Over which hits are counted where an engine is watched, as the report did, and not a step."""
LOW, MIDDLE, HIGH = 48, 80, 128
"""Sessions on four H100: all contexts fit, fit only where load is even, do not fit. Each engine's
KV cache holds 446,096 tokens. A sweep from 32 to 128 stands on the page."""


@dataclass(frozen=True)
class Episode:
    """What became of one step."""

    requests: dict[str, NDArray[Any]]
    info: dict[str, float]

    def hits(self, replica: int | None = None) -> float:
        """Return the share of prompt tokens that was found cached, at one engine or at all."""
        of = slice(None) if replica is None else self.requests["replica"] == replica
        return float(
            self.requests["cached_tokens"][of].sum() / self.requests["prompt_tokens"][of].sum()
        )

    def least_hits(self, replica: int) -> float:
        """Return the least share in any :data:`WINDOW_S` at one engine of more than ten turns."""
        of = self.requests["replica"] == replica
        window = (self.requests["arrival_s"][of] // WINDOW_S).astype(int)
        cached = np.bincount(window, self.requests["cached_tokens"][of])
        prompt = np.bincount(window, self.requests["prompt_tokens"][of])
        return float((cached / np.maximum(prompt, 1))[np.bincount(window) > 10].min())

    def token_s(self, replica: int) -> float:
        """Return the seconds from arrival to last token per token of the answers of one engine."""
        of = self.requests["replica"] == replica
        spent_s = (self.requests["finish_s"] - self.requests["arrival_s"])[of].sum()
        return float(spent_s / self.requests["output_tokens"][of].sum())

    def groups_s(self) -> NDArray[np.float64]:
        """Return how long each group of sessions took, its slowest one."""
        return session_seconds({**self.requests, "session": self.requests["session"] // GROUP})


def four(sessions: int) -> Scenario:
    """Return four H100 with Llama-3-8B: ``rollout-agentic`` with another number of sessions."""
    replica = {"gpu": "H100-SXM", "model": "Llama-3-8B", "count": 4, "max_num_seqs": 256}
    return world(replica, sessions=sessions, max_tokens=65_536)


def prime() -> Scenario:
    """Return four TP8 engines of GLM-4.5-Air with 512 sessions."""
    replica = {"gpu": "H200-SXM", "model": "GLM-4.5-Air", "tp": 8, "count": 4}
    return world(replica, sessions=512, prefix_block_tokens=256)


def crowd() -> Scenario:
    """Return half of that: two engines with 128 sessions each."""
    replica = {"gpu": "H200-SXM", "model": "GLM-4.5-Air", "tp": 8, "count": 2}
    return world(replica, sessions=256, prefix_block_tokens=256)


def tail() -> Scenario:
    """Return ``rollout-longtail`` on four equal engines."""
    scenario = load("rollout-longtail")
    return replace(scenario, replicas=scenario.replicas[:2] * 2)


def nemo(**workload: Any) -> Scenario:
    """Return twelve TP4 engines with 610 sessions."""
    replica = {"gpu": "B200-SXM", "model": "GLM-4.5-Air", "tp": 4, "count": 12}
    return world(replica, sessions=610, prefix_block_tokens=256, **workload)


def replay() -> Scenario:
    """Return the same without the time of tools, and with first prompts that have little in common.

    Of a first prompt less than ``cache_threshold`` is then the system prompt: cache-aware routing
    gives a new session to the least loaded engine.
    """
    return nemo(tool_s={"p50": 0.0, "p90": 0.0, "most": 0.0}, system_tokens=512)


def world(replica: dict[str, Any], **workload: Any) -> Scenario:
    """Return agents on equal engines."""
    sessions = {"closed_loop": True, "preset": "agentic", "group": GROUP, **workload}
    return from_dict({"replicas": [replica], "workload": sessions}, "rollout")


WORLDS: dict[str, tuple[Callable[[], Scenario], int]] = {
    **{f"four-{n}": (lambda n=n: four(n), 8) for n in (LOW, 64, MIDDLE, HIGH)},
    "tail": (tail, 8),
    "crowd": (crowd, 4),
    "prime": (prime, 2),
    "nemo": (nemo, 2),
    "replay": (replay, 24),
}
"""Scenarios, and how many steps are played in each."""


@remembered
def play(name: str, rule: str, options: tuple[tuple[str, float], ...] = ()) -> list[Episode]:
    """Return what a rule makes of the steps of a world."""
    make, count = WORLDS[name]
    scenario, policy = make(), baselines.make(f"routing/{rule}", **dict(options))
    policy.reset(scenario, count, seed=0)
    env: Any = gym.make_vec(
        "gpuyard/Routing-v0", num_envs=count, scenario=scenario, autoreset_mode="Disabled"
    )
    policy.attach(env)
    observation, _ = env.reset(seed=list(range(count)))
    found: dict[int, Episode] = {}
    while len(found) < count:
        observation, _, terminated, truncated, info = env.step(policy.act(observation))
        for i in np.flatnonzero(terminated | truncated).tolist():
            if i not in found:
                numbers = {k: float(v[i]) for k, v in info.items() if not k.startswith("_")}
                found[i] = Episode(env.results(i)["requests"], numbers)
    env.close()
    return [found[i] for i in range(count)]


AS_REPORTED, NOT_SO, UNKNOWN = "as reported", "**not so**", "not told apart"


def verdict(change: Interval, sign: int) -> str:
    """Return whether a change has the sign that a report says, as far as that can be told."""
    if not change.excludes_zero:
        return UNKNOWN
    return AS_REPORTED if change.mean * sign > 0 else NOT_SO


def shown(change: Interval) -> str:
    """Return a change as text, with its 95 % interval."""
    return f"{change.mean:+.1f} ± {change.half_width:.1f} %"


def makespans(name: str, rule: str, **options: float) -> NDArray[np.float64]:
    """Return the makespan of each step, seconds."""
    return np.array([e.info["makespan_s"] for e in play(name, rule, tuple(options.items()))])


def makespan(name: str, rule: str) -> float:
    """Return the mean makespan, seconds."""
    return float(makespans(name, rule).mean())


def groups_s(
    name: str, rule: str, statistic: Callable[[Any], Any] = np.mean
) -> NDArray[np.float64]:
    """Return a statistic of the seconds of groups in each step."""
    return np.array([statistic(episode.groups_s()) for episode in play(name, rule)])


def change(new: NDArray[np.float64], old: NDArray[np.float64]) -> Interval:
    """Return the change in percent of a number that two rules had in the same steps."""
    return mean_interval(100.0 * (new / old - 1.0))


@dataclass(frozen=True)
class Sign:
    """One statement of a report and what the simulation says.

    Attributes:
        what: is measured.
        reported: by the source.
        simulated: the same here, in words.
        verdict: whether the sign is that of the report.
        source: of the report.
    """

    what: str
    reported: str
    simulated: str
    verdict: str
    source: str


def spiral() -> Sign:
    """Consistent hashing with a KV cache that is full at one engine and not at the others."""
    worst, least, best, slower = [], [], [], []
    for episode in play(f"four-{MIDDLE}", "consistent-hash"):
        hits = [episode.hits(r) for r in range(4)]
        full, free = int(np.argmin(hits)), int(np.argmax(hits))
        worst.append(hits[full])
        least.append(episode.least_hits(full))
        best.append(hits[free])
        slower.append(episode.token_s(full) / episode.token_s(free))
    spirals = np.mean(least) < 0.2 and np.mean(best) > 0.9 and np.mean(slower) > 2.0
    return Sign(
        f"consistent-hash, {MIDDLE} sessions: hits of the best and the worst engine",
        "98 -> 5 %, 4 times slower, others idle",
        f"{100 * np.mean(best):.0f} -> {100 * np.mean(least):.0f} % in its worst two minutes "
        f"({100 * np.mean(worst):.0f} % over a whole step), {np.mean(slower):.1f} times slower "
        f"(most {max(slower):.1f})",
        AS_REPORTED if spirals else NOT_SO,
        "prime-rl 3255",
    )


def margins(names: Sequence[str]) -> list[Sign]:
    """A gate over all engines at 4, and a margin of each session's own engine at 2."""
    signs = []
    for name in names:
        stays = makespans(name, "sticky-least-loaded")
        gate = change(makespans(name, "session-gate", balance_abs_threshold=4), stays)
        margin = change(makespans(name, "session-margin", margin=2), stays)
        of = f"{name}: {{}} against sticky"
        signs.append(
            Sign(of.format("gate at 4"), "+18 to +20 %", shown(gate), verdict(gate, 1), "verl 6533")
        )
        signs.append(
            Sign(of.format("margin 2"), "better", shown(margin), verdict(margin, -1), "verl 7435")
        )
    return signs


def affinity() -> list[Sign]:
    """Cache-aware against consistent hashing where all contexts fit."""
    signs = []
    for name in ("nemo", "replay"):
        hashed = play(name, "consistent-hash")
        aware = play(name, "cache-aware")
        found = change(makespans(name, "cache-aware"), makespans(name, "consistent-hash"))
        hits = [100 * np.mean([e.hits() for e in episodes]) for episodes in (aware, hashed)]
        signs.append(
            Sign(
                f"{name}: cache-aware 64 / 1.5 against consistent-hash",
                "-10.9 % at hits of 91.6 and 91.8 %",
                f"{shown(found)} at hits of {hits[0]:.1f} and {hits[1]:.1f} %",
                verdict(found, -1),
                "NeMo-RL 3663",
            )
        )
    return signs


def counting(names: Sequence[str]) -> list[Sign]:
    """What the best rule of the package saves of the makespan of rules that count requests."""
    signs = []
    rules = ("kv-aware", "cache-aware", "session-margin", "length-aware", "prefill-and-work")
    for name in names:
        best = min(rules, key=lambda rule: makespan(name, rule))
        for counts in ("least-requests", "sticky-least-loaded"):
            saved = change(makespans(name, best), makespans(name, counts))
            signs.append(
                Sign(
                    f"{name}: {best} against {counts}",
                    "-18 to -34 %",
                    shown(saved),
                    verdict(saved, -1),
                    "torchtitan 3755, vllm-omni 5135",
                )
            )
    return signs


LOADS = {"low": LOW, "middle": MIDDLE, "high": HIGH}
GROUPS_S = {"low": (850, 790), "middle": (1448, 843), "high": (1919, 1809)}
"""Mean seconds of a group under consistent-hash and sticky-least-loaded, SkyRL 1791."""


def of_groups(load: str, statistic: Callable[[Any], Any] = np.mean) -> Interval:
    """Return how the seconds of groups change from consistent-hash to sticky-least-loaded."""
    name = f"four-{LOADS[load]}"
    sticky, hashed = "sticky-least-loaded", "consistent-hash"
    return change(groups_s(name, sticky, statistic), groups_s(name, hashed, statistic))


def session_routing() -> list[Sign]:
    """Sticky least-loaded against consistent hashing at three loads."""
    signs = []
    for level, (hashed, sticky) in GROUPS_S.items():
        found = of_groups(level)
        signs.append(
            Sign(
                f"{LOADS[level]} sessions ({level} load): mean of groups, sticky against hash",
                f"{100 * (sticky / hashed - 1):+.1f} % ({hashed} -> {sticky} s)",
                shown(found),
                verdict(found, -1),
                "SkyRL 1791",
            )
        )
    median = of_groups("high", np.median)
    what, reported = f"{HIGH} sessions (high load): median group", "+28.6 % (1302 -> 1675 s)"
    return [*signs, Sign(what, reported, shown(median), verdict(median, 1), "SkyRL 1791")]


MARGINS = (f"four-{LOW}", "four-64", f"four-{HIGH}", "tail", "crowd", "prime")


def all_signs() -> list[Sign]:
    """Return every sign, in the order of the page."""
    signs = [spiral(), *margins(MARGINS)]
    signs += [*affinity(), *counting(["four-64", f"four-{MIDDLE}", "prime"])]
    return [*signs, *session_routing()]


def table(signs: list[Sign]) -> str:
    """Return the signs as a Markdown table."""
    lines = ["| what | reported | simulated | sign | source |", "|---|---|---|---|---|"]
    for sign in signs:
        cells = (sign.what, sign.reported, sign.simulated, sign.verdict, sign.source)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and write it into the page if that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/rollouts.md")
    arguments = parser.parse_args()
    text = table(all_signs())
    print(text)
    if arguments.write:
        page = PAGE.read_text("utf-8")
        page = re.sub(
            r"(<!-- signs -->\n).*?(\n<!-- end -->)", lambda m: m[1] + text + m[2], page, flags=re.S
        )
        PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
