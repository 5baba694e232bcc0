"""Scenarios: machines, their work, objectives and what the agent is rewarded for, as TOML.

A scenario has parts, and which decisions exist follows from them: with `[[replicas]]` requests are
routed to serving replicas, with a `[cluster]` jobs are placed on it, and with `[[deployments]]` on a
cluster (:mod:`.service_tables`) both, and replicas are added and taken away. :func:`.read.load` says what
is wrong with a file that does not fit.

Every scenario:

| Field (default)                     | Meaning                                                      |
|-------------------------------------|--------------------------------------------------------------|
| `description`                       | a sentence on what it shows                                  |
| `[reward]`                          | weights of :data:`gpuyard.envs.reward.TERMS`, which every part has its own of (routing: waiting 1; placement: in_system 1) |
| `[gpus.NAME]`                       | a GPU of your own: columns of `hardware/gpus.csv`            |
| `[models.NAME]`                     | a model of your own, to serve or to train: columns of `hardware/models.csv` |

Requests are routed:

| Field (default)                     | Meaning                                                      |
|-------------------------------------|--------------------------------------------------------------|
| `[[replicas]]`                      | `gpu`, `model` (a name, or the path of a Hugging Face `config.json`); `count` (1), `tp`, `ep`, `dp`, `pp` (1), `pipeline_bubble` (0: ideal), `node_gpus` (0: as many as fit), `all_to_all`, `two_batch_overlap`, `redundant_experts`, `expert_imbalance` (how experts are spread), `dp_ranks` (""; "own": each dp rank a replica to the router, all in lock step), `dtype`, `kv_dtype` (bf16), `block_size` (16), `engine` (the newest vLLM; also `vllm-0.19`, `vllm-0.15`, `vllm-0.12`, `vllm-0.10`, `vllm-0.8`, `sglang`, `trtllm`), and by engine and GPU unless given: `max_num_seqs`, `max_num_batched_tokens`, `gpu_memory_utilization`, `frontend_ms`, `links` (nvlink, pcie or host: through the host's memory), `cuda_graphs` (batch sizes captured; 0: none) and then `layer_launch_us`, `scheduling` (sync, async), `kv_blocks`; `attention` (flash; naive); `encoder_cache_tokens` (visual tokens that are kept encoded; 0: as many as a step has); `host_kv_gb` (0; above: gigabytes of host memory for evicted prefixes), `kv_write` (through: a block is copied there when it is sealed; back: when it is evicted); `speculation` (none; a table, see :mod:`.speculation`); and how it schedules (:class:`gpuyard.envs.perf.serving.scheduling.Scheduling`): `batching` (continuous; static, dynamic), `batch_wait_ms` (0), `chunked_prefill` (true), `prefill_first` (false), `long_prefill_token_threshold` (0: none), `scheduling_policy` (fcfs; priority, lpm, hrrn, vtc), `kv_reservation` (paged; contiguous, contiguous-pow2, contiguous-oracle), `prefix_caching` (true); `calibration` (none; a table `prefill` (1), `decode` (1), `step_ms` (0), `source`, which `gpuyard profile` writes) |
| `[workload]`                        | `preset` or `trace` (path, relative to the file) with `format` (auto) or `columns`, a table of its names by those of format plain (`{ arrival_s = "time" }`); `num_requests` (512; 0 = the whole trace), `rate_scale` (1); any field of the preset's generator, such as `rate_per_s`, `max_tokens`; `images`: a table of `model` (whose encoder sees them), `share` (1) of the requests or sessions, `sizes` ([[1024, 1024]] pixels), whose visual tokens lengthen prompts, and `distinct` (0: each image is new) with `zipf` (1) of how often each is brought; or with `closed_loop = true` sessions that answer back, see :mod:`.closed_loop` |
| `[encoders]`                        | encode replicas, which encode the images of all requests (of one deployment where there are several); without them each replica encodes its own: `gpu` (one for each), `count` (1), `connector` (nixl; mooncake) that sends embeddings, `cache_tokens` (visual tokens that each keeps encoded; 0), see :mod:`.encoders` |
| `[[clients]]`                       | classes of clients: `name` (of a client of the trace, or `*` for all others), `count` (1), `share` (1) of the requests if clients are drawn, `weight` (1), `priority` (the request's), `ttft_s`, `tpot_s` (those of `[slo]`), `deadline_s` (0: that of `[router]`), `tokens_per_s` (0: no token bucket), `burst_tokens` (0), `over_rate` (hold; reject), see :class:`gpuyard.envs.rules.ClientClass` |

Gangs are placed:

| Field (default)                     | Meaning                                                      |
|-------------------------------------|--------------------------------------------------------------|
| `[cluster]`                         | see :mod:`.cluster`                                          |
| `[jobs]`                            | see :mod:`.job_settings`                                     |

Replicas are gangs on the cluster, beside jobs:

| Field (default)                     | Meaning                                                      |
|-------------------------------------|--------------------------------------------------------------|
| `[[deployments]]`                   | see :mod:`.service_tables`                                   |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import reward
from ..engine.network.names import FIDELITIES, ROUTINGS
from ..hardware.cluster import Cluster
from ..observation import Layout
from ..rules import (
    SLO,
    Faults,
    KVStore,
    Limits,
    Lora,
    Migration,
    Router,
    Scaler,
    SchedulerRules,
    rule,
)
from ..workload.jobs.source import JobWorkload
from ..workload.jobs.stream import JobStream
from ..workload.requests.closed_loop import ClosedLoop
from ..workload.requests.mixture import Mixture
from ..workload.requests.source import Workload
from .checks import ScenarioError
from .clients import Clients
from .deployments import Replica
from .encoders import Encoders
from .fit import fitted
from .jobs import fed_by
from .kv_tiers import check_tiers
from .requests import read_workload
from .services import NON_PREEMPTIBLE, Service, Slot, slots
from .survival import check_survival

BELIEFS = ("noisy", "mean", "oracle")
MAX_ESTIMATE_TOKENS = 2**24


@dataclass(frozen=True)
class NetworkRules:
    """How jobs share links, and how their flows find a path."""

    fidelity: str = rule(
        "fluid",
        "how jobs share links: fluid (long-run shares), flow (phase by phase, exact), occupancy "
        "(the rule of the vClos simulator) or none (no contention: a bound)",
        choices=FIDELITIES,
    )
    routing: str = rule(
        "ecmp",
        "how flows find a path: ecmp (hashing), balanced (least used uplink first) or source (by "
        "GPU)",
        choices=ROUTINGS,
    )
    queue_pairs: int = rule(4, "parts of a flow that are hashed on their own", range=(1, 64))


_TOO_FAR = "one in six estimates would be more than 150 times too long"


@dataclass(frozen=True)
class Estimates:
    """What is believed of output lengths and run times before they are known."""

    output: str = rule(
        "noisy",
        "what is believed of output lengths: noisy (the true length times a log-normal factor), "
        "mean (the workload's, for all) or oracle (the true length)",
        part="route",
        either=BELIEFS,
    )
    duration: str = rule(
        "noisy",
        "what is believed of run times: noisy (what the user stated in a job list, else the true "
        "one times a log-normal factor), mean (the episode's, for all) or oracle (the true one)",
        part="place",
        choices=BELIEFS,
    )
    sigma: float = rule(
        0.5,
        "log-deviation of the noisy estimates",
        route={"at_least": 0, "at_most": (5, _TOO_FAR)},
        place={"range": (0, 5)},
    )


@dataclass(frozen=True)
class ObservationSize:
    """Sizes of the observation that are free to choose."""

    queue_rows: int = rule(
        4,
        "requests shown: the one under decision, then the oldest held",
        part="route",
        above=0,
        at_most=(65_536, "every row is part of every observation"),
    )
    aggregate: bool = rule(
        False, "devices and links are shown per leaf instead of each one", part="place"
    )


def _default_reward() -> dict[str, dict[str, float]]:
    return {part: reward.weights(part) for part in reward.DEFAULT}


@dataclass(frozen=True)
class Scenario:
    """Everything that defines a world. See the module's tables.

    A part that it lacks is empty or None; the rules of an absent part keep their defaults and say
    nothing.

    Attributes:
        name: of the scenario.
        description: a sentence on what it shows.
        replicas: who serves requests.
        workload: the requests; there if there are replicas.
        services: deployments whose replicas stand on the cluster; then ``replicas`` are all that
            there may be of them, and ``workload`` is what all of them are asked.
        scaler: when replicas of services are added and removed.
        router: what the router knows and may do.
        slo: objectives per request.
        kv_store: a KV tier that all replicas share.
        lora: adapters that requests name.
        migration: when running requests may move between replicas.
        encoders: who encodes images, if not the replicas.
        clients: who sends requests.
        cluster: where gangs are placed.
        jobs: the gangs; there if there is a cluster.
        network: how gangs share links.
        scheduler: what may be chosen.
        faults: of nodes.
        estimates: what is believed of lengths and run times.
        reward: weight of every term by its name, for each part: ``reward["route"]["waiting"]``.
        limits: when an episode is cut short.
        observation: its sizes.
    """

    name: str
    description: str = ""
    replicas: tuple[Replica, ...] = ()
    workload: Workload | Mixture | None = None
    services: tuple[Service, ...] = ()
    scaler: Scaler = field(default_factory=Scaler)
    router: Router = field(default_factory=Router)
    slo: SLO = field(default_factory=SLO)
    kv_store: KVStore = field(default_factory=KVStore)
    lora: Lora = field(default_factory=Lora)
    migration: Migration = field(default_factory=Migration)
    clients: Clients = field(default_factory=Clients)
    encoders: Encoders = field(default_factory=Encoders)
    cluster: Cluster | None = None
    jobs: JobWorkload | None = None
    network: NetworkRules = field(default_factory=NetworkRules)
    scheduler: SchedulerRules = field(default_factory=SchedulerRules)
    faults: Faults = field(default_factory=Faults)
    estimates: Estimates = field(default_factory=Estimates)
    reward: Mapping[str, Mapping[str, float]] = field(default_factory=_default_reward)
    limits: Limits = field(default_factory=Limits)
    observation: ObservationSize = field(default_factory=ObservationSize)

    @property
    def decisions(self) -> frozenset[str]:
        """Kinds of decisions that its parts ask for."""
        asked = {
            "route": bool(self.replicas),
            "place": self.jobs is not None,
            "scale": bool(self.services),
            "migrate": self.migration.interval_s > 0,
        }
        return frozenset(kind for kind, is_asked in asked.items() if is_asked)

    def workload_of(self, replica: int) -> Workload:
        """Return what a replica may be asked."""
        if self.services:
            return self.services[self.slots[replica].service].workload
        assert isinstance(self.workload, Workload)
        return self.workload

    @property
    def objectives(self) -> tuple[SLO, ...]:
        """Of the requests of each service or class of clients, or of all where there is neither."""
        of_services = tuple(service.slo or self.slo for service in self.services)
        return of_services or self.clients.objectives(self.slo) or (self.slo,)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Where each replica of its services stands among their gangs."""
        return slots(self.services)

    @cached_property
    def layout(self) -> Layout:
        """Where each column of its observations stands."""
        return Layout(self.decisions, self.options)

    @property
    def options(self) -> tuple[str, ...]:
        """Blocks of columns that its rules ask for besides those of its decisions."""
        gated = bool(self.router.options) or any(c.ends_unserved for c in self.clients.classes)
        given = {
            "gate": gated or self._states_deadlines,
            "lora": self.lora.adapters > 0,
            "clients": bool(self.clients.classes),
            "vision": self.brings_images,
            "encoders": self.encoders.count > 0 and self.brings_images,
            "preempt": any(s.preemptibility != NON_PREEMPTIBLE for s in self.services),
            "transfer": any(s.prefers_transfers for s in self.services),
        }
        return tuple(name for name, is_there in given.items() if is_there)

    @property
    def _states_deadlines(self) -> bool:
        """Whether requests of a trace say when they expire."""
        return getattr(getattr(self.workload, "source", None), "deadline_s", None) is not None

    @property
    def brings_images(self) -> bool:
        """Whether requests may bring images."""
        if self.services:
            return any(service.workload.images for service in self.services)
        return isinstance(self.workload, Workload) and self.workload.images is not None

    @property
    def counts_services(self) -> bool:
        """Whether schedulers count the gangs of services among others, and may preempt some."""
        return "preempt" in self.options or any(service.queue for service in self.services)

    def estimate_tokens(
        self, rng: np.random.Generator, output_tokens: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Return what is believed of the output lengths, int32 (N,), at least 1."""
        belief = self.estimates.output
        if belief == "oracle":
            return output_tokens
        if belief == "mean":
            assert self.workload is not None
            return np.full_like(output_tokens, max(1, round(self.workload.mean_lengths()[1])))
        factor = np.exp(self.estimates.sigma * rng.standard_normal(len(output_tokens)))
        estimate = np.rint(output_tokens * factor)
        return np.clip(estimate, 1, MAX_ESTIMATE_TOKENS).astype(np.int32)

    def estimate_durations(self, rng: np.random.Generator, jobs: JobStream) -> NDArray[np.float64]:
        """Return what is believed of the run times, seconds (J,).

        A run time that its user stated is believed where estimates are noisy: it is the noise.
        """
        belief = self.estimates.duration
        if belief == "oracle":
            return jobs.duration_s
        if belief == "mean":
            return np.full(len(jobs), jobs.duration_s.mean())
        noisy = jobs.duration_s * np.exp(self.estimates.sigma * rng.standard_normal(len(jobs)))
        if jobs.estimate_s is None:
            return noisy
        return np.where(np.isnan(jobs.estimate_s), noisy, jobs.estimate_s)

    def with_trace(
        self, path: str | Path, format: str = "auto", columns: Mapping[str, str] | None = None
    ) -> Scenario:
        """Return this scenario fed by a trace file, in windows of the same length.

        The file is a trace of requests if requests are routed, otherwise a job list, under all rules
        of the scenario that the list does not say itself (:func:`.jobs.fed_by`).

        Args:
            path: the file.
            format: of it.
            columns: its names of columns by those of format plain.
        """
        source: dict[str, Any] = {"trace": str(path), "format": format}
        if columns:
            source["columns"] = dict(columns)
        if self.services:
            raise ScenarioError(
                f"{path}: scenario {self.name!r} has requests and jobs of its own; write trace = "
                "... into the [deployments.workload] or [jobs] that it is for"
            )
        if self.workload is not None:
            table: dict[str, Any] = {**source}
            if isinstance(self.workload, ClosedLoop):
                sessions = self.workload.source
                table |= {"closed_loop": True, "sessions": sessions.sessions}
                table["steps"] = asdict(sessions.steps)
            else:
                table["num_requests"] = self.workload.num_requests
            workload = read_workload(table, Path.cwd())
            check_tiers(self.replicas, self.kv_store, workload)
            clients = Clients(self.clients.classes).of(workload.source)
            return replace(
                self, workload=workload, clients=clients, replicas=fitted(self.replicas, workload)
            )
        assert self.jobs is not None and self.cluster is not None
        jobs = fed_by(self.jobs, source, Path.cwd(), self.cluster)
        check_survival(self.faults, self.scheduler, jobs, self.cluster)
        return replace(self, jobs=jobs)
