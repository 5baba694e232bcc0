"""Services, whose replicas are gangs: from a scenario to records, and back to results."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.core import units
from ..engine.core.records import fill_in, records, records_of
from ..engine.services.records import (
    FLEET,
    ROLE,
    SCALER_RULES,
    SENDING,
    SERVICE,
    SERVICE_STATE,
    TURN,
)
from ..scenario import Scenario
from ..scenario.services import Handover, Role, Service, turns
from .part import Part, Sizes, Table
from .traffic import sent_by_replicas


class Services:
    """Services of ``num_envs`` worlds; their replicas and gangs stand in the other parts."""

    def __init__(self, scenario: Scenario, num_envs: int) -> None:
        self.scenario = scenario
        roles, changes = build_roles(scenario), build_turns(scenario)
        senders = len(scenario.slots) if sent_by_replicas(scenario) else 0
        self.part = Part(
            kind="scale",
            units=units.OF_SERVICES,
            services=tuple(service.name for service in scenario.services),
            sizes=Sizes(candidates=1 + 2 * len(roles) + len(changes), queue=0, devices=0, links=0),
            state={
                "fleet": records(num_envs, FLEET),
                "service_states": records((num_envs, len(scenario.services)), SERVICE_STATE),
                "sendings": records((num_envs, senders), SENDING),
            },
            shared={
                "services": build_services(scenario),
                "roles": roles,
                "turns": changes,
                "scaler_rules": records_of(SCALER_RULES, **vars(scenario.scaler)),
            },
        )

    def load(self, e: int, rng: np.random.Generator) -> None:
        """Begin the books of environment ``e``'s next episode."""
        for name in ("fleet", "service_states", "sendings"):
            self.part.state[name][e] = np.zeros((), self.part.state[name].dtype)
        states = self.part.state["service_states"]
        lengths = [service.workload.mean_lengths() for service in self.scenario.services]
        states["prompt_mean"][e] = [prompt for prompt, _ in lengths]
        states["output_mean"][e] = [output for _, output in lengths]
        states["slo_share"][e] = 1.0
        states["breached_s"][e] = states["stale_s"][e] = np.inf

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


def _before(service: Service, row: int, role: Role) -> int:
    """Return the role that one starts after, -1: none; ``row`` is its own number."""
    kinds = [other.kind for other in service.roles]
    if not role.starts_after:
        return -1
    return row + kinds.index(role.starts_after) - kinds.index(role.kind)


def build_services(scenario: Scenario) -> NDArray[np.void]:
    """Return one SERVICE record per service; what it never does comes after an endless time."""
    bases = {slot.service: slot.base for slot in scenario.slots}
    found = records(len(scenario.services), SERVICE)
    for row, service in enumerate(scenario.services):
        fill_in(
            found[row : row + 1],
            base_gang=bases[row],
            base_replicas=sum(role.least for role in service.roles),
            splits=service.splits,
            termination_delay_s=service.termination_delay_s or np.inf,
            staleness_grace_s=service.staleness_grace_s or np.inf,
            asked_at_s=service.asked_at_s,
        )
    return found


def build_turns(scenario: Scenario) -> NDArray[np.void]:
    """Return one TURN record per change of role."""
    pairs = np.array(turns(scenario.services), np.int32).reshape(-1, 2)
    found = records(len(pairs), TURN)
    fill_in(found, giver=pairs[:, 0], taker=pairs[:, 1])
    return found


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
            ranks=role.replica.deployment.tp,
            startup_s=role.startup_s,
            change_s=scenario.services[service].role_change_s,
            initial=role.initial,
            after=_before(scenario.services[service], row, role),
            price_per_h=role.replica.price_per_h,
            farthest=role.farthest,
            nearest=role.nearest,
            layers=role.layers,
            **_handover(role),
        )
        first += role.most
    return roles
