"""A language model as its shapes: parameters, and what it keeps in the KV cache."""

from __future__ import annotations

from dataclasses import dataclass

from .dtypes import DTYPES, KV_BYTES


@dataclass(frozen=True)
class KVGroup:
    """Layers that cache alike; bytes are those of one layer before tensor parallelism.

    Attributes:
        kind: "full": every token is kept; "window": the last ``window`` tokens are; "linear": a
            state of fixed size is kept instead of tokens.
        layers: how many.
        kv_heads: heads that tensor parallelism divides the cache by, copying beyond; 1 with a
            latent cache (MLA), which every rank keeps whole; 0 in "linear".
        token_bytes: of one token; 0 in "linear".
        window: tokens looked back; 0: all.
        state_bytes: of one sequence; 0 unless "linear".
    """

    kind: str
    layers: int
    kv_heads: int
    token_bytes: float
    window: int = 0
    state_bytes: int = 0


@dataclass(frozen=True)
class Model:
    """Shapes of one decoder-only model; 0 means "does not apply".

    ``ffn`` is the width of dense layers (``dense_layers`` of them, the rest have experts);
    ``shared_ffn`` the width of the experts that see every token. With ``kv_lora_rank`` the
    attention is multi-head latent (MLA) and ``head_dim`` excludes the ``rope_dim`` positions;
    without a ``q_lora_rank`` its queries are not compressed.

    ``window_layers`` layers look back ``window`` tokens only (or to the start of a chunk of as
    many). ``linear_layers`` layers have linear attention or Mamba: ``linear_params`` weights each,
    and ``state_bytes`` per sequence and layer instead of a KV cache (convolution and recurrent
    state in the formats that vLLM allocates). All others see everything: with ``full_kv_heads``
    heads of ``full_head_dim`` elements where these differ from ``kv_heads`` and ``head_dim``.
    With ``attention_gate`` queries also yield a gate of the attention's output. ``mtp_layers``
    layers beyond the others predict further tokens; only speculation uses them.
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
    full_kv_heads: int
    full_head_dim: int
    attention_gate: bool
    linear_layers: int
    linear_params: int
    state_bytes: int
    vision_params: float
    vision_tokens: int
    mtp_layers: int
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
    def attention_layers(self) -> int:
        """Layers with attention, over the whole context or a window."""
        return self.layers - self.linear_layers

    @property
    def full_layers(self) -> int:
        """Layers whose attention sees the whole context."""
        return self.layers - self.window_layers - self.linear_layers

    @property
    def attention_params(self) -> int:
        """Attention weights of one layer (of a window layer, where they differ)."""
        return self._mla_params if self.mla else self._gqa_params(self.kv_heads, self.head_dim)

    @property
    def full_attention_params(self) -> int:
        """Attention weights of one layer that sees the whole context."""
        if self.mla:
            return self._mla_params
        kv_heads, dim = self.full_kv_heads or self.kv_heads, self.full_head_dim or self.head_dim
        return self._gqa_params(kv_heads, dim)

    @property
    def mixer_params(self) -> int:
        """Weights that mix tokens, all layers: attention and linear attention."""
        attention = self.full_layers * self.full_attention_params
        attention += self.window_layers * self.attention_params
        return attention + self.linear_layers * self.linear_params

    def _gqa_params(self, kv_heads: int, dim: int) -> int:
        queries = self.heads * (2 if self.attention_gate else 1)
        return self.hidden * dim * (queries + 2 * kv_heads + self.heads)

    @property
    def _mla_params(self) -> int:
        hidden, heads, dim = self.hidden, self.heads, self.head_dim
        down = hidden * (self.q_lora_rank + self.kv_lora_rank + self.rope_dim)
        queries = (self.q_lora_rank or hidden) * (dim + self.rope_dim)
        return down + heads * (queries + self.kv_lora_rank * 2 * dim) + heads * dim * hidden

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
        return self.mixer_params + ffn + shared + norms

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

    def kv_groups(self, dtype: str = "bf16") -> tuple[KVGroup, ...]:
        """Return what each kind of layer keeps of a sequence, kinds without layers left out.

        A token takes ``2 kv_heads d`` elements of a layer, with MLA ``kv_lora_rank + rope_dim``.
        """
        element = KV_BYTES[dtype]
        heads, dim = self.full_kv_heads or self.kv_heads, self.full_head_dim or self.head_dim
        full = KVGroup("full", self.full_layers, heads, 2 * heads * dim * element)
        if self.mla:
            latent = (self.kv_lora_rank + self.rope_dim) * element
            full = KVGroup("full", self.full_layers, 1, latent)
        token = 2 * self.kv_heads * self.head_dim * element
        window = KVGroup("window", self.window_layers, self.kv_heads, token, self.window)
        linear = KVGroup("linear", self.linear_layers, 0, 0.0, state_bytes=self.state_bytes)
        return tuple(group for group in (full, window, linear) if group.layers)

    def kv_bytes_per_token(self, dtype: str = "bf16") -> float:
        """Return KV-cache bytes of a token that all layers still keep, before tensor parallelism.

        Layers with linear attention keep none; layers with a window drop theirs later.
        """
        return sum(group.layers * group.token_bytes for group in self.kv_groups(dtype))

    def weight_bytes(self, dtype: str = "bf16") -> float:
        """Return bytes of all weights; embeddings, norms and vision encoder stay in 16 bits."""
        kind = DTYPES[dtype]
        routed = self.moe_layers * self.experts * self.expert_params
        dense_bytes = 2.0 if kind.experts_only and self.experts else kind.weight_bytes
        rest = self.embedding_params + self.vision_params
        return self.dense_params * dense_bytes + routed * kind.weight_bytes + rest * 2.0
