"""The jobs of a placement episode as they are drawn, and the book of their runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from slow_plans import Gang

from gpuyard.envs.cluster_view import ClusterView
from gpuyard.envs.hardware.cluster import Cluster, Pool
from gpuyard.envs.perf.training import gang_profile
from gpuyard.envs.perf.training.gang_profile import GangProfile
from gpuyard.envs.scenario import Scenario


@dataclass(frozen=True)
class Job:
    """One job as it is sampled."""

    number: int
    arrival_s: float
    estimate_s: float
    priority: float
    tenant: int
    pool: int
    gang: Gang
    preferred: int
    comm_scale: float
    profile: GangProfile

    @property
    def gpus(self) -> int:
        return self.gang.gpus


def reference_pool(cluster: Cluster) -> Pool:
    """Pool to whose GPUs run times refer: the one of the highest 16-bit peak."""
    return max(cluster.pools, key=lambda pool: pool.gpu.fp16_flops)


def nic_share(pool: Pool) -> float:
    """Bytes/s that one GPU gets of its node's NICs when all send."""
    return pool.nic_bytes_per_s * min(1.0, pool.nics_per_node / pool.gpus_per_node)


def sample_jobs(scenario: Scenario, seed: int) -> list[Job]:
    """Jobs of the episode that starts with ``seed``: first they are drawn, then the estimates."""
    rng = np.random.default_rng(seed)
    stream = scenario.jobs.sample(rng)
    estimates = scenario.estimate_durations(rng, stream)
    pool = reference_pool(scenario.cluster)
    site = (pool.gpus_per_node, nic_share(pool), pool.scale_up_bytes_per_s, pool.gpu)
    jobs = []
    for i, gpus in enumerate(stream.gpus.tolist()):
        name = stream.profiles[stream.profile[i]]
        assert not name.startswith(gang_profile.VCLOS), "one iteration as long as the job: not here"
        job = Job(
            number=i,
            arrival_s=float(stream.arrival_s[i]),
            estimate_s=float(estimates[i]),
            priority=float(stream.priority[i]),
            tenant=int(stream.tenant[i]),
            pool=int(stream.pool[i]),
            gang=Gang(gpus, scenario.jobs.required),
            preferred=preferred_level(scenario, gpus),
            comm_scale=float(stream.comm_scale[i]),
            profile=gang_profile.profile(name, gpus, *site),
        )
        jobs.append(job)
    return jobs


def preferred_level(scenario: Scenario, gpus: int) -> int:
    """The level wished for, or the next that holds the gang in one pool; never beyond required."""
    cluster = scenario.cluster
    own = np.array([pool.gpus_per_node for pool in cluster.pools])[cluster.node_pool]
    pods = cluster.leaf_pod[cluster.node_leaf]
    nodes = np.arange(cluster.num_nodes)
    domains = (nodes, cluster.node_leaf, pods, cluster.node_pool)  # a zone is all of one pool
    largest = [int(np.bincount(domain, own).max()) for domain in domains]
    narrowest = next(level for level, most in enumerate(largest) if most >= gpus)
    return min(max(scenario.jobs.preferred, narrowest), scenario.jobs.required)


def comm_share(job: Job, cluster: Cluster) -> float:
    """Share of an iteration that a job communicates alone, on full nodes of the reference pool."""
    pool, profile = reference_pool(cluster), job.profile
    comm_s = 0.0
    for phase in profile.phases:
        source, target = phase.flows(job.gpus)
        away = (source // pool.gpus_per_node != target // pool.gpus_per_node).any()
        comm_s += phase.bytes / (nic_share(pool) if away else pool.scale_up_bytes_per_s)
    iteration_s = profile.compute_s + max(0.0, comm_s - profile.hidden_s)
    return min(comm_s / iteration_s, 1.0)


@dataclass
class Run:
    """One run of a gang, from its start to its end if it has ended.

    ``gpus`` are in rank order; ``barred`` are the uplinks that others had reserved at its start.
    """

    job: int
    start_s: float
    gpus: list[int]
    plan: str
    barred: frozenset[tuple[int, int]]
    end_s: float = math.nan

    @property
    def is_open(self) -> bool:
        return math.isnan(self.end_s)


@dataclass
class Book:
    """All runs of an episode in the order of their starts, and who was preempted how often."""

    runs: list[Run] = field(default_factory=list)
    preempted: list[int] = field(default_factory=list)

    def look(self, view: ClusterView, finish_s: NDArray[np.float64]) -> None:
        """Write down what has ended since the last decision; what runs must hold its own GPUs.

        A gang that is gone but not finished has just lost a node: with preemption, and a planner
        connected, a decision follows every failure at once.
        """
        holders = view.gpu_job
        for run in self.running():
            if not math.isnan(finish_s[run.job]):
                run.end_s = float(finish_s[run.job])
            elif not (holders == run.job).any():
                run.end_s = view.now_s
            else:
                assert set(np.flatnonzero(holders == run.job).tolist()) == set(run.gpus)
        held = {run.job for run in self.running()}
        assert held == set(holders[holders >= 0].tolist())

    def start(self, view: ClusterView, job: int, gpus: list[int], plan: str) -> None:
        owned = np.argwhere(view.uplink_job >= 0).tolist()
        barred = frozenset((switch, uplink) for switch, uplink in owned)
        self.runs.append(Run(job, view.now_s, gpus, plan, barred))

    def preempt(self, view: ClusterView, job: int) -> None:
        (run,) = (run for run in self.running() if run.job == job)
        run.end_s = view.now_s
        self.preempted.append(job)

    def running(self) -> list[Run]:
        return [run for run in self.runs if run.is_open]

    def of(self, job: int) -> list[Run]:
        return [run for run in self.runs if run.job == job]

    def executed_s(self, job: int, now_s: float) -> float:
        return sum((now_s if run.is_open else run.end_s) - run.start_s for run in self.of(job))
