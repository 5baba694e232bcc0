"""One policy made of several, each for a kind of decision of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .policy import Observation, Policy

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


class Composite(Policy):
    """Asks, in each environment, the policy for the decision that is due.

    Args:
        route: decides which replica takes a request.
        place: decides which gang starts where.
        scale: decides about replicas.
        migrate: decides which running requests move.

    Attributes:
        parts: those given, by decision.

    Raises:
        ValueError: none given, one that does not take the decision it is given for, or one given
            twice (its memory would be led by both).
    """

    def __init__(
        self,
        *,
        route: Policy | None = None,
        place: Policy | None = None,
        scale: Policy | None = None,
        migrate: Policy | None = None,
    ) -> None:
        given = {"route": route, "place": place, "scale": scale, "migrate": migrate}
        self.parts = {kind: policy for kind, policy in given.items() if policy is not None}
        self.decides = frozenset(self.parts)
        for kind, policy in self.parts.items():
            if kind not in policy.decides:
                raise ValueError(f"{type(policy).__name__} does not decide {kind}")
        if len({id(policy) for policy in self.parts.values()}) < max(len(self.parts), 1):
            raise ValueError("a composite takes one policy or more, each an object of its own")

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Prepare the policies whose decisions the scenario asks for; the others rest."""
        super().reset(scenario, num_envs, seed)
        self.at_work = {
            kind: policy for kind, policy in self.parts.items() if kind in scenario.decisions
        }
        for kind, policy in self.at_work.items():
            part: Any = ShareOfScenario(scenario, frozenset({kind}))
            policy.reset(part, num_envs, seed)

    def attach(self, env: Any) -> None:
        """Let every policy at work make use of ``env``."""
        for policy in self.at_work.values():
            policy.attach(env)

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Let every policy at work forget the episodes that have ended."""
        for policy in self.at_work.values():
            policy.restart(done)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the candidate that the policy in charge takes in each environment, shape (n,)."""
        actions = observation["action_mask"].argmax(axis=1)  # where nothing is due
        for policy in self.at_work.values():
            due = policy.asked(observation)
            if due.any():
                actions[due] = policy.act(observation)[due]
        return actions

    def lessons(self, observation: Observation, env: Any) -> NDArray[np.bool_]:
        """Return the lessons of the policy in charge in each environment, bool (n, C)."""
        wanted = np.zeros(observation["action_mask"].shape, np.bool_)
        for policy in self.at_work.values():
            due = policy.asked(observation)
            if due.any():
                wanted[due] = policy.lessons(observation, env)[due]
        return wanted


class ShareOfScenario:
    """A scenario as one of several policies meets it: only the decisions that are for it."""

    def __init__(self, scenario: Scenario, decisions: frozenset[str]) -> None:
        self._scenario = scenario
        self.decisions = decisions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scenario, name)
