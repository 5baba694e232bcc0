"""GPUs and models by name: loaded from ``gpus.csv`` and ``models.csv``, extended by scenarios.

The tables hold datasheet figures (``source``, ``confidence`` per row); derived quantities such as
parameter counts are computed from the shapes.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .cells import Cells, Row, did_you_mean
from .dtypes import DTYPES, KV_BYTES

HERE = Path(__file__).parent
SCALE_UP = ("nvlink", "bridge", "mesh", "pcie", "host")
PCIE_BYTES_PER_S = {"Volta": 16e9, "Turing": 16e9, "Ampere": 32e9, "Ada": 32e9}
"""A PCIe x16 slot per direction, by architecture; later ones have PCIe 5 with 64 GB/s."""


@dataclass(frozen=True)
class GPU:
    """One GPU type. Rates are dense peaks (no sparsity); 0 means "not supported".

    ``scale_up_bytes_per_s`` is one GPU's link rate per direction inside its domain of
    ``scale_up_domain`` GPUs: over NVLink (``nvlink``: switched, ``bridge``: in pairs, ``mesh``:
    each to each), over PCIe from GPU to GPU (``pcie``) or through the host's memory (``host``), as
    the driver of consumer boards wants it. ``memory_bytes`` is what the driver reports. ``like``
    names the GPU whose kernel constants apply where this one has none of its own. ``confidence``:
    measured (its kernels were timed), calibrated (also whole serving runs), analogy (neither).
    """

    name: str
    sms: int
    fp16_flops: float
    bf16_flops: float
    fp8_flops: float
    fp4_flops: float
    fp32_flops: float
    int8_ops: float
    memory_bytes: float
    bandwidth_bytes_per_s: float
    scale_up: str
    scale_up_bytes_per_s: float
    scale_up_domain: int
    nic_bytes_per_s: float
    tdp_w: float
    price_per_h: float
    like: str
    vendor: str
    architecture: str
    confidence: str
    source: str

    @property
    def pcie_bytes_per_s(self) -> float:
        """Rate of its PCIe slot per direction."""
        if self.scale_up in ("pcie", "host"):
            return self.scale_up_bytes_per_s
        return PCIE_BYTES_PER_S.get(self.architecture, 64e9)

    def peak_flops(self, dtype: str) -> float:
        """Return the dense peak in FLOP/s for weights of ``dtype``.

        Raises:
            ValueError: if this GPU does not compute in that format.
        """
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}")
        peak: float = getattr(self, DTYPES[dtype].math)
        if not peak:
            usable = [name for name, d in DTYPES.items() if getattr(self, d.math)]
            raise ValueError(f"GPU {self.name} has no {dtype}; use one of {', '.join(usable)}")
        return peak


@dataclass(frozen=True)
class Model:
    """Shapes of one decoder-only model; 0 means "does not apply".

    ``ffn`` is the width of dense layers (``dense_layers`` of them, the rest have experts);
    ``shared_ffn`` the width of the experts that see every token. With ``kv_lora_rank`` the
    attention is multi-head latent (MLA) and ``head_dim`` excludes the ``rope_dim`` positions.
    ``window_layers`` layers look back ``window`` tokens only.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    gated: bool
    experts: int
    active_experts: int
    expert_ffn: int
    shared_ffn: int
    dense_layers: int
    vocab: int
    tied: bool
    q_lora_rank: int
    kv_lora_rank: int
    rope_dim: int
    window: int
    window_layers: int
    vision_params: float
    vision_tokens: int
    confidence: str
    source: str

    @property
    def mla(self) -> bool:
        """Whether attention is multi-head latent."""
        return self.kv_lora_rank > 0

    @property
    def moe_layers(self) -> int:
        """Layers with routed experts."""
        return self.layers - self.dense_layers

    @property
    def attention_params(self) -> int:
        """Attention weights of one layer."""
        hidden, heads, dim = self.hidden, self.heads, self.head_dim
        if self.mla:
            down = hidden * (self.q_lora_rank + self.kv_lora_rank + self.rope_dim)
            up = heads * (self.q_lora_rank * (dim + self.rope_dim) + self.kv_lora_rank * 2 * dim)
            return down + up + heads * dim * hidden
        return 2 * hidden * dim * (heads + self.kv_heads)

    @property
    def _mats(self) -> int:
        """Matrices in one feed-forward block."""
        return 3 if self.gated else 2

    @property
    def expert_params(self) -> int:
        """Weights of one routed expert."""
        return self._mats * self.hidden * self.expert_ffn

    @property
    def embedding_params(self) -> int:
        """Token embedding and LM head."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def dense_params(self) -> int:
        """All weights but the routed experts and the embeddings."""
        ffn = self._mats * self.hidden * self.ffn * self.dense_layers
        shared = (self._mats * self.shared_ffn + self.experts) * self.hidden * self.moe_layers
        norms = 2 * self.hidden * self.layers
        return self.attention_params * self.layers + ffn + shared + norms

    @property
    def params(self) -> int:
        """Parameters of the language model."""
        routed = self.moe_layers * self.experts * self.expert_params
        return self.dense_params + routed + self.embedding_params

    @property
    def active_params(self) -> int:
        """Parameters that one token passes through (embeddings counted, as is usual)."""
        routed = self.moe_layers * self.active_experts * self.expert_params
        return self.dense_params + routed + self.embedding_params

    def kv_bytes_per_token(self, dtype: str = "bf16") -> float:
        """Return KV-cache bytes of one token in the whole model, before tensor parallelism.

        ``2 L kv_heads d`` elements, with MLA ``L (kv_lora_rank + rope_dim)``.
        """
        if self.mla:
            return self.layers * (self.kv_lora_rank + self.rope_dim) * KV_BYTES[dtype]
        return 2 * self.layers * self.kv_heads * self.head_dim * KV_BYTES[dtype]

    def weight_bytes(self, dtype: str = "bf16") -> float:
        """Return bytes of all weights; embeddings, norms and vision encoder stay in 16 bits."""
        kind = DTYPES[dtype]
        routed = self.moe_layers * self.experts * self.expert_params
        dense_bytes = 2.0 if kind.experts_only and self.experts else kind.weight_bytes
        rest = self.embedding_params + self.vision_params
        return self.dense_params * dense_bytes + routed * kind.weight_bytes + rest * 2.0


def gpu(name: str) -> GPU:
    """Return the GPU called ``name``; a ValueError lists names that come near."""
    return _lookup("GPU", name, _gpus())


def model(name: str) -> Model:
    """Return the model called ``name``; a ValueError lists names that come near."""
    return _lookup("model", name, _models())


def gpu_names() -> list[str]:
    """Return the catalogue's GPU names."""
    return list(_gpus())


def model_names() -> list[str]:
    """Return the catalogue's model names, second names included."""
    return list(_models())


def gpu_from(name: str, row: Row) -> GPU:
    """Build a GPU from the columns of ``gpus.csv``, for example a scenario's ``[gpu.NAME]`` table.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """
    cell = Cells("GPU", name, row, _columns("gpus.csv"))
    result = GPU(
        name=name,
        sms=cell.whole("sms", low=1),
        fp16_flops=cell.number("fp16_tflops", low=1e-3) * 1e12,
        bf16_flops=cell.number("bf16_tflops", default=0) * 1e12,
        fp8_flops=cell.number("fp8_tflops", default=0) * 1e12,
        fp4_flops=cell.number("fp4_tflops", default=0) * 1e12,
        fp32_flops=cell.number("fp32_tflops", default=0) * 1e12,
        int8_ops=cell.number("int8_tops", default=0) * 1e12,
        memory_bytes=cell.number("memory_gib", low=1e-3) * 2**30,
        bandwidth_bytes_per_s=cell.number("bandwidth_gbps", low=1e-3) * 1e9,
        scale_up=cell.choice("scale_up", SCALE_UP, "pcie"),
        scale_up_bytes_per_s=cell.number("scale_up_gbps", low=1e-3, default=32) * 1e9,
        scale_up_domain=cell.whole("domain", low=1, default=8),
        nic_bytes_per_s=cell.number("nic_gbit", default=100) * 1e9 / 8,
        tdp_w=cell.number("tdp_w", default=0),
        price_per_h=cell.number("price_per_h", default=0),
        like=str(row.get("like") or ""),
        vendor=str(row.get("vendor", "")),
        architecture=str(row.get("architecture", "")),
        confidence=str(row.get("confidence", "analogy")),
        source=str(row.get("source", "scenario")),
    )
    if result.like not in _rows("gpus.csv"):
        names = ", ".join(_rows("gpus.csv"))
        remedy = f"name the GPU whose kernels resemble its own, one of {names}"
        raise cell.error("like", result.like, remedy)
    return result


def model_from(name: str, row: Row) -> Model:
    """Build a model from the columns of ``models.csv``, e.g. a scenario's ``[model.NAME]`` table.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """
    cell = Cells("model", name, row, _columns("models.csv"))
    layers = cell.whole("layers", low=1)
    heads = cell.whole("heads", low=1)
    experts = cell.whole("experts", default=0)
    low, default = (1, None) if experts else (0, 0)
    result = Model(
        name=name,
        layers=layers,
        hidden=cell.whole("hidden", low=1),
        heads=heads,
        kv_heads=cell.whole("kv_heads", low=1, default=heads),
        head_dim=cell.whole("head_dim", low=1),
        ffn=cell.whole("ffn", low=0 if experts else 1, default=0 if experts else None),
        gated=bool(cell.whole("gated", default=1)),
        experts=experts,
        active_experts=cell.whole("active_experts", low, default),
        expert_ffn=cell.whole("expert_ffn", low, default),
        shared_ffn=cell.whole("shared_ffn", default=0),
        dense_layers=cell.whole("dense_layers", default=0 if experts else layers),
        vocab=cell.whole("vocab", low=1),
        tied=bool(cell.whole("tied", default=0)),
        q_lora_rank=cell.whole("q_lora_rank", default=0),
        kv_lora_rank=cell.whole("kv_lora_rank", default=0),
        rope_dim=cell.whole("rope_dim", default=0),
        window=cell.whole("window", default=0),
        window_layers=cell.whole("window_layers", default=0),
        vision_params=cell.number("vision_params_m", default=0) * 1e6,
        vision_tokens=cell.whole("vision_tokens", default=0),
        confidence=str(row.get("confidence", "scenario")),
        source=str(row.get("source", "scenario")),
    )
    if heads % result.kv_heads:
        remedy = f"it must divide heads = {heads}"
        raise cell.error("kv_heads", result.kv_heads, remedy)
    if result.active_experts > experts:
        remedy = f"it must not exceed experts = {experts}"
        raise cell.error("active_experts", result.active_experts, remedy)
    if result.dense_layers > layers or (not experts and result.dense_layers < layers):
        remedy = f"0 to {layers} layers with experts, all {layers} without"
        raise cell.error("dense_layers", result.dense_layers, remedy)
    return result


def _lookup(kind: str, name: str, table: dict[str, Any]) -> Any:
    if name in table:
        return table[name]
    folded = {key.lower(): key for key in table}
    near = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)
    hint = did_you_mean([folded[key] for key in near], table)
    raise ValueError(f"unknown {kind} {name!r}: {hint}")


@cache
def _rows(file: str) -> dict[str, dict[str, str]]:
    """Return the rows of a table by name."""
    with (HERE / file).open(newline="") as lines:
        return {row["name"]: row for row in csv.DictReader(lines)}


def _columns(file: str) -> set[str]:
    return set(next(iter(_rows(file).values())))


@cache
def _gpus() -> dict[str, GPU]:
    return {name: gpu_from(name, row) for name, row in _rows("gpus.csv").items()}


@cache
def _models() -> dict[str, Model]:
    result = {}
    for name, row in _rows("models.csv").items():
        entry = model_from(name, row)
        result.update({known: entry for known in [name, *row["also"].split(";")] if known})
    return result
