"""What cuts the run of a gang short in the naive reference: a failing node, or a preemption.

A run saves its work whenever it has run for another ``checkpoint_s``. A node that fails takes the
gang back to what was saved last, in this run or by its start; whoever is preempted keeps all and
owes more. In the middle of an iteration the part of it that is done is measured by the seconds that
the iteration would take with nobody else on the links. The next run goes on with what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from reference_network import Gang, Network

Event = tuple[float, float, int, Callable[[], None]]


def stops(network: Network) -> list[Event]:
    """Return what comes next between start and end of runs: work is saved, runs are cut short.

    At one moment work is saved first, and runs are cut short before others start.
    """
    found: list[Event] = []
    for gang in network.gangs:
        if gang.phase > -2 and math.isnan(gang.finish_s):
            found.append((gang.save_s, -3, gang.number, lambda it=gang: save(network, it)))
            found.append((gang.stop_s, -2, gang.number, lambda it=gang: stop(network, it)))
    return found


def save(network: Network, gang: Gang) -> None:
    """Save the work of a gang."""
    gang.saved = left(network, gang)
    gang.save_s += gang.checkpoint_s


def stop(network: Network, gang: Gang) -> None:
    """Cut a run short."""
    gang.iterations = gang.saved if gang.fails else left(network, gang) + gang.owes
    if gang.flow is not None:
        network.flows.remove(gang.flow)
    gang.flow, gang.stopped = None, True
    gang.finish_s, gang.until_s = network.now_s, math.inf


def left(network: Network, gang: Gang) -> float:
    """Return the iterations that a gang has still to do now, of the one under way a part."""
    phases_s = [alone_s(network, gang, phase) for phase in gang.phases]
    whole_s = gang.compute_s + max(sum(phases_s) - gang.hidden_s, 0.0)
    part, now_s = gang.part, network.now_s
    if gang.phase == -1:
        rest_s = gang.until_s - now_s + max(sum(phases_s), gang.hidden_s) * part
    elif gang.flow is None:
        rest_s = gang.until_s - now_s
    else:
        sending, later = phases_s[gang.phase], phases_s[gang.phase + 1 :]
        bytes_all = gang.phases[gang.phase][-1]
        rest_s = gang.flow.left / bytes_all * sending + sum(later) * part
        rest_s = max(rest_s, gang.computed_s - now_s)
    return gang.iterations - part + min(rest_s / whole_s, part)


def alone_s(network: Network, gang: Gang, phase: tuple[int, int, int, int, float]) -> float:
    """Return the seconds of a phase of a whole iteration with nobody else on its links."""
    flow = gang.flows(network.wires, phase)
    if flow.limit == math.inf:  # nobody sends
        return 0.0
    shares = [network.capacity(link) / weight for link, weight in flow.weights.items()]
    return phase[-1] / min([flow.limit, *shares])
