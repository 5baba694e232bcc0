"""Services, whose replicas are gangs: from a scenario to records, and back to results."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.core import units
from ..engine.core.records import fill_in, records, records_of
from ..engine.services.records import FLEET, ROLE, SCALER_RULES, SERVICE_STATE
from ..scenario import Scenario
from ..scenario.services import Handover, Role
from .part import Part, Sizes, Table


class Services:
    """Services of ``num_envs`` worlds; their replicas and gangs stand in the other parts."""

    def __init__(self, scenario: Scenario, num_envs: int) -> None:
        self.scenario = scenario
        roles = build_roles(scenario)
        self.part = Part(
            kind="scale",
            units=units.OF_SERVICES,
            sizes=Sizes(candidates=1 + 2 * len(roles), queue=0, devices=0, links=0),
            state={
                "fleet": records(num_envs, FLEET),
                "service_states": records((num_envs, len(scenario.services)), SERVICE_STATE),
            },
            shared={
                "roles": roles,
                "scaler_rules": records_of(SCALER_RULES, **vars(scenario.scaler)),
            },
        )

    def load(self, e: int, rng: np.random.Generator) -> None:
        """Begin the books of environment ``e``'s next episode."""
        for name in ("fleet", "service_states"):
            self.part.state[name][e] = np.zeros((), self.part.state[name].dtype)
        states = self.part.state["service_states"]
        lengths = [service.workload.mean_lengths() for service in self.scenario.services]
        states["prompt_mean"][e] = [prompt for prompt, _ in lengths]
        states["output_mean"][e] = [output for _, output in lengths]
        states["slo_share"][e] = 1.0

    def is_warm(self) -> bool:
        """Nothing is drawn here."""
        return True

    def warm_up(self) -> None:
        """There is nothing to compile."""

    def results(self, e: int) -> dict[str, Table]:
        """Return no table: requests and jobs have theirs."""
        return {}

    def scene(self, e: int, first_request: int) -> dict[str, Any]:
        """Return nothing: services are seen as their gangs and replicas."""
        return {}

    def render(self, e: int, now_s: float, mode: str) -> Any:
        """Services are drawn as their gangs on the cluster and as replicas."""
        raise NotImplementedError


def _handover(role: Role) -> dict[str, float]:
    """Return what ROLE says of handing requests over to a role, zeros where nobody does."""
    names = [item.name for item in fields(Handover) if item.name in (ROLE.names or ())]
    return {name: getattr(role.handover, name, 0.0) for name in names}


def build_roles(scenario: Scenario) -> NDArray[np.void]:
    """Return one ROLE record per role."""
    found = [(v, role) for v, service in enumerate(scenario.services) for role in service.roles]
    roles = records(len(found), ROLE)
    first = 0
    for row, (service, role) in enumerate(found):
        fill_in(
            roles[row : row + 1],
            service=service,
            least=role.least,
            most=role.most,
            first=first,
            gpus=role.gpus,
            startup_s=role.startup_s,
            price_per_h=role.replica.price_per_h,
            **_handover(role),
        )
        first += role.most
    return roles
