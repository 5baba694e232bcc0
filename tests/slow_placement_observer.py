"""What a placement policy may see, read slowly: from the jobs and from who got which GPUs when.

An :class:`Observer` says what one observation should be, from the book of all runs so far
(:mod:`slow_gangs`), with plans and a window of its own (:mod:`slow_plans`, :mod:`slow_window`). All
that it learns from the engine goes through :class:`Raw`.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from slow_gangs import Book, Job, Run, comm_share
from slow_plans import OWN_LINKS, PLANS, Site, plans_of
from slow_routes import Load, Network
from slow_window import Waiting, choose, has_room

from gpuyard.envs.cluster_view import DOWN, FREE, ClusterView
from gpuyard.envs.observation import TABLES as BLOCKS
from gpuyard.envs.observation import Column, Layout
from gpuyard.envs.perf.training import gang_profile
from gpuyard.envs.scenario import Scenario

TABLES: dict[str, tuple[Column, ...]] = {key: Layout({"place"}).columns(key) for key in BLOCKS}


class Raw:
    """The only door to the engine: raw state at the decision under way, nothing that it counts.

    Who holds each GPU and uplink, what flows on each link and when jobs finished are facts of the
    view and the results. Speeds of nodes and of running iterations come from chance and from
    contention, which tests of their own hold against other solvers.
    """

    def __init__(self, env: Any) -> None:
        self.view: ClusterView = env.view()
        self.finish_s: NDArray[np.float64] = env.results()["jobs"]["finish_s"]
        self._arrays = env._world.state

    @cached_property
    def node_speed(self) -> list[float]:
        """Speed of every node, 1 but for stragglers."""
        return self._arrays["node_speed"][0].tolist()

    def iteration_s(self, job: int) -> float:
        """Seconds of an iteration of a running gang as things are."""
        return float(self._arrays["senders"]["iteration_s"][0, job])

    def comm_s(self, job: int) -> float:
        """Seconds of communication in it as things are."""
        return float(self._arrays["senders"]["comm_s"][0, job])


def stored(key: str, row: dict[str, float]) -> list[float]:
    """A row as it is stored, from quantities in their own units; what is not named is 0."""
    table = TABLES[key]
    assert set(row) <= {column.name for column in table}
    values = [(row.get(c.name, 0.0), c.scale) for c in table]
    return [x if scale is None else x / (x + scale) for x, scale in values]


class Start(NamedTuple):
    """A pending gang that may start: its place in the queue, and where it would run."""

    position: int
    job: int
    plan: str
    pool: int
    nodes: list[int]


class Stop(NamedTuple):
    """A run that may be cut short, and its place among the running ones, latest start first."""

    position: int
    run: Run


class Observer:
    """Says what should be observed at one decision of an episode with these jobs."""

    def __init__(self, scenario: Scenario, jobs: list[Job], book: Book, raw: Raw) -> None:
        self.scenario, self.cluster = scenario, scenario.cluster
        self.jobs, self.book, self.raw = jobs, book, raw
        self.now_s = raw.view.now_s
        self.network = Network(self.cluster)
        self.plans = [plan for plan in PLANS if plan != "optical" or self.cluster.fabric.optical]
        self.finished = [i for i, at_s in enumerate(raw.finish_s) if not math.isnan(at_s)]
        self.runs = book.running()
        running = {run.job for run in self.runs}
        self.arrived = [job for job in jobs if job.arrival_s <= self.now_s]
        gone = running | set(self.finished)
        self.pending = [job for job in self.arrived if job.number not in gone]

    # -- nodes and links

    @cached_property
    def exists(self) -> NDArray[np.bool_]:
        """Slots that hold a GPU, bool (N, slots)."""
        gpus = [self.cluster.pools[pool].gpus_per_node for pool in self.cluster.node_pool]
        return np.arange(self.cluster.gpus_per_node) < np.array(gpus)[:, None]

    @cached_property
    def holders(self) -> NDArray[np.int32]:
        return self.raw.view.gpu_job.reshape(self.exists.shape)

    @cached_property
    def site(self) -> Site:
        view = self.raw.view
        return Site(
            cluster=self.cluster,
            free=(self.holders == FREE).sum(1).tolist(),
            lit=view.circuits >= 0,
            unowned=view.uplink_job == FREE,
            idle=view.uplink_flows == 0,
            leaf_load=[self.leaf_load(leaf) for leaf in range(len(self.cluster.leaf_pod))],
        )

    def leaf_load(self, leaf: int) -> float:
        """Mean load of the links between a leaf's switches and the spines, up and down."""
        at, uplinks = self.network.begin, self.cluster.fabric.uplinks
        total, links = 0.0, 0
        for switch in np.flatnonzero(self.cluster.switch_leaf == leaf):
            for uplink in range(switch * uplinks, (switch + 1) * uplinks):
                total += self.raw.view.link_load[at[2] + uplink]
                total += self.raw.view.link_load[at[3] + uplink]
                links += 2
        return total / links if links else 0.0

    def speed(self, job: Job, pool: int) -> float:
        return gang_profile.speed(job.profile, self.cluster.pools[pool].gpu)

    def load_of(self, run: Run) -> Load:
        """What a running gang does to the network."""
        job, view = self.jobs[run.job], self.raw.view
        nodes = {self.network.node(gpu) for gpu in run.gpus}
        speed = min(
            self.raw.node_speed[node] * self.speed(job, self.cluster.node_pool[node])
            for node in nodes
        )
        own = np.argwhere(view.uplink_job == run.job).tolist()
        uplinks = frozenset((switch, uplink) for switch, uplink in own)
        return Load(run.gpus, job.profile, speed, job.comm_scale, uplinks, run.barred)

    @cached_property
    def loads(self) -> list[Load]:
        return [self.load_of(run) for run in self.runs]

    def leafs_of(self, gpus: list[int]) -> set[int]:
        return {int(self.cluster.node_leaf[self.network.node(gpu)]) for gpu in gpus}

    @cached_property
    def free(self) -> int:
        return int((self.holders == FREE).sum())

    def fragments(self, free: list[int]) -> float:
        """Share of free GPUs that are on nodes with others in use."""
        own = self.exists.sum(1).tolist()
        partly = sum(gpus for gpus, most in zip(free, own, strict=True) if gpus < most)
        return partly / sum(free) if sum(free) else 0.0

    # -- the keys

    def cluster_row(self) -> list[float]:
        gaps = np.diff([job.arrival_s for job in self.arrived]).tolist()
        mean_s = 0.0
        for count, gap_s in enumerate(gaps, start=1):
            mean_s += (gap_s - mean_s) / min(count, 32)
        whole = (self.holders == FREE) | ~self.exists
        lost = [
            1.0 - self.network.ideal_s(load) / self.raw.iteration_s(run.job)
            for run, load in zip(self.runs, self.loads, strict=True)
        ]
        row = {
            "kind_place": float(len(self.pending) > 0),
            "progress": len(self.finished) / len(self.jobs),
            "arrival_rate": 3600.0 / mean_s if mean_s else 0.0,
            "pending": len(self.pending),
            "pending_gpus": sum(job.gpus for job in self.pending),
            "running": len(self.runs),
            "free": self.free / self.exists.sum(),
            "down": ((self.holders == DOWN) & self.exists).sum() / self.exists.sum(),
            "empty_nodes": whole.all(1).mean(),
            "fragmentation": self.fragments(self.site.free),
            "link_mean": float(np.mean(self.site.leaf_load)),
            "link_max": max(self.site.leaf_load),
            "contention": max(0.0, float(np.mean(lost))) if lost else 0.0,
        }
        return stored("cluster", row)

    def device_rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Shares of each GPU's memory and peak; aggregated: their means over each leaf's GPUs."""
        memory, load = np.zeros(self.exists.size), np.zeros(self.exists.size)
        for run in self.runs:
            profile = self.jobs[run.job].profile
            for gpu in run.gpus:
                pool = self.cluster.pools[self.cluster.node_pool[self.network.node(gpu)]]
                memory[gpu] = min(profile.memory_bytes / pool.gpu.memory_bytes, 1.0)
                load[gpu] = min(profile.load, 1.0)
        if not self.scenario.observation.aggregate:
            return memory, load
        leaf = np.repeat(self.cluster.node_leaf, self.cluster.gpus_per_node)
        real = self.exists.ravel()
        gpus = np.bincount(leaf, real)
        return np.bincount(leaf, memory) / gpus, np.bincount(leaf, load) / gpus

    def link_row(self) -> NDArray[np.float64]:
        is_coarse = self.scenario.observation.aggregate
        return np.array(self.site.leaf_load) if is_coarse else self.raw.view.link_load

    def held(self, tenant: int) -> int:
        """GPUs that a tenant's gangs hold."""
        return sum(len(run.gpus) for run in self.runs if self.jobs[run.job].tenant == tenant)

    def share_of_quota(self, job: Job, more: int = 0) -> float:
        return min(
            (self.held(job.tenant) + more) / self.scenario.jobs.queues[job.tenant].limit, 1.0
        )

    def queue_rows(self) -> NDArray[np.float64]:
        rows = np.zeros((self.scenario.scheduler.window, len(TABLES["queue"])))
        for row, job in zip(rows, self.window, strict=False):
            row[:] = stored(
                "queue",
                {
                    "is_gang": 1.0,
                    "gpus": job.gpus,
                    "estimate_s": job.estimate_s,
                    "age_s": self.now_s - job.arrival_s,
                    "priority": job.priority,
                    "executed_s": self.book.executed_s(job.number, self.now_s),
                    "comm_share": comm_share(job, self.cluster),
                    "required": job.gang.required / 3,
                    "preferred": job.preferred / 3,
                    "tenant_share": self.share_of_quota(job),
                    "preemptions": self.book.preempted.count(job.number),
                },
            )
        return rows

    # -- candidates

    def pools_of(self, job: Job) -> list[int]:
        pools = range(len(self.cluster.pools))
        return [p for p in pools if job.pool in (-1, p) and self.speed(job, p) > 0.0]

    def may_start(self, job: Job) -> bool:
        """Neither its quota nor a stop at this very moment keeps a pending gang from starting."""
        stopped_now = any(run.end_s == self.now_s for run in self.book.of(job.number))
        quota = self.scenario.jobs.queues[job.tenant].limit
        return not stopped_now and self.held(job.tenant) + job.gpus <= quota

    @cached_property
    def window(self) -> list[Job]:
        """Pending gangs that can be chosen, by age."""
        waiting = [
            Waiting(
                age=position,
                estimate_s=job.estimate_s,
                gpus=job.gpus,
                left_s=job.estimate_s - self.book.executed_s(job.number, self.now_s),
                priority=job.priority,
                is_ready=self.may_start(job) and has_room(self.site, job.gang, self.pools_of(job)),
            )
            for position, job in enumerate(self.pending)
        ]
        rules = self.scenario.scheduler
        return [self.pending[gang.age] for gang in choose(waiting, rules.window, rules.preemption)]

    @property
    def num_rows(self) -> int:
        """Candidates: starts, gangs to preempt, waiting and the policy's own plan."""
        rules = self.scenario.scheduler
        starts = rules.window * len(self.plans) * len(self.cluster.pools)
        return starts + (rules.running_rows if rules.preemption else 0) + 2

    @cached_property
    def starts(self) -> dict[int, Start]:
        """Every start that is possible, by its row."""
        pools, found = len(self.cluster.pools), {}
        for place, job in enumerate(self.window):
            if not self.may_start(job):
                continue
            position = self.pending.index(job)
            for pool in self.pools_of(job):
                for plan, nodes in plans_of(self.site, job.gang, pool).items():
                    row = (place * len(self.plans) + self.plans.index(plan)) * pools + pool
                    found[row] = Start(position, job.number, plan, pool, nodes)
        return found

    @cached_property
    def stops(self) -> dict[int, Stop]:
        """Every preemption that is possible, by its row: not of what has just been started."""
        rules = self.scenario.scheduler
        if not rules.preemption or not self.pending:
            return {}
        latest = list(enumerate(reversed(self.runs)))[: rules.running_rows]
        begin = self.num_rows - 2 - rules.running_rows
        return {begin + i: Stop(i, run) for i, run in latest if run.start_s < self.now_s}

    def gpus_of(self, start: Start) -> list[int]:
        """GPUs in rank order that a gang would get: free ones of its nodes, lowest number first."""
        slots = self.cluster.gpus_per_node
        slot_free = self.holders == FREE
        free = [n * slots + s for n in start.nodes for s in range(slots) if slot_free[n, s]]
        return free[: self.jobs[start.job].gpus]

    def about(self, job: Job, position: int) -> dict[str, float]:
        return {
            "position": position,
            "gpus": job.gpus,
            "estimate_s": job.estimate_s,
            "age_s": self.now_s - job.arrival_s,
            "executed_s": self.book.executed_s(job.number, self.now_s),
            "priority": job.priority,
        }

    def start_row(self, start: Start) -> list[float]:
        """What starting a gang would mean: as the cluster would stand then."""
        job, site, pool = self.jobs[start.job], self.site, start.pool
        gpus = self.gpus_of(start)
        leafs = self.leafs_of(gpus)
        speeds = [self.speed(job, other) for other in range(len(self.cluster.pools))]
        after = site.free.copy()
        for gpu in gpus:
            after[self.network.node(gpu)] -= 1
        there = [node for leaf in leafs for node in site.nodes(leaf)]
        spread = [each for run in self.runs if len(each := self.leafs_of(run.gpus)) > 1]
        most = max(sum(leaf in each for each in spread) for leaf in leafs)
        shares_links = len(leafs) > 1 and start.plan not in OWN_LINKS
        row = self.about(job, start.position) | {
            "is_place": 1.0,
            f"plan_{start.plan}": 1.0,
            "speed": speeds[pool] / max(speeds),
            "nodes": len(start.nodes),
            "price": self.cluster.pools[pool].gpu.price_per_h * job.gpus,
            "leafs": len(leafs),
            "leftover": sum(after[n] for n in there) / (len(there) * site.node_gpus(pool)),
            "fragmentation": self.fragments(after),
            "link_load": max(site.leaf_load[n] for n in leafs) if len(leafs) > 1 else 0.0,
            "sharing": most if shares_links else 0.0,
            "comm_share": comm_share(job, self.cluster),
            "free_after": sum(after) / self.exists.sum(),
            "tenant_share": self.share_of_quota(job, job.gpus),
        }
        return stored("candidates", row)

    def stop_row(self, stop: Stop) -> list[float]:
        """What preempting a gang would mean; ``comm_share`` is that of its iterations as they are.

        That it also counts what contention adds is what the engine does; only ``comm_s`` tells.
        """
        run = stop.run
        row = self.about(self.jobs[run.job], stop.position) | {
            "is_preempt": 1.0,
            "leafs": len(self.leafs_of(run.gpus)),
            "comm_share": min(self.raw.comm_s(run.job) / self.raw.iteration_s(run.job), 1.0),
            "free_after": (self.free + len(run.gpus)) / self.exists.sum(),
        }
        return stored("candidates", row)

    def candidate_rows(self) -> NDArray[np.float64]:
        rows = np.zeros((self.num_rows, len(TABLES["candidates"])))
        for at, start in self.starts.items():
            rows[at] = self.start_row(start)
        for at, stop in self.stops.items():
            rows[at] = self.stop_row(stop)
        if not self.is_over:
            rows[-2] = stored("candidates", {"is_wait": 1.0})
            rows[-1] = stored("candidates", {"is_own": 1.0})
        return rows

    @property
    def is_over(self) -> bool:
        """Whether every job has finished."""
        return len(self.arrived) == len(self.jobs) and not self.runs and not self.pending

    def mask(self) -> NDArray[np.int8]:
        """Starts and preemptions that are possible; waiting, if anything will happen or must."""
        mask = np.zeros(self.num_rows, np.int8)
        mask[[*self.starts, *self.stops]] = 1
        is_to_come = len(self.arrived) < len(self.jobs)
        will_happen = self.runs or is_to_come or ((self.holders == DOWN) & self.exists).any()
        mask[-2] = bool(will_happen) or not mask.any()
        return mask

    def expected(self) -> dict[str, NDArray[Any]]:
        """Every key of the observation."""
        memory, load = self.device_rows()
        return {
            "cluster": np.array(self.cluster_row()),
            "device_memory": memory,
            "device_load": load,
            "link_load": self.link_row(),
            "queue": self.queue_rows(),
            "candidates": self.candidate_rows(),
            "action_mask": self.mask(),
        }

    def act(self, action: int) -> None:
        """Write down what an action does."""
        if action in self.starts:
            start = self.starts[action]
            self.book.start(self.raw.view, start.job, self.gpus_of(start), start.plan)
        elif action in self.stops:
            self.book.preempt(self.raw.view, self.stops[action].run.job)
