"""How a replica runs its model: parallelism, number formats and engine limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...hardware.catalogue import GPU, Model
from ...hardware.dtypes import DTYPES, KV_BYTES
from .collectives import LINKS, has_nvlink
from .engines import NEWEST, Engine, default_limits, engine

MOST_FRONTEND_MS = 60_000.0


@dataclass(frozen=True)
class Deployment:
    """One replica: a model on ``tp * dp`` GPUs of one kind.

    Attributes:
        tp: tensor-parallel degree.
        ep: ranks over which the experts are spread, a divisor of ``tp * dp``; each expert is split
            over the remaining ``tp * dp / ep`` ranks.
        dp: attention data parallelism: every dp rank holds its own sequences and KV cache, the
            tokens of all ranks meet in the experts.
        dtype: weights; kv_dtype: KV cache.
        max_num_seqs, max_num_batched_tokens, block_size, gpu_memory_utilization: as in vLLM, for
            the whole replica (with dp > 1 the sum over its ranks); 0: the engine's default for
            this GPU, filled in.
        engine: serving engine and its version, see :mod:`.engines`.
        frontend_ms: what HTTP server, tokeniser and detokeniser add to the time of a request
            outside the engine; -1: the engine's default, filled in; 0: without.
        links: what its GPUs talk over: ``nvlink``, ``pcie`` (from GPU to GPU) or ``host`` (through
            the host's memory); "": what is usual for the GPU.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """

    gpu: GPU
    model: Model
    tp: int = 1
    ep: int = 1
    dp: int = 1
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    max_num_seqs: int = field(default=0, metadata={"whole": 1})
    max_num_batched_tokens: int = field(default=0, metadata={"whole": 1})
    block_size: int = 16
    gpu_memory_utilization: float = field(default=0.0, metadata={"above": 0})
    engine: str = NEWEST
    frontend_ms: float = field(default=-1.0, metadata={"at_least": 0})
    links: str = ""

    def __post_init__(self) -> None:
        try:
            rules = self.rules
        except ValueError as error:
            raise self._error("engine", str(error)) from None
        self._fill_in(rules)
        for limit in ("tp", "ep", "dp", "max_num_seqs", "max_num_batched_tokens", "block_size"):
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
        self._check_shapes()

    def _fill_in(self, rules: Engine) -> None:
        """Replace what was not given by the engine's defaults for this GPU."""
        tokens, seqs = (limit * max(self.dp, 1) for limit in default_limits(self.gpu))
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
        wide = self.gpu.scale_up in ("nvlink", "mesh") and self.links in ("", "nvlink")
        limit = self.gpu.scale_up_domain if wide else 8
        if self.gpus > limit:
            remedy = f"tp * dp = {self.gpus} exceeds the {limit} {self.gpu.name} of one domain"
            raise self._error("tp", remedy)
        if not model.experts:
            if self.ep > 1 or self.dp > 1:
                field = "ep" if self.ep > 1 else "dp"
                raise self._error(field, f"{model.name} has no experts; use 1 and more replicas")
            return
        if model.experts % self.ep:
            raise self._error("ep", f"it must divide the {model.experts} experts of {model.name}")
        if self.gpus % self.ep:
            raise self._error("ep", f"it must divide tp * dp = {self.gpus}")
        if model.expert_ffn % self.moe_tp:
            raise self._error("ep", f"{self.moe_tp} ranks share an expert of {model.expert_ffn}")

    def _error(self, field: str, remedy: str) -> ValueError:
        label = f"deployment of {self.model.name} on {self.gpu.name}"
        return ValueError(f"{label}: {field} = {getattr(self, field)!r}: {remedy}")

    @property
    def rules(self) -> Engine:
        """The engine's version: how it schedules and what it keeps."""
        return engine(self.engine)

    @property
    def stack(self) -> str:
        """Family of the engine, whose constants apply."""
        return self.rules.stack

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.tp * self.dp

    @property
    def moe_tp(self) -> int:
        """Ranks that share one expert."""
        return self.gpus // self.ep

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
