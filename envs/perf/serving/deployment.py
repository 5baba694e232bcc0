"""How a replica runs its model: parallelism, number formats and engine limits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...hardware.catalogue import GPU, Model
from ...hardware.dtypes import DTYPES, KV_BYTES
from ...hardware.encoders import encoder
from ..network import internode
from .calibration import Calibration
from .collectives import LINKS, has_nvlink
from .engines import NEWEST, Engine, default_limits, engine
from .scheduling import Scheduling, fault
from .speculation import Speculation, check

MOST_FRONTEND_MS = 60_000.0
EXCHANGES = ("", "deepep")
"""How tokens reach their experts where attention is data-parallel."""
SCHEDULING = ("sync", "async")
ATTENTION = ("flash", "naive")
MOST_GRAPHS = 4096
MOST_CACHED = 10_000_000


@dataclass(frozen=True)
class Deployment(Scheduling):
    """One replica: a model on ``tp * dp * pp`` GPUs of one kind, on one node or several.

    Ranks fill node after node, those of a tensor-parallel group side by side, stages last.

    Attributes:
        tp: tensor-parallel degree.
        ep: ranks over which the experts are spread, a divisor of ``tp * dp``; each expert is split
            over the remaining ``tp * dp / ep`` ranks.
        dp: attention data parallelism: every dp rank holds its own sequences and KV cache, the
            tokens of all ranks meet in the experts.
        pp: pipeline stages, each with as many layers; as many micro-batches are under way.
        pipeline_bubble: share of a round that each stage after the first adds, as micro-batches are
            never quite alike; 0: ideal. TensorRT-LLM's published throughputs show 0.14.
        node_gpus: GPUs of the replica on one node at most; 0: as many as a scale-up domain has.
        dtype: weights; kv_dtype: KV cache.
        max_num_seqs, max_num_batched_tokens, block_size, gpu_memory_utilization: as in vLLM, for
            the whole replica (with dp > 1 the sum over its ranks, tokens over micro-batches, too);
            0: the engine's default for this GPU, filled in.
        engine: serving engine and its version, see :mod:`.engines`.
        frontend_ms: what HTTP server, tokeniser and detokeniser add to the time of a request
            outside the engine; -1: the engine's default, filled in; 0: without.
        links: what its GPUs talk over inside a node: ``nvlink``, ``pcie`` (from GPU to GPU) or
            ``host`` (through the host's memory); "": what is usual for the GPU.
        all_to_all: how tokens reach experts with dp > 1: ``deepep`` (:mod:`.expert_parallel`), or
            "" for an all-gather and a reduce-scatter.
        two_batch_overlap: a step is two micro-batches; one computes while the other's tokens are
            on their way (with ``deepep``).
        redundant_experts: copies of experts beyond the model's, to balance them (EPLB).
        expert_imbalance: tokens of the busiest rank's experts over the mean, at least 1.
        cuda_graphs: batch sizes that CUDA graphs are captured for, whose memory counts; 0: none,
            every step is launched kernel by kernel; -1: as the engine does.
        layer_launch_us: what the host takes to launch a layer without CUDA graphs; -1: by GPU.
        scheduling: ``sync`` plans a step when the one before has ended, ``async`` while it runs;
            "": as the engine does.
        attention: ``flash``, or ``naive``: the scores of a chunk are written to memory.
        encoder_cache_tokens: visual tokens that the encoder cache (of each rank of its own) keeps,
            whose memory the KV cache lacks; 0: as many as a step has tokens, out of its reserve. At
            least those of the largest image that it is asked about (vLLM).
        batching and further switches: see :class:`.scheduling.Scheduling`.
        dp_ranks: "own": each dp rank is a replica to the router, has a queue, batch and cache of
            its own, and steps with the others; "": one pool, spread evenly over the ranks.
        speculation: what drafts tokens that the model verifies; None: nothing does.
        calibration: constants of its own, fitted to measurements; None: the model's.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """

    gpu: GPU
    model: Model
    tp: int = 1
    ep: int = 1
    dp: int = 1
    pp: int = 1
    pipeline_bubble: float = field(default=0.0, metadata={"within": (0.0, 1.0)})
    node_gpus: int = field(default=0, metadata={"whole": 0})
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    max_num_seqs: int = field(default=0, metadata={"whole": 1})
    max_num_batched_tokens: int = field(default=0, metadata={"whole": 1})
    block_size: int = 16
    gpu_memory_utilization: float = field(default=0.0, metadata={"above": 0})
    engine: str = NEWEST
    frontend_ms: float = field(default=-1.0, metadata={"at_least": 0})
    links: str = ""
    all_to_all: str = ""
    two_batch_overlap: bool = False
    redundant_experts: int = field(default=0, metadata={"whole": 0})
    expert_imbalance: float = field(default=1.0, metadata={"at_least": 1})
    cuda_graphs: int = field(default=-1, metadata={"whole": 0})
    layer_launch_us: float = field(default=-1.0, metadata={"at_least": 0})
    scheduling: str = field(default="", metadata={"choices": SCHEDULING})
    attention: str = field(default="flash", metadata={"choices": ATTENTION})
    encoder_cache_tokens: int = field(default=0, metadata={"whole": 0})
    dp_ranks: str = ""
    speculation: Speculation | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        try:
            rules = self.rules
        except ValueError as error:
            raise self._error("engine", str(error)) from None
        self._fill_in(rules)
        for limit in (
            "tp",
            "ep",
            "dp",
            "pp",
            "max_num_seqs",
            "max_num_batched_tokens",
            "block_size",
        ):
            value = getattr(self, limit)
            if not (isinstance(value, int) and value >= 1):
                raise self._error(limit, "give a whole number >= 1")
        if self.kv_dtype not in KV_BYTES:
            raise self._error("kv_dtype", f"use one of {', '.join(KV_BYTES)}")
        allowed = [kind for kind in LINKS if kind != "nvlink" or has_nvlink(self.gpu)]
        if self.links not in ("", *allowed):
            raise self._error("links", f"use one of {', '.join(allowed)}, or leave it out")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise self._error("gpu_memory_utilization", "give a share above 0 and up to 1")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise self._error(
                "max_num_batched_tokens", f"it must be at least max_num_seqs = {self.max_num_seqs}"
            )
        if not 0 <= self.frontend_ms <= MOST_FRONTEND_MS:
            raise self._error("frontend_ms", f"give 0 to {MOST_FRONTEND_MS:g} milliseconds")
        self.gpu.peak_flops(self.dtype)
        self._check_runtime()
        self._check_shapes()
        self._check_ranks()
        try:
            check(self)
        except ValueError as error:
            raise ValueError(f"{self._label}: {error}") from None

    def _fill_in(self, rules: Engine) -> None:
        """Replace what was not given by the engine's defaults for this GPU."""
        tokens, seqs = (limit * max(self.dp, 1) for limit in default_limits(self.gpu))
        tokens *= max(self.pp, 1)  # of every micro-batch
        if self.speculation:
            tokens = max(tokens, (self.max_num_seqs or seqs) * self.speculation.width + 1)
        if self.max_num_seqs and not self.max_num_batched_tokens:
            tokens = max(tokens, self.max_num_seqs + 1)
        elif self.max_num_batched_tokens:
            seqs = max(min(seqs, self.max_num_batched_tokens - 1), 1)
        defaults = {
            "max_num_batched_tokens": tokens,
            "max_num_seqs": seqs,
            "gpu_memory_utilization": rules.gpu_memory_utilization,
        }
        for name, default in defaults.items():
            if getattr(self, name) == 0:
                object.__setattr__(self, name, default)
        if self.frontend_ms == -1:
            object.__setattr__(self, "frontend_ms", rules.frontend_ms)

    def _check_shapes(self) -> None:
        model = self.model
        if model.heads % self.tp:
            raise self._error("tp", f"it must divide the {model.heads} heads of {model.name}")
        if not model.mla and model.kv_heads % self.tp and self.tp % model.kv_heads:
            raise self._error("tp", f"divide {model.kv_heads} KV heads or use a multiple of them")
        if model.ffn % self.tp:
            raise self._error("tp", f"it must divide the FFN width {model.ffn} of {model.name}")
        if model.layers % self.pp:
            raise self._error("pp", f"it must divide the {model.layers} layers of {model.name}")
        if not 0 <= self.pipeline_bubble <= 1 or (self.pipeline_bubble and self.pp == 1):
            raise self._error("pipeline_bubble", "give a share from 0 to 1, with pp of 2 or more")
        if not 0 <= self.node_gpus <= self.most_node_gpus:
            remedy = (
                f"a node has at most {self.most_node_gpus} {self.gpu.name}; 0: as many as it has"
            )
            raise self._error("node_gpus", remedy)
        self._check_experts()
        if found := fault(self):
            raise self._error(*found)

    def _check_runtime(self) -> None:
        if not -1 <= self.cuda_graphs <= MOST_GRAPHS:
            remedy = f"give 1 to {MOST_GRAPHS} captured batch sizes, 0 for none, or leave it out"
            raise self._error("cuda_graphs", remedy)
        if self.layer_launch_us != -1:
            if not 0 <= self.layer_launch_us < float("inf"):
                raise self._error("layer_launch_us", "give microseconds, 0 or more")
            if self.rules.full_graphs:
                raise self._error("layer_launch_us", "it needs cuda_graphs = 0")
        if self.scheduling not in ("", *SCHEDULING):
            raise self._error("scheduling", f"use one of {', '.join(SCHEDULING)}, or leave it out")
        if self.attention not in ATTENTION:
            raise self._error("attention", f"use one of {', '.join(ATTENTION)}")
        if not 0 <= self.encoder_cache_tokens <= MOST_CACHED:
            raise self._error("encoder_cache_tokens", f"give 0 to {MOST_CACHED} visual tokens")
        if self.encoder_cache_tokens:
            try:
                encoder(self.model.name)
            except ValueError as error:
                raise self._error("encoder_cache_tokens", f"{error}, or leave it out") from None
        if self.calibration and self.speculation:
            raise self._error("calibration", "beside speculation it is not modelled; leave one out")
        if self.attention == "naive" and self.model.mla:
            remedy = f"{self.model.name} has a latent cache, whose naive kernel is not modelled"
            raise self._error("attention", remedy)

    def _check_experts(self) -> None:
        model = self.model
        if not model.experts:
            for field_name, default in (("ep", 1), ("dp", 1), ("redundant_experts", 0)):
                if getattr(self, field_name) > default:
                    remedy = f"{model.name} has no experts; use {default} and more replicas"
                    raise self._error(field_name, remedy)
        elif (model.experts + self.redundant_experts) % self.ep:
            also = f" and {self.redundant_experts} redundant" if self.redundant_experts else ""
            remedy = f"it must divide the {model.experts}{also} experts of {model.name}"
            raise self._error("ep", remedy)
        elif self.stage_gpus % self.ep:
            raise self._error("ep", f"it must divide tp * dp = {self.stage_gpus}")
        elif model.expert_ffn % self.moe_tp:
            raise self._error("ep", f"{self.moe_tp} ranks share an expert of {model.expert_ffn}")
        if self.all_to_all not in EXCHANGES:
            raise self._error("all_to_all", 'use "deepep", or leave it out')
        if self.all_to_all and not (self.dp > 1 and self.ep == self.stage_gpus):
            raise self._error("all_to_all", "it needs dp > 1 and ep = tp * dp")
        if self.two_batch_overlap and not self.all_to_all:
            raise self._error("two_batch_overlap", 'it needs all_to_all = "deepep"')
        if not self.expert_imbalance >= 1:
            raise self._error("expert_imbalance", "give the busiest over the mean, at least 1")

    def _check_ranks(self) -> None:
        if self.dp_ranks not in ("", "own"):
            raise self._error("dp_ranks", 'use "own", or leave it out')
        if not self.dp_ranks:
            return
        if self.dp == 1 or self.pp > 1:
            raise self._error("dp_ranks", "it needs dp > 1 and pp = 1")
        for limit in ("max_num_seqs", "max_num_batched_tokens"):
            if getattr(self, limit) % self.dp:
                raise self._error(
                    limit, f"ranks of their own share it: a multiple of dp = {self.dp}"
                )

    def _error(self, field: str, remedy: str) -> ValueError:
        return ValueError(f"{self._label}: {field} = {getattr(self, field)!r}: {remedy}")

    @property
    def _label(self) -> str:
        return f"deployment of {self.model.name} on {self.gpu.name}"

    @property
    def rules(self) -> Engine:
        """The engine's version, as this replica runs it: how it schedules and what it keeps.

        The host needs a step's tokens to find n-grams, so nothing is planned ahead then. Source:
        vLLM, ``config/vllm.py``: methods of speculation with asynchronous scheduling.
        """
        known = engine(self.engine)
        if self.scheduling:
            known = replace(known, asynchronous=self.scheduling == "async")
        if known.asynchronous and self.speculation and self.speculation.kind == "ngram":
            known = replace(known, asynchronous=False)
        if self.cuda_graphs >= 0:
            graphs = self.cuda_graphs > 0
            known = replace(known, full_graphs=graphs, graphs_in_budget=graphs)
        return known

    @property
    def stack(self) -> str:
        """Family of the engine, whose constants apply."""
        return self.rules.stack

    @property
    def stage_gpus(self) -> int:
        """GPUs of one pipeline stage."""
        return self.tp * self.dp

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.stage_gpus * self.pp

    @property
    def shards(self) -> int:
        """Parts of the batch that are computed at the same time: dp ranks times micro-batches."""
        return self.dp * self.pp

    @property
    def round(self) -> float:
        """Time of a round over that of an ideal pipeline."""
        return 1 + self.pipeline_bubble * (self.pp - 1)

    @property
    def own_ranks(self) -> int:
        """Rows that the replica is to the engine: its dp ranks, or itself."""
        return self.dp if self.dp_ranks else 1

    @property
    def moe_tp(self) -> int:
        """Ranks that share one expert."""
        return self.stage_gpus // self.ep

    @property
    def most_node_gpus(self) -> int:
        """GPUs of its kind in a node at most."""
        wide = self.gpu.scale_up in ("nvlink", "mesh") and self.links in ("", "nvlink")
        return self.gpu.scale_up_domain if wide else 8

    @property
    def network(self) -> internode.Network:
        """What its nodes talk over, each with as many of its GPUs as divide them all."""
        most = min(self.node_gpus or self.most_node_gpus, self.gpus)
        node_gpus = max(n for n in range(1, most + 1) if self.gpus % n == 0)
        return internode.Network(self.gpu.nic_bytes_per_s, node_gpus)

    @property
    def spreads(self) -> tuple[Deployment, ...]:
        """This replica as it is, and with at most half as many GPUs on a node and so on to one."""
        most = self.network.gpus_per_node
        halves = (most >> k for k in range(1, most.bit_length()))
        return (self, *(replace(self, node_gpus=half) for half in halves))

    def group(self, ranks: int) -> internode.Group:
        """Return where ``ranks`` of its GPUs that lie side by side are."""
        return internode.group(ranks, 1, self.network)

    @property
    def dense_dtype(self) -> str:
        """Format of the weights outside the experts."""
        if not (DTYPES[self.dtype].experts_only and self.model.experts):
            return self.dtype
        return "bf16" if self.gpu.bf16_flops else "fp16"

    @property
    def rank_heads(self) -> int:
        """Query heads on one rank."""
        return self.model.heads // self.tp

    @property
    def rank_kv_heads(self) -> int:
        """KV heads on one rank (copied when there are more ranks than heads)."""
        return max(1, self.model.kv_heads // self.tp)
