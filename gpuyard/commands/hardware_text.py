"""What the catalogues and configurations say, as plain text: ``gpuyard show``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import fields

from gpuyard.envs.hardware import catalogue, huggingface
from gpuyard.envs.hardware.catalogue import GPU, Model
from gpuyard.envs.hardware.dtypes import DTYPES, KV_BYTES
from gpuyard.envs.perf.serving.constants import constants

WIDTH = 79
WORDS = ("name", "confidence", "source")
"""Fields that stand above the others."""

MODEL_UNITS = {
    "layers": "layers",
    "hidden": "elements",
    "heads": "heads",
    "kv_heads": "heads",
    "head_dim": "elements",
    "ffn": "elements",
    "experts": "experts",
    "active_experts": "experts",
    "expert_ffn": "elements",
    "shared_ffn": "elements",
    "dense_layers": "layers",
    "vocab": "tokens",
    "q_lora_rank": "elements",
    "kv_lora_rank": "elements",
    "rope_dim": "elements",
    "window": "tokens",
    "window_layers": "layers",
    "full_kv_heads": "heads",
    "full_head_dim": "elements",
    "linear_layers": "layers",
    "linear_params": "a layer",
    "state_bytes": "B a layer",
    "vision_tokens": "an image",
}
GPU_UNITS = {  # by the end of a field's name: unit, and what it is of the field's
    "_bytes_per_s": ("GB/s", 1e9),
    "_bytes": ("GiB", 2.0**30),
    "_flops": ("TFLOP/s", 1e12),
    "_ops": ("TOP/s", 1e12),
    "_w": ("W", 1.0),
    "_per_h": ("$/h", 1.0),
    "sms": ("SMs", 1.0),
    "_domain": ("GPUs", 1.0),
}
COLUMNS = {"linear_params": "linear_params_m", "vision_params": "vision_params_m"}
"""Columns of ``models.csv`` by fields of another name."""


def model(name: str) -> str:
    """Return a model by its name or the path of its ``config.json``: fields, then what follows.

    Raises:
        ValueError: no such model, or a configuration that cannot be read.
    """
    if name.endswith(".json"):
        shape, origin = huggingface.read(name), huggingface.columns(name)[1]
    else:
        shape, origin = catalogue.model(name), {}
    rows = []
    for item in fields(Model):
        if item.name not in WORDS:
            came = origin.get(COLUMNS.get(item.name, item.name), "")
            value = _number(getattr(shape, item.name))
            rows.append(_row(item.name, value, MODEL_UNITS.get(item.name, ""), came))
    return "\n".join([*_head(shape), *rows, "", *_derived(shape)])


def gpu(name: str) -> str:
    """Return a GPU of the catalogue.

    Raises:
        ValueError: no such GPU.
    """
    device = catalogue.gpu(name)
    rows = []
    for item in fields(GPU):
        value = getattr(device, item.name)
        if item.name in WORDS:
            continue
        if isinstance(value, str):
            rows.append(_row(item.name, value, width=23))
            continue
        ends = (GPU_UNITS[end] for end in GPU_UNITS if item.name.endswith(end))
        unit, factor = next(ends, ("", 1.0))
        rows.append(_row(item.name, _number(value / factor), unit, width=23))
    return "\n".join([*_head(device), *rows, "", *_formats(device)])


def _formats(device: GPU) -> Iterator[str]:
    """Yield for each format of weights how far its matrix multiplications are to be trusted."""
    for dtype, kind in DTYPES.items():
        if getattr(device, kind.math):
            row = constants("gemm", device, dtype)
            of = "" if row["of"] == device.name else f" of {row['of']}"
            yield from _wrapped(f"{dtype:<7}{row['confidence']}{of}: {row['source']}", " " * 7)


def _head(entry: GPU | Model) -> list[str]:
    """Return name, confidence and source."""
    said = f"{entry.confidence}: {entry.source}"
    return [entry.name, *_wrapped(said), ""]


def _derived(shape: Model) -> Iterator[str]:
    """Yield what follows from the shapes."""
    yield _row("parameters", f"{shape.params / 1e9:,.3f}", "billion", "language model")
    yield _row("active", f"{shape.active_params / 1e9:,.3f}", "billion", "a token, with embeddings")
    for dtype in DTYPES:
        yield _row(f"weights {dtype}", f"{shape.weight_bytes(dtype) / 2**30:,.2f}", "GiB")
    for dtype in KV_BYTES:
        size = shape.kv_bytes_per_token(dtype)
        yield _row(f"KV cache {dtype}", f"{size:,.0f}", "B a token", "all layers")
    for group in shape.kv_groups():
        keeps = f"each {group.token_bytes:,.0f} B a token in bf16"
        if group.kind == "window":
            keeps += f" of the last {group.window:,}"
        if group.kind == "linear":
            keeps = f"each {group.state_bytes:,} B a sequence"
        yield _row(f"{group.kind} cache", f"{group.layers}", "layers", keeps)


def _number(value: float) -> str:
    """Return a number as people write it; "-": does not apply."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.10g}" if value else "-"


def _row(name: str, value: str, unit: str = "", note: str = "", width: int = 15) -> str:
    """Return a line; a note too long for it goes on below."""
    start = f"{name:<{width}}{value:>12} {unit:<11}"
    return "\n".join(_wrapped(start + note, " " * len(start))) if note else start.rstrip()


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Return a text in lines that a narrow terminal shows."""
    if len(text) <= WIDTH:
        return [text]
    wrapper = textwrap.TextWrapper(WIDTH, subsequent_indent=indent)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(text)
