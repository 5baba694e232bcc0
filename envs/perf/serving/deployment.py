"""How a replica runs its model: parallelism, number formats and engine limits."""

from __future__ import annotations

from dataclasses import dataclass

from ...hardware.catalogue import GPU, Model
from ...hardware.dtypes import DTYPES, KV_BYTES
from .collectives import LINKS, has_nvlink

STACKS = ("vllm", "trtllm", "sglang")


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
            the whole replica (with dp > 1 the sum over its ranks).
        stack: serving engine, which sets the host time of a step.
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
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    block_size: int = 16
    gpu_memory_utilization: float = 0.9
    stack: str = "vllm"
    links: str = ""

    def __post_init__(self) -> None:
        for field in ("tp", "ep", "dp", "max_num_seqs", "max_num_batched_tokens", "block_size"):
            value = getattr(self, field)
            if not (isinstance(value, int) and value >= 1):
                raise self._error(field, "give a whole number >= 1")
        if self.kv_dtype not in KV_BYTES:
            raise self._error("kv_dtype", f"use one of {', '.join(KV_BYTES)}")
        if self.stack not in STACKS:
            raise self._error("stack", f"use one of {', '.join(STACKS)}")
        allowed = [kind for kind in LINKS if kind != "nvlink" or has_nvlink(self.gpu)]
        if self.links not in ("", *allowed):
            raise self._error("links", f"use one of {', '.join(allowed)}, or leave it out")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise self._error("gpu_memory_utilization", "give a share above 0 and up to 1")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise self._error(
                "max_num_batched_tokens", f"it must be at least max_num_seqs = {self.max_num_seqs}"
            )
        self.gpu.peak_flops(self.dtype)
        self._check_shapes()

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
