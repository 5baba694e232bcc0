"""How a rule becomes a policy: from an observation to signals, from replicas wanted to a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation, Policy
from .rule import ScalingRule
from .signals import DECODE, MIXED, PREFILL, RoleSignals, Signals

if TYPE_CHECKING:
    from gpuyard.envs.rules import SLO
    from gpuyard.envs.scenario import Scenario
    from gpuyard.envs.scenario.services import Role, Service

NAMES = {"aggregated": MIXED, "prefill": PREFILL, "decode": DECODE}
"""What rules call a kind of role."""

KEEP = 0
"""The first row; two for each role follow, to add and to take away, then changes of role."""


class Scaler(Policy):
    """Asks one rule per role at the begin of a round, then takes the rows that lead there.

    Subclasses give :meth:`rule`, or :meth:`rules` where one rule is for several roles.
    """

    decides = frozenset({"scale"})

    def rule(self, role: Role) -> ScalingRule:
        """Return a new rule for a role; roles are scaled alone."""
        raise NotImplementedError

    def rules(self, service: Service, slo: SLO) -> list[tuple[ScalingRule, tuple[Role, ...]]]:
        """Return the new rules of a service, and for which of its roles each is."""
        return [(self.rule(role), (role,)) for role in service.roles]

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Make the rules of every environment."""
        super().reset(scenario, num_envs, seed)
        self.interval_s = scenario.scaler.interval_s
        self.roles = [role for service in scenario.services for role in service.roles]
        self._rules = [self._new_rules(scenario) for _ in range(num_envs)]
        self._now_s = np.zeros(num_envs)
        self._wanted = np.zeros((num_envs, len(self.roles)), np.int64)

    def _new_rules(self, scenario: Scenario) -> list[tuple[ScalingRule, dict[str, int]]]:
        """Return new rules, and where in the list of all roles those of each stand, by name."""
        found: list[tuple[ScalingRule, dict[str, int]]] = []
        first = 0
        for service, slo in zip(scenario.services, scenario.objectives, strict=True):
            for rule, roles in self.rules(service, slo):
                at = {NAMES[role.kind]: first + service.roles.index(role) for role in roles}
                found.append((rule, at))
            first += len(service.roles)
        return found

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Let the rules of these environments forget everything."""
        for e in np.flatnonzero(done).tolist():
            self._now_s[e] = 0.0
            for rule, _ in self._rules[e]:
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
        for rule, roles in self._rules[e]:
            wanted = rule.desired(seen.signals(roles, now_s, self.interval_s))
            for name, g in roles.items():
                bounds = self.roles[g].least, self.roles[g].most
                self._wanted[e, g] = np.clip(wanted[name], *bounds)

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

    def role(self, g: int) -> RoleSignals:
        """Return what an autoscaler sees of a role; means stand for each replica."""
        ready = self.ready(g)
        fields = ("waiting", "running", "queued_tokens", "kv_usage")
        means: dict[str, Any] = {field: (self._read(field, g),) * ready for field in fields}
        return RoleSignals(self.starting(g), utilization=(self._read("busy", g),) * ready, **means)

    def signals(self, roles: Mapping[str, int], now_s: float, interval_s: float) -> Signals:
        """Return what an autoscaler sees of some roles of a service, called so."""
        g = min(roles.values())
        rate, prompt = self._read("rate_per_s", g), self._read("prompt_tokens", g)
        return Signals(
            now_s=now_s,
            interval_s=interval_s,
            roles={name: self.role(at) for name, at in roles.items()},
            rate_per_s=rate,
            prompt_tokens=prompt,
            output_tokens=self._read("output_tokens", g),
            prefill_tokens_per_s=rate * prompt,
            ttft_s=self._read("ttft_s", g) or np.nan,
            tpot_s=self._read("tpot_s", g) or np.nan,
        )
