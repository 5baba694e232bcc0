"""Autoscaling rules as policies: from an observation to signals, from replicas wanted to a row."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..policy import Factory, Observation, Policy, ScorePolicy
from .dynamo_load import DynamoLoad
from .fixed import Fixed
from .hpa import HPA, Metric
from .keda import KedaTokenAware
from .rule import ScalingRule
from .signals import DECODE, MIXED, PREFILL, RoleSignals, Signals
from .wva import WVASaturation
from .xllm import XLLMScaler

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario
    from gpuyard.envs.scenario.services import Role

NAMES = {"aggregated": MIXED, "prefill": PREFILL, "decode": DECODE}
"""What rules call a kind of role."""

KEEP = 0
"""The first row; two for each role follow, to add and to take away, then changes of role."""


class Scaler(Policy):
    """Asks one rule per role at the begin of a round, then takes the rows that lead there.

    Subclasses give :meth:`rule`.
    """

    decides = frozenset({"scale"})

    def rule(self, role: Role) -> ScalingRule:
        """Return a new rule for a role; roles are scaled alone."""
        raise NotImplementedError

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Make the rules of every environment."""
        super().reset(scenario, num_envs, seed)
        self.interval_s = scenario.scaler.interval_s
        self.roles = [role for service in scenario.services for role in service.roles]
        self._rules = [[self.rule(role) for role in self.roles] for _ in range(num_envs)]
        self._now_s = np.zeros(num_envs)
        self._wanted = np.zeros((num_envs, len(self.roles)), np.int64)

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Let the rules of these environments forget everything."""
        for e in np.flatnonzero(done).tolist():
            self._now_s[e] = 0.0
            for rule in self._rules[e]:
                rule.restart()

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the row that leads towards what the rules want, shape (n,)."""
        actions = observation["action_mask"].argmax(axis=1).astype(np.int64)
        changes = self.column(observation, "cluster", "scale.changes")
        since_s = self.read(observation, "cluster", "scale.since_s")
        for e in np.flatnonzero(self.asked(observation)).tolist():
            seen = Seen(self, observation, e)
            if changes[e] == 0:
                self._now_s[e] += round(since_s[e] / self.interval_s) * self.interval_s
                self._look(e, seen)
            actions[e] = self._towards(e, seen, observation["action_mask"][e] > 0)
        return actions

    def _look(self, e: int, seen: Seen) -> None:
        """Ask the rules of an environment what they want."""
        now_s = float(self._now_s[e])
        for g, rule in enumerate(self._rules[e]):
            name = NAMES[self.roles[g].kind]
            wanted = rule.desired(seen.signals(name, g, now_s, self.interval_s))
            self._wanted[e, g] = wanted[name]

    def _towards(self, e: int, seen: Seen, feasible: NDArray[np.bool_]) -> int:
        """Return a feasible row that brings a role nearer to what is wanted, or that keeps."""
        for g in range(len(self.roles)):
            missing = int(self._wanted[e, g]) - seen.replicas(g)
            row = 1 + 2 * g + (missing < 0)
            if missing and feasible[row]:
                return row
        return KEEP


class Seen:
    """The roles of one environment as an observation shows them.

    Args:
        policy: knows the columns.
        observation: of all environments.
        e: which one.
    """

    def __init__(self, policy: Policy, observation: Observation, e: int) -> None:
        alone = {"candidates": observation["candidates"][e]}
        self._read = lambda name, g: float(
            policy.read(alone, "candidates", f"scale.{name}")[1 + 2 * g]
        )

    def ready(self, g: int) -> int:
        """Return the replicas of a role that take requests."""
        return round(self._read("serving", g))

    def starting(self, g: int) -> int:
        """Return those that wait for devices or load."""
        return round(self._read("queued", g) + self._read("starting", g))

    def replicas(self, g: int) -> int:
        """Return both together."""
        return self.ready(g) + self.starting(g)

    def signals(self, name: str, g: int, now_s: float, interval_s: float) -> Signals:
        """Return what an autoscaler sees of a role, called so; means stand for each replica."""
        ready = self.ready(g)
        fields = ("waiting", "running", "queued_tokens", "kv_usage")
        means: dict[str, Any] = {field: (self._read(field, g),) * ready for field in fields}
        role = RoleSignals(self.starting(g), utilization=(self._read("busy", g),) * ready, **means)
        rate, prompt = self._read("rate_per_s", g), self._read("prompt_tokens", g)
        return Signals(
            now_s=now_s,
            interval_s=interval_s,
            roles={name: role},
            rate_per_s=rate,
            prompt_tokens=prompt,
            output_tokens=self._read("output_tokens", g),
            prefill_tokens_per_s=rate * prompt,
            ttft_s=self._read("ttft_s", g) or np.nan,
            tpot_s=self._read("tpot_s", g) or np.nan,
        )


class FixedScaler(Scaler):
    """As many replicas as there are at the first look; see :class:`.Fixed`."""

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        return Fixed()


class HPAScaler(Scaler):
    """The Kubernetes HorizontalPodAutoscaler; see :class:`.HPA`.

    Args:
        metric: what is averaged over replicas.
        target: value that the mean should have.
    """

    def __init__(self, metric: Metric = "utilization", target: float = 0.5) -> None:
        HPA(target, metric)
        self.metric: Metric = metric
        self.target = target

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        return HPA(self.target, self.metric, least=role.least, most=role.most)


class KedaScaler(Scaler):
    """llm-d's token-aware scaling with KEDA; see :class:`.KedaTokenAware`.

    V_P is the replica's estimated prefill rate on prompts of 2,048 tokens.

    Args:
        prefill_s: seconds of prompts that may queue at a replica.
        kv: KV usage that a replica should have.
    """

    def __init__(self, prefill_s: float = 1.5, kv: float = 0.8) -> None:
        KedaTokenAware(1.0, prefill_s, kv)
        self.prefill_s, self.kv = prefill_s, kv

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        rate = role.prefill_tokens_per_s(PROMPT_TOKENS)
        return KedaTokenAware(rate, self.prefill_s, self.kv, least=role.least, most=role.most)


PROMPT_TOKENS = 2048


class WVAScaler(Scaler):
    """The saturation analyser of llm-d's autoscaler of variants; see :class:`.WVASaturation`."""

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        return WVASaturation(least=role.least, most=role.most)


class DynamoScaler(Scaler):
    """Dynamo's planner by load; see :class:`.DynamoLoad`.

    Args:
        defaults: of its document or of its code, which disagree.
    """

    def __init__(self, defaults: Literal["document", "code"] = "document") -> None:
        DynamoLoad(defaults)
        self.defaults: Literal["document", "code"] = defaults

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        gpus = role.gpus
        return DynamoLoad(
            self.defaults,
            dict.fromkeys(NAMES.values(), gpus),
            most_gpus=role.most * gpus,
            least=role.least,
            most=role.most,
        )


class RandomScaler(ScorePolicy):
    """A feasible row, uniformly at random: the zero of every comparison."""

    decides = frozenset({"scale"})

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Seed the draws."""
        super().reset(scenario, num_envs, seed)
        self._rng = np.random.default_rng(seed)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return independent uniform numbers: the largest one is a uniform choice."""
        return self._rng.random(observation["action_mask"].shape)


BASELINES: dict[str, Factory] = {
    "random": RandomScaler,
    "fixed": FixedScaler,
    "hpa": HPAScaler,
    "hpa-queue": partial(HPAScaler, metric="waiting", target=2.0),
    "keda": KedaScaler,
    "wva": WVAScaler,
    "dynamo": DynamoScaler,
    "xllm": XLLMScaler,
}
"""Registered rules; docs/baselines_scaling.md has a row for each."""
