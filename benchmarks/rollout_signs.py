"""Signs of public reports on routing in rollouts: ``python benchmarks/rollout_signs.py [--write]``.

Each report says which way a rule moved a step, on machines and sessions that are known in part.
Here the rules meet generated coding agents (preset ``agentic``) in three kinds of worlds: four H100
with Llama-3-8B at several loads; four TP8 engines of GLM-4.5-Air with 512 sessions (prime-rl's
engines, its number of sessions is not known); and twelve TP4 engines with 610 sessions (NeMo-RL's
counts; its model is not in the catalogue, and GLM-4.5-Air on B200 has room for the contexts as that
had). ``--write`` puts the table into ``docs/rollouts.md``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import gpuyard  # noqa: F401
from gpuyard import baselines
from gpuyard.envs.scenario import Scenario, from_dict
from gpuyard.evaluation.sessions import session_seconds

PAGE = Path(__file__).parents[1] / "docs" / "rollouts.md"
GROUP = 4
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


def nemo() -> Scenario:
    """Return twelve TP4 engines with 610 sessions."""
    replica = {"gpu": "B200-SXM", "model": "GLM-4.5-Air", "tp": 4, "count": 12}
    return world(replica, sessions=610, prefix_block_tokens=256)


def world(replica: dict[str, Any], **workload: Any) -> Scenario:
    """Return agents on equal engines."""
    sessions = {"closed_loop": True, "preset": "agentic", "group": GROUP, **workload}
    return from_dict({"replicas": [replica], "workload": sessions}, "rollout")


WORLDS: dict[str, tuple[Callable[[], Scenario], int]] = {
    **{f"four-{n}": (lambda n=n: four(n), 8) for n in (LOW, 64, MIDDLE, HIGH)},
    "prime": (prime, 2),
    "nemo": (nemo, 2),
}
"""Scenarios, and how many steps are played in each."""


@cache
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


def mean(episodes: list[Episode], key: str = "makespan_s") -> float:
    """Return the mean of a number over steps."""
    return float(np.mean([episode.info[key] for episode in episodes]))


def makespan(name: str, rule: str, **options: float) -> float:
    """Return the mean makespan, seconds."""
    return mean(play(name, rule, tuple(options.items())))


def group_s(name: str, rule: str, statistic: Callable[[Any], Any] = np.mean) -> float:
    """Return the mean over steps of a statistic of the seconds of groups."""
    return float(np.mean([statistic(episode.groups_s()) for episode in play(name, rule)]))


@dataclass(frozen=True)
class Sign:
    """One statement of a report and what the simulation says.

    Attributes:
        what: is measured.
        reported: by the source.
        simulated: the same here, in words.
        agrees: whether the sign is that of the report.
        source: of the report.
    """

    what: str
    reported: str
    simulated: str
    agrees: bool
    source: str


def percent(new: float, old: float) -> float:
    """Return by how many percent something changed."""
    return 100.0 * (new / old - 1.0)


def spiral() -> Sign:
    """Consistent hashing with a KV cache that is full at one engine and not at the others."""
    worst, best, slower = [], [], []
    for episode in play(f"four-{MIDDLE}", "consistent-hash"):
        hits = [episode.hits(r) for r in range(4)]
        full, free = int(np.argmin(hits)), int(np.argmax(hits))
        worst.append(hits[full])
        best.append(hits[free])
        slower.append(episode.token_s(full) / episode.token_s(free))
    return Sign(
        f"consistent-hash, {MIDDLE} sessions: hits of the best and the worst engine",
        "98 -> 5 %, 4 times slower, others idle",
        f"{100 * np.mean(best):.0f} -> {100 * np.mean(worst):.0f} % over a whole step "
        f"(least {100 * min(worst):.0f} %), {np.mean(slower):.1f} times slower "
        f"(most {max(slower):.1f})",
        bool(np.mean(worst) < 0.6 * np.mean(best) and np.mean(slower) > 2.0),
        "prime-rl 3255",
    )


def margins() -> list[Sign]:
    """A gate over all engines at 4, and a margin of each session's own engine at 2."""
    signs = []
    for name in ("four-64", "prime"):
        stays = makespan(name, "sticky-least-loaded")
        gate = percent(makespan(name, "session-gate", balance_abs_threshold=4), stays)
        margin = percent(makespan(name, "session-margin", margin=2), stays)
        signs += [
            Sign(
                f"{name}: gate at 4 against sticky", "+18 to +20 %", f"{gate:+.1f} %", gate > 0,
                "verl 6533",
            ),
            Sign(
                f"{name}: margin 2 against sticky", "better", f"{margin:+.1f} %", margin < 0,
                "verl 7435",
            ),
        ]  # fmt: skip
    return signs


def affinity() -> Sign:
    """Cache-aware against consistent hashing where all contexts fit."""
    aware, hashed = (play("nemo", rule) for rule in ("cache-aware", "consistent-hash"))
    change = percent(mean(aware), mean(hashed))
    hits = [100 * np.mean([e.hits() for e in episodes]) for episodes in (aware, hashed)]
    return Sign(
        "nemo: cache-aware against consistent-hash",
        "-10.9 % at hits of 91.6 and 91.8 %",
        f"{change:+.1f} % at hits of {hits[0]:.1f} and {hits[1]:.1f} %",
        change < 0,
        "NeMo-RL 3663",
    )


def counting() -> list[Sign]:
    """What the best rule of the package saves of the makespan of rules that count requests."""
    signs = []
    rules = ("kv-aware", "cache-aware", "session-margin", "length-aware", "prefill-and-work")
    for name in ("four-64", f"four-{MIDDLE}", "prime"):
        best = min(rules, key=lambda rule: makespan(name, rule))
        for counts in ("least-requests", "sticky-least-loaded"):
            left = -percent(makespan(name, best), makespan(name, counts))
            signs.append(
                Sign(
                    f"{name}: left by {counts}", "18 to 34 %", f"{left:.0f} % ({best})", left > 0,
                    "torchtitan 3755, vllm-omni 5135",
                )
            )  # fmt: skip
    return signs


LOADS = {"low": LOW, "middle": MIDDLE, "high": HIGH}
GROUPS_S = {"low": (850, 790), "middle": (1448, 843), "high": (1919, 1809)}
"""Mean seconds of a group under consistent-hash and sticky-least-loaded, SkyRL 1791."""


def group_ratio(load: str, statistic: Callable[[Any], Any] = np.mean) -> float:
    """Return the seconds of a group, sticky-least-loaded over consistent-hash."""
    name = f"four-{LOADS[load]}"
    return group_s(name, "sticky-least-loaded", statistic) / group_s(
        name, "consistent-hash", statistic
    )


def session_routing() -> list[Sign]:
    """Sticky least-loaded against consistent hashing at three loads."""
    signs = []
    for load, (hashed, sticky) in GROUPS_S.items():
        ratio = group_ratio(load)
        signs.append(
            Sign(
                f"{LOADS[load]} sessions ({load} load): a group, sticky over hash, mean",
                f"{sticky / hashed:.3f} ({hashed} -> {sticky} s)", f"{ratio:.3f}", ratio < 1,
                "SkyRL 1791",
            )
        )  # fmt: skip
    ratio = group_ratio("high", np.median)
    return [
        *signs,
        Sign(
            f"{HIGH} sessions (high load): the median group", "1.286 (1302 -> 1675 s)",
            f"{ratio:.3f}", ratio > 1, "SkyRL 1791",
        ),
    ]  # fmt: skip


def all_signs() -> list[Sign]:
    """Return every sign, in the order of the page."""
    return [spiral(), *margins(), affinity(), *counting(), *session_routing()]


def table(signs: list[Sign]) -> str:
    """Return the signs as a Markdown table."""
    lines = ["| what | reported | simulated | sign | source |", "|---|---|---|---|---|"]
    for sign in signs:
        agrees = "as reported" if sign.agrees else "**not so**"
        lines.append(
            f"| {sign.what} | {sign.reported} | {sign.simulated} | {agrees} | {sign.source} |"
        )
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
