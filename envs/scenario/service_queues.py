"""Services in the queues of tenants: whether they may be there, and be preempted."""

from __future__ import annotations

from collections.abc import Sequence

from ..rules import SchedulerRules
from ..workload.jobs.source import JobWorkload
from .checks import ScenarioError
from .services import NON_PREEMPTIBLE, Service


def check_queues(services: Sequence[Service], jobs: JobWorkload, scheduler: SchedulerRules) -> None:
    """Refuse queues that there are not or that are too small, and preemption that never comes.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    around = {queue.parent for queue in jobs.queues}
    queues = {queue.name: queue for at, queue in enumerate(jobs.queues) if at not in around}
    for number, service in enumerate(services):
        where = f"deployments[{number}]"
        if service.preemptibility != NON_PREEMPTIBLE and not scheduler.preemption:
            raise ScenarioError(
                f"{where}.preemptibility = {service.preemptibility!r} needs scheduler.preemption = "
                "true: without it nothing is preempted"
            )
        if not service.queue:
            continue
        if service.queue not in queues:
            raise ScenarioError(
                f"{where}.queue = {service.queue!r} is no tenant's; use one of "
                f"{', '.join(queues)}, or add it to [[jobs.tenants]]"
            )
        limit = queues[service.queue].limit
        largest = max(service.base_gpus, *(role.gpus for role in service.roles))
        if largest > limit:
            raise ScenarioError(
                f"{where}: a gang of {largest} GPUs never starts: queue {service.queue!r} holds at "
                f"most {limit}; raise its quota, or lower min or tp"
            )
