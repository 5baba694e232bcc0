"""A training job: model, parallel layout, batch and number formats."""

from __future__ import annotations

from dataclasses import dataclass

from ...hardware.catalogue import GPU, Model

RECOMPUTE = ("none", "full")
GRAD_BYTES = {"bf16": 2.0, "fp32": 4.0}


@dataclass(frozen=True)
class Layout:
    """Parallel degrees; the GPUs of a job are ``tp * cp * dp * pp``, laid out in that order.

    Attributes:
        dp: data parallelism: replicas of the pipeline, each with its share of the batch.
        tp: tensor parallelism, with sequence parallelism.
        pp: pipeline stages.
        vp: model chunks per stage of the interleaved schedule (virtual pipeline).
        cp: context parallelism: ranks that share a sequence.
        ep: ranks, among those of dp and cp, over which experts are spread.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """

    dp: int = 1
    tp: int = 1
    pp: int = 1
    vp: int = 1
    cp: int = 1
    ep: int = 1

    def __post_init__(self) -> None:
        for field in ("dp", "tp", "pp", "vp", "cp", "ep"):
            value = getattr(self, field)
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"layout: {field} = {value!r}: give a whole number >= 1")
        if self.vp > 1 and self.pp == 1:
            raise ValueError(f"layout: vp = {self.vp}: interleaving needs pp > 1; use 1")
        if self.dp * self.cp % self.ep:
            raise ValueError(
                f"layout: ep = {self.ep}: it must divide dp * cp = {self.dp * self.cp}"
            )

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return self.dp * self.tp * self.pp * self.cp


@dataclass(frozen=True)
class TrainingJob:
    """One gang that trains one model.

    Attributes:
        gpus: number of GPUs, the product of the layout.
        micro_batch: sequences per pipeline and micro-batch; global_batch: sequences per step.
        seq_len: tokens per sequence.
        dtype: format of the matrix multiplications; attention and LM head stay in 16 bits.
        grad_dtype: format in which gradients are reduced; parameters are gathered in 16 bits.
        recompute: ``full`` repeats the forward pass of every layer in the backward pass.
        distributed_optimizer: gradients are reduce-scattered and parameters all-gathered; otherwise
            all ranks all-reduce gradients and update everything.
        overlap: communication runs beside computation where the framework can.
        fused_attention: attention never writes its scores to memory (flash attention).
        software: row of ``[software]`` in ``training.toml``.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """

    gpu: GPU
    model: Model
    layout: Layout
    gpus: int
    global_batch: int
    seq_len: int
    micro_batch: int = 1
    dtype: str = "bf16"
    grad_dtype: str = "bf16"
    recompute: str = "none"
    distributed_optimizer: bool = True
    overlap: bool = True
    fused_attention: bool = True
    software: str = "nemo-25.02"

    def __post_init__(self) -> None:
        for field in ("gpus", "global_batch", "seq_len", "micro_batch"):
            value = getattr(self, field)
            if not (isinstance(value, int) and value >= 1):
                raise self._error(field, "give a whole number >= 1")
        if self.recompute not in RECOMPUTE:
            raise self._error("recompute", f"use one of {', '.join(RECOMPUTE)}")
        if self.grad_dtype not in GRAD_BYTES:
            raise self._error("grad_dtype", f"use one of {', '.join(GRAD_BYTES)}")
        self.gpu.peak_flops(self.dtype)
        self._check_layout()

    def _check_layout(self) -> None:
        layout, model = self.layout, self.model
        if layout.gpus != self.gpus:
            product = f"{layout.dp} x {layout.tp} x {layout.pp} x {layout.cp} = {layout.gpus}"
            raise self._error("gpus", f"dp x tp x pp x cp is {product}; make them equal")
        if model.heads % layout.tp:
            raise self._error("layout", f"tp must divide the {model.heads} heads of {model.name}")
        if layout.pp * layout.vp > model.layers + 2:
            slots = f"{model.layers} layers, embedding and head"
            raise self._error("layout", f"pp * vp = {layout.pp * layout.vp} chunks for {slots}")
        if layout.ep > 1 and (not model.experts or model.experts % layout.ep):
            raise self._error("layout", f"ep must divide the {model.experts} experts")
        if self.global_batch % (layout.dp * self.micro_batch):
            share = layout.dp * self.micro_batch
            raise self._error("global_batch", f"give a multiple of dp * micro_batch = {share}")

    def _error(self, field: str, remedy: str) -> ValueError:
        label = f"training of {self.model.name} on {self.gpus} x {self.gpu.name}"
        return ValueError(f"{label}: {field} = {getattr(self, field)!r}: {remedy}")

    @property
    def micro_batches(self) -> int:
        """Micro-batches per pipeline and step (gradient accumulation)."""
        return self.global_batch // (self.layout.dp * self.micro_batch)

    @property
    def rank_tokens(self) -> float:
        """Tokens of one micro-batch on one GPU."""
        return self.micro_batch * self.seq_len / self.layout.cp

    @property
    def activation_bytes(self) -> float:
        """Bytes of one layer's output for one micro-batch, before tensor parallelism."""
        return 2 * self.rank_tokens * self.model.hidden

    @property
    def rank_params(self) -> tuple[float, float]:
        """Parameters on one GPU: outside the routed experts, and in them."""
        layout, model = self.layout, self.model
        routed = model.moe_layers * model.experts * model.expert_params
        split = layout.tp * layout.pp
        return (model.params - routed) / split, routed / split / layout.ep
