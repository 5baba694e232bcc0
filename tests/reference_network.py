"""The network of the naive reference: transfers and gangs in max-min, solved anew at every event.

Textbook progressive filling over all flows under way, no lists, no repair. Under one leaf switch a
flow uses the links of its nodes; beyond it uplink and downlink of the sending GPU's own number
(``routing = "source"``, two tiers, as many spines as uplinks), or the next number if either is
reserved. A gang with uplinks of its own uses those only. Who starts later finds its way anew.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from slow_max_min import max_min

from gpuyard.envs.perf.training.modes import CHAIN, CYCLIC, XOR

Uplinks = AbstractSet[tuple[int, int]]
"""Leaf switch and number of each."""


@dataclass(frozen=True)
class Wires:
    """Nodes under leaf switches, and what their links carry.

    Attributes:
        nodes, slots: nodes, and GPUs of each.
        nodes_per_leaf, uplinks: of each leaf switch.
        nic_bytes_per_s, scale_up_bytes_per_s: of a GPU.
        capacity: bytes/s of node up, node down, leaf up, leaf down.
    """

    nodes: int
    slots: int
    nodes_per_leaf: int
    uplinks: int
    nic_bytes_per_s: float
    scale_up_bytes_per_s: float
    capacity: Sequence[float]

    def path(
        self, source: int, target: int, reserved: Uplinks, mine: Mapping[int, int] | None = None
    ) -> list[int]:
        """Return the links from one GPU to another on a different node.

        Args:
            source: GPU that sends.
            target: GPU that takes.
            reserved: uplinks that others have reserved.
            mine: uplink of each GPU of a gang that has reserved some.
        """
        a, b = source // self.slots, target // self.slots
        leafs = self.nodes // self.nodes_per_leaf
        found = [a, self.nodes + b]
        above, below = a // self.nodes_per_leaf, b // self.nodes_per_leaf
        if above != below:
            own = source % (self.nodes_per_leaf * self.slots) % self.uplinks
            first = mine.get(source, 0) if mine else own
            numbers = [(first + further) % self.uplinks for further in range(self.uplinks)]
            owned = self.of_gpus(mine) if mine else set()
            for number in numbers:
                both = {(above, number), (below, number)}
                if both <= owned if mine else not both & reserved:
                    own = number
                    break
            found.append(2 * self.nodes + above * self.uplinks + own)
            found.append(2 * self.nodes + (leafs + below) * self.uplinks + own)
        return found

    def of_gpus(self, mine: Mapping[int, int]) -> set[tuple[int, int]]:
        """Return the uplinks that some GPUs have reserved, each as leaf switch and number."""
        return {(gpu // (self.nodes_per_leaf * self.slots), up) for gpu, up in mine.items()}


@dataclass(eq=False)
class Flow:
    """What one transfer, or one phase of a gang, sends: some flows in lock-step.

    Attributes:
        weights: flows on each link, ports by name.
        limit: bytes/s of a flow, whatever the links do.
        left: bytes of a flow still to send.
    """

    weights: Counter[object]
    limit: float
    left: float
    rate: float = 0.0


@dataclass(eq=False)
class Gang:
    """A run of a gang from ``start_s`` on: compute, then phases, again and again.

    Attributes:
        number: of its job.
        phases: (ranks, stride, shift, mode, bytes) each, as of the engine's PHASE.
        iterations: to do; if they are no whole number, the first one does the fraction of all.
        mine: uplink that each GPU has reserved; none if it shares them.
        reserved: uplinks of others when it started.
        before: place among all runs of the one that this one goes on with; its own iterations
            count if there is none.
        checkpoint_s: seconds of the run after which its work is saved, again and again; 0: never.
        stop_s: when it is cut short.
        fails: whether that is by a node's failure; by a preemption otherwise.
        owes: iterations more that a preemption costs.
    """

    number: int
    start_s: float
    gpus: tuple[int, ...]
    iterations: float
    compute_s: float
    hidden_s: float
    phases: tuple[tuple[int, int, int, int, float], ...]
    mine: Mapping[int, int] = field(default_factory=dict)
    reserved: Uplinks = frozenset()
    before: int | None = None
    checkpoint_s: float = 0.0
    stop_s: float = math.inf
    fails: bool = False
    owes: float = 0.0
    # where it stands
    saved: float = 0.0  # iterations left when its work was saved last
    save_s: float = math.inf  # when it is saved next
    stopped: bool = False
    part: float = 0.0
    phase: int = -2  # -2: not begun, -1: computes alone, len(phases): waits for hidden compute
    until_s: float = math.inf  # of what is no sending
    computed_s: float = 0.0
    flow: Flow | None = None
    begun_s: dict[float, float] = field(default_factory=dict)  # by iterations left at that moment
    finish_s: float = math.nan

    def flows(self, wires: Wires, phase: tuple[int, int, int, int, float]) -> Flow:
        """Return the flows of a phase."""
        ranks, stride, shift, mode, size = phase
        weights: Counter[object] = Counter()
        limit = math.inf
        for rank, gpu in enumerate(self.gpus):
            place = rank // stride % ranks
            to = {CYCLIC: (place + shift) % ranks, XOR: place ^ shift, CHAIN: place + shift}[mode]
            other = rank + (to - place) * stride
            if not 0 <= to < ranks or other == rank or other >= len(self.gpus):
                continue
            target = self.gpus[other]
            if gpu // wires.slots == target // wires.slots:
                limit = min(limit, wires.scale_up_bytes_per_s)
            else:
                limit = min(limit, wires.nic_bytes_per_s)
                weights.update(wires.path(gpu, target, self.reserved, self.mine))
        return Flow(weights, limit, size * self.part)


@dataclass
class Network:
    """All flows under way, and the gangs behind some of them."""

    wires: Wires
    gangs: list[Gang]
    ports: dict[object, float]
    flows: list[Flow] = field(default_factory=list)
    now_s: float = 0.0
    equal: float = 1e-12  # rates closer than this share of each other are the same

    def advance(self, now_s: float) -> None:
        """Let all flows send on until ``now_s``."""
        for flow in self.flows:
            flow.left -= flow.rate * (now_s - self.now_s)
        self.now_s = now_s

    def share(self) -> None:
        """Give all flows their max-min fair rates."""
        links = sorted({link for flow in self.flows for link in flow.weights}, key=str)
        number = {link: at for at, link in enumerate(links)}
        capacity = [self.now_s * 0 + self.capacity(link) for link in links]
        weights = {
            at: {number[link]: float(weight) for link, weight in flow.weights.items()}
            for at, flow in enumerate(self.flows)
        }
        limits = {at: flow.limit for at, flow in enumerate(self.flows)}
        for at, rate in max_min(limits, weights, capacity, self.equal).items():
            self.flows[at].rate = rate

    def capacity(self, link: object) -> float:
        """Return bytes/s of a link or port."""
        return self.wires.capacity[link] if isinstance(link, int) else self.ports[link]

    def end_s(self, flow: Flow) -> float:
        """Return when a flow has sent all at its present rate."""
        return self.now_s + flow.left / flow.rate

    def reserved(self) -> set[tuple[int, int]]:
        """Return the uplinks that gangs have reserved now."""
        found: set[tuple[int, int]] = set()
        for gang in self.gangs:
            if gang.phase > -2 and math.isnan(gang.finish_s):
                found |= self.wires.of_gpus(gang.mine)
        return found

    def next_s(self, gang: Gang) -> float:
        """Return when a gang does something next."""
        if gang.phase == -2:
            return gang.start_s
        return gang.until_s if gang.flow is None else self.end_s(gang.flow)

    def go_on(self, gang: Gang) -> None:
        """End what a gang does, and begin what comes next."""
        if gang.flow is not None:
            self.flows.remove(gang.flow)
            gang.flow = None
        if gang.phase == -2:
            self.begin(gang)
            return
        if gang.phase == -1:
            gang.computed_s = self.now_s + gang.hidden_s * gang.part
        if gang.phase < len(gang.phases):
            gang.phase += 1
        while gang.phase < len(gang.phases):
            flow = gang.flows(self.wires, gang.phases[gang.phase])
            if flow.limit < math.inf:
                gang.flow = flow
                self.flows.append(flow)
                return
            gang.phase += 1
        if self.now_s < gang.computed_s:
            gang.until_s, gang.computed_s = gang.computed_s, -math.inf
            return
        gang.iterations -= gang.part
        if gang.iterations > 1e-9:
            self.compute(gang)
        else:
            gang.finish_s, gang.until_s = self.now_s, math.inf

    def begin(self, gang: Gang) -> None:
        """Begin a run where the one before has got to."""
        if gang.before is not None:
            gang.iterations = self.gangs[gang.before].iterations
        gang.saved = gang.iterations
        if gang.checkpoint_s > 0:
            gang.save_s = self.now_s + gang.checkpoint_s
        self.compute(gang)

    def compute(self, gang: Gang) -> None:
        """Begin an iteration."""
        gang.begun_s[gang.iterations] = self.now_s
        fraction = gang.iterations % 1.0
        whole = fraction < 1e-9 or fraction > 1 - 1e-9
        gang.part = min(gang.iterations, 1.0) if whole else fraction
        gang.phase = -1
        gang.until_s = self.now_s + (gang.compute_s - gang.hidden_s) * gang.part
