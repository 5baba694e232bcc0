"""Arrow's change of roles as xLLM's service does it: a fixed fleet, whose two pools breathe.

Source: Arrow, arXiv:2505.11916, and github.com/jd-opensource/xllm-service,
``xllm_service/scheduler/managers/instance_mgr.cpp`` (``select_instance_pair_on_slo``,
``flip_prefill_to_decode``, ``flip_decode_to_prefill``). xLLM looks at every request and predicts
the time per token of each replica; here a round looks at what the last interval has measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation, Policy

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

KEEP = 0
PROMPT_TOKENS = 2048


class XLLMScaler(Policy):
    """Lets replicas change between prefill and decode, and adds and takes away none.

    A prefill replica turns to decode if the time per token is above its objective, and prefill can
    spare one: its queue is below the share ``1 - 1 / n`` of the objective of the first token for
    its n replicas, or it has more replicas than decode. A decode replica that has no request turns
    to prefill. Neither role loses its last replica, and a service makes one change a round. Roles
    that may not change, and services with one role, stay as they are.
    """

    decides = frozenset({"scale"})

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Note which rows change which roles."""
        from gpuyard.envs.scenario.services import turns  # heavy; names are listed without it

        super().reset(scenario, num_envs, seed)
        pairs = zip(scenario.services, scenario.objectives, strict=True)
        roles = [(service, role, slo) for service, slo in pairs for role in service.roles]
        self.names = [service.name for service, _, _ in roles]
        self.kinds = [role.kind for _, role, _ in roles]
        self.rates = [role.prefill_tokens_per_s(PROMPT_TOKENS) for _, role, _ in roles]
        self.slos = [slo for _, _, slo in roles]
        self.turns = turns(scenario.services)
        self._turned: list[set[str]] = [set() for _ in range(num_envs)]

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the row of a change of role that the rule asks for, or that keeps, shape (n,)."""
        actions = observation["action_mask"].argmax(axis=1).astype(np.int64)
        changes = self.column(observation, "cluster", "scale.changes")
        for e in np.flatnonzero(self.asked(observation)).tolist():
            if changes[e] == 0:
                self._turned[e] = set()
            actions[e] = self._choose(observation, e)
        return actions

    def _choose(self, observation: Observation, e: int) -> int:
        rows = {"candidates": observation["candidates"][e]}
        for t, (giver, taker) in enumerate(self.turns):
            row, name = 1 + 2 * len(self.kinds) + t, self.names[giver]
            if not observation["action_mask"][e, row] or name in self._turned[e]:
                continue
            if self._turns(rows, row, giver, taker):
                self._turned[e].add(name)
                return row
        return KEEP

    def _turns(self, rows: Observation, row: int, giver: int, taker: int) -> bool:
        """Tell whether a replica should leave the giver for the taker."""

        def read(name: str, at: int) -> float:
            return float(self.read(rows, "candidates", f"scale.{name}")[at])

        if read("left", row) < 1:
            return False
        if self.kinds[giver] == "decode":
            return read("to_finish", row) == 0
        prefills, decodes = read("serving", 1 + 2 * giver), read("serving", 1 + 2 * taker)
        queue_s = read("queued_tokens", 1 + 2 * giver) / self.rates[giver]
        slo = self.slos[giver]
        can_spare = queue_s < slo.ttft_s * (1 - 1 / prefills) or decodes < prefills
        return read("tpot_s", 1 + 2 * taker) > slo.tpot_s and can_spare
