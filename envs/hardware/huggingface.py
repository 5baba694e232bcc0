"""Reads a model's shapes from its Hugging Face configuration, a ``config.json``.

:data:`~gpuyard.envs.hardware.families.FAMILIES` says which architectures, and where each keeps
what. Quantisation is a deployment's choice and not read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .catalogue import Model, model_from
from .cells import Row
from .families import FAMILIES, NESTED, OF_TYPES, Family

MOST, MOST_LAYERS = 10**8, 10**4
"""Larger numbers are no shapes of a model: the largest vocabulary known has 2^18 tokens."""

KINDS = {
    "full_attention": "full",
    "sliding_attention": "window",
    "chunked_attention": "window",
    "linear_attention": "linear",
}
STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of an element of recurrent state by ``mamba_ssm_dtype``; without it vLLM takes 16 bits."""

_VISION_NAMES = {"num_hidden_layers": "depth"}


def read(path: str | Path) -> Model:
    """Return the model that a configuration describes, called after its folder or file.

    Raises:
        ValueError: naming file, key, value and what is allowed.
    """
    path = Path(path)
    name = path.resolve().parent.name if path.stem == "config" else path.stem
    try:
        return model_from(name, columns(path)[0])
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: {error}") from error  # shapes that do not go together


def columns(path: str | Path) -> tuple[Row, dict[str, str]]:
    """Return a configuration as columns of ``models.csv``, and the key that each came from.

    Raises:
        ValueError: naming file, key, value and what is allowed.
    """
    path = Path(path)
    whole = _parsed(path)
    part = next((name for name in NESTED if name in whole), "")
    inner = whole[part] if part and isinstance(whole[part], dict) else {}
    found = [_architecture(whole), _architecture(inner), OF_TYPES.get(str(inner.get("model_type")))]
    architecture = next((name for name in found if name in FAMILIES), None)
    if architecture is None:  # neither it nor the language model in it is known
        remedy = f"use one of {', '.join(FAMILIES)}"
        said = whole.get("architectures")
        raise Config(path, whole, Family(), "").error("architectures", said, remedy)
    config = Config(path, whole, FAMILIES[architecture], part)
    for fill in (_size, _attention, _layer_kinds, _feed_forward, _vision):
        fill(config)
    row = config.row | {"confidence": "published", "source": f"{path} ({architecture})"}
    return row, config.origin


def _architecture(table: dict[str, Any]) -> str | None:
    """Return what a table names first as its architecture."""
    named = table.get("architectures")
    first = named[0] if isinstance(named, list) and named else named
    return first if isinstance(first, str) else None


def _parsed(path: Path) -> dict[str, Any]:
    """Return the content of a file."""
    try:
        whole = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be opened ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text; give a config.json") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error}); give a config.json") from error
    if not isinstance(whole, dict):
        raise ValueError(f"{path}: is not a JSON object; give a config.json")
    return whole


class Config:
    """A configuration, and the columns read from it so far.

    Attributes:
        row: columns of ``models.csv``.
        origin: the key that each came from.

    Args:
        path: the file, for messages.
        whole: its content; the language model may be nested in ``text_config``.
        family: where its keys are.
        part: another nested table to read; "": none.
    """

    def __init__(
        self, path: Path, whole: dict[str, Any], family: Family, part: str = "text_config"
    ):
        self.path, self.whole, self.family = path, whole, family
        nested = part and part in whole
        self.prefix = f"{part}." if nested else ""
        self.keys: dict[str, Any] = whole[part] if nested else whole
        self.row: dict[str, Any] = {}
        self.origin: dict[str, str] = {}
        if not isinstance(self.keys, dict):
            self.prefix = ""
            raise self.error(part, self.keys, "must be an object")
        for key, value in family.only.items():
            if self.get(key, value) != value:
                raise self.error(key, self.get(key), f"only {value} is modelled")

    def error(self, key: str, value: object, remedy: str) -> ValueError:
        """Return the error to raise for one key."""
        shown = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "huge"
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return ValueError(f"{self.path}: {self.prefix}{key} = {shown}: {remedy}")

    def key(self, name: str) -> str:
        """Return what the family calls a key."""
        return name if name in self.keys else self.family.names.get(name, name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value; null is the same as not given."""
        value = self.keys.get(self.key(name))
        return self.family.absent.get(name, default) if value is None else value

    def number(
        self, name: str, default: int | None = None, least: int = 0, most: int = MOST
    ) -> int:
        """Return a whole number; without a default the key is required."""
        value = self.get(name, default)
        wanted = f"give a whole number, {least} to {most}"
        if value is None:
            raise self.error(self.key(name), value, f"missing; {wanted}")
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(self.key(name), value, wanted)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false, of the file itself where the nested table does not say."""
        value = self.get(name, self.whole.get(name))
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.error(name, value, "give true or false")
        return value

    def whole_numbers(self, name: str) -> list[int]:
        """Return a list of whole numbers; empty if there is none."""
        value = self.get(name, [])
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self.error(name, value, "give a list of whole numbers")
        return value

    def take(
        self, column: str, name: str, default: int | None = None, least: int = 0, most: int = MOST
    ) -> int:
        """Read a whole number into a column and return it."""
        value = self.number(name, default, least, most)
        self.put(column, value, name)
        return value

    def put(self, column: str, value: float, *names: str) -> None:
        """Set a column, and from which keys it follows."""
        self.row[column], self.origin[column] = value, ", ".join(map(self._found, names))

    def _found(self, name: str) -> str:
        """Return where a value was found."""
        key = self.key(name)
        if key in self.keys:
            return f"{self.prefix}{key}"
        return key if key in self.whole else f"{key} (absent)"


def _size(config: Config) -> None:
    config.take("layers", "num_hidden_layers", least=1, most=MOST_LAYERS)
    config.take("hidden", "hidden_size", least=1)
    config.take("vocab", "vocab_size", least=1)
    name = "tie_word_embeddings"
    config.put("tied", int(config.flag(name, config.family.tied)), name)
    for name in ("num_nextn_predict_layers", "mtp_num_hidden_layers"):
        if config.get(name) is not None:
            config.take("mtp_layers", name, most=MOST_LAYERS)


def _attention(config: Config) -> None:
    hidden = config.row["hidden"]
    heads = config.take("heads", "num_attention_heads", least=1)
    config.take("kv_heads", "num_key_value_heads", heads, least=1)
    if config.family.mla:
        dim = config.take("head_dim", "qk_nope_head_dim", least=1)
        config.take("q_lora_rank", "q_lora_rank", 0)
        config.take("kv_lora_rank", "kv_lora_rank", least=1)
        config.take("rope_dim", "qk_rope_head_dim", least=1)
        if (value := config.number("v_head_dim", dim)) != dim:
            raise config.error("v_head_dim", value, f"only qk_nope_head_dim = {dim} is modelled")
        return
    if config.get("head_dim") is None and hidden % heads:
        raise config.error("hidden_size", hidden, f"must be a multiple of {heads} heads")
    config.take("head_dim", "head_dim", hidden // heads, least=1)
    config.take("full_kv_heads", "num_global_key_value_heads", 0)
    config.take("full_head_dim", "global_head_dim", 0)
    name = "attn_output_gate"
    config.put("attention_gate", int(config.flag(name, config.family.gate)), name)


def _layer_kinds(config: Config) -> None:
    """Count layers with a window and with linear attention."""
    family, layers = config.family, config.row["layers"]
    window = config.number(family.window, 0) if family.window else 0
    reach = config.number("max_position_embeddings", MOST)
    if window >= reach or not config.flag("use_sliding_window", True):
        window = 0  # never binds
    kinds, names = _kinds(config, layers, window)
    if "window" in kinds and (not family.window or config.get(family.window) is None):
        name = family.window or "sliding_window"
        raise config.error(name, None, "missing; layer_types has layers with a window")
    if window:
        config.put("window", window, family.window)
        config.put("window_layers", kinds.count("window"), *names)
    if "linear" in kinds:
        config.put("linear_layers", kinds.count("linear"), *names)
        _linear(config)


def _kinds(config: Config, layers: int, window: int) -> tuple[list[str], list[str]]:
    """Return the kind of each layer (see :data:`KINDS`), and the keys that say so."""
    family, listed = config.family, config.get("layer_types")
    if listed is not None:
        if (
            not isinstance(listed, list)
            or len(listed) != layers
            or set(map(str, listed)) - {*KINDS}
        ):
            remedy = f"give a list of {layers}, each one of {', '.join(KINDS)}"
            raise config.error("layer_types", listed, remedy)
        return [KINDS[name] for name in listed], ["layer_types"]
    other = "linear" if family.linear else "window" if window else "full"
    if (turned := config.whole_numbers("no_rope_layers")) and family.every:
        if len(turned) != layers:
            raise config.error("no_rope_layers", turned, f"give a list of {layers}")
        return [other if turn else "full" for turn in turned], ["no_rope_layers"]
    if family.every:
        every = config.number(*family.every, least=1)
        return [other if (i + 1) % every else "full" for i in range(layers)], [family.every[0]]
    first = config.number("max_window_layers", 0)
    return [other if i >= first else "full" for i in range(layers)], ["max_window_layers"]


def _linear(config: Config) -> None:
    """Weights and state of a gated delta-net layer.

    Projections of queries, keys, values and gate, two numbers per value head, the convolution,
    the norm and the output. The state is as vLLM allocates it: the convolution's past inputs in 16
    bits and a matrix per value head.
    """
    hidden = config.row["hidden"]
    keys, values = (config.number(f"linear_num_{kind}_heads", least=1) for kind in ("key", "value"))
    key_dim, value_dim = (
        config.number(f"linear_{kind}_head_dim", least=1) for kind in ("key", "value")
    )
    kernel = config.number("linear_conv_kernel_dim", least=1)
    dtype = config.get("mamba_ssm_dtype", "bfloat16")
    if dtype not in list(STATE_BYTES):
        raise config.error("mamba_ssm_dtype", dtype, f"use one of {', '.join(STATE_BYTES)}")
    channels = 2 * keys * key_dim + values * value_dim
    params = hidden * (channels + 2 * values * value_dim + 2 * values)
    params += channels * kernel + 2 * values + value_dim
    state = 2 * channels * (kernel - 1) + values * value_dim * key_dim * STATE_BYTES[dtype]
    names = [f"linear_num_{kind}_heads" for kind in ("key", "value")]
    names += [f"linear_{kind}_head_dim" for kind in ("key", "value")]
    config.put("linear_params_m", params / 1e6, *names, "linear_conv_kernel_dim", "hidden_size")
    config.put("state_bytes", state, *names, "linear_conv_kernel_dim", "mamba_ssm_dtype")


def _feed_forward(config: Config) -> None:
    family, hidden, layers = config.family, config.row["hidden"], config.row["layers"]
    config.row["gated"], config.origin["gated"] = int(family.gated), "architectures"
    width = None if family.gated else 4 * hidden
    if not family.experts or not config.take("experts", family.experts[0]):
        config.take("ffn", family.ffn, width, least=1)
        return
    config.take("active_experts", family.experts[1], least=1)
    config.take("expert_ffn", family.experts[2], least=1)
    shared = 1 if family.shared else 0
    for name in family.shared:
        shared *= config.number(name)
    config.put("shared_ffn", shared, *family.shared)
    dense, names = _dense_layers(config, layers)
    config.put("dense_layers", dense, *names)
    if dense:
        config.take("ffn", family.ffn, width, least=1)


def _dense_layers(config: Config, layers: int) -> tuple[int, list[str]]:
    """Return how many layers have no experts, and the keys that say so."""
    if listed := config.whole_numbers("moe_layers"):
        return layers - len({i for i in listed if 0 <= i < layers}), ["moe_layers"]
    first = config.number("first_k_dense_replace", 0)
    step, every = (
        config.number(name, 1, least=1) for name in ("decoder_sparse_step", "moe_layer_freq")
    )
    turn = config.number("interleave_moe_layer_step", 1, least=1)
    dense = set(config.whole_numbers("mlp_only_layers"))
    moe = [
        i
        for i in range(first, layers)
        if i not in dense and not ((i + 1) % step or i % every or (i + 1) % turn)
    ]
    names = ["first_k_dense_replace", "moe_layer_freq", "mlp_only_layers", "decoder_sparse_step"]
    said = [name for name in (*names, "interleave_moe_layer_step") if name in config.keys]
    return layers - len(moe), said or ["first_k_dense_replace"]


def _vision(config: Config) -> None:
    """Layers of a vision encoder: four matrices of attention, two or three of feed-forward."""
    if not config.whole.get("vision_config"):
        return
    seen = Config(config.path, config.whole, Family(names=_VISION_NAMES), "vision_config")
    if seen.get("num_hidden_layers") is None or seen.get("intermediate_size") is None:
        return  # written in another way: not counted
    layers = seen.number("num_hidden_layers", most=MOST_LAYERS)
    hidden, width = seen.number("hidden_size"), seen.number("intermediate_size")
    mats = 3 if seen.get("model_type") == "gemma4_vision" else 2
    params = layers * hidden * (4 * hidden + mats * width)
    seen.put(
        "vision_params_m", params / 1e6, "num_hidden_layers", "hidden_size", "intermediate_size"
    )
    for name in ("mm_tokens_per_image", "vision_soft_tokens_per_image"):
        if name in config.whole:
            tokens = Config(config.path, config.whole, Family(), "").number(name)
            seen.row["vision_tokens"], seen.origin["vision_tokens"] = tokens, name
    if (ratio := seen.get("pixel_shuffle_ratio")) is not None:
        if not isinstance(ratio, (int, float)) or not 0 < ratio <= 1:
            raise seen.error("pixel_shuffle_ratio", ratio, "give a number above 0 and up to 1")
        side = seen.number("image_size") // seen.number("patch_size", least=1) * ratio
        seen.put("vision_tokens", int(side) ** 2, "image_size", "patch_size", "pixel_shuffle_ratio")
    config.row |= seen.row
    config.origin |= seen.origin
