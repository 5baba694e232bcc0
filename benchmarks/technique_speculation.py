"""Speculative decoding in the serving engine against published effects, off against on.

    python benchmarks/technique_speculation.py        # all rows, two minutes once compiled

Every row but those of accepted lengths plays one replica twice in ``gpuyard/Routing-v0``: the same
requests without and with speculation. Where a source states no draft length or acceptance, they are
chosen here so that its row at low load comes out; its row at high load follows from them. Prints
technique, target, band, simulated, inside or not; the last line is JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from calls import Call, remembered  # noqa: E402
from technique_row import Row, near  # noqa: E402

import gpuyard  # noqa: E402, F401
from gpuyard.envs.scenario import from_dict  # noqa: E402
from gpuyard.envs.workload.requests.source import Workload  # noqa: E402
from gpuyard.envs.workload.requests.stream import RequestStream  # noqa: E402

SPECULATION = "Speculative decoding"
MODELS = {
    SPECULATION: """
The table `speculation` of a replica: a draft model, one layer and a head (`eagle`), the model's own
layer for further tokens (`mtp`) or n-grams; its memory and passes by the same cost model,
acceptance drawn per step at each request's rate, switch-off by load ([engine.md](engine.md)). Host
time per step that drafts is fitted: SGLang's to EAGLE-3 at batch 1, vLLM's to one run on an A100,
the search for n-grams to their row at high load. Draft lengths and acceptance of the 70B rows,
which the source does not state, are fitted to the rows at low load. On Blackwell each verified
token reads a latent cache anew in good part (`again`, `attention.py`), so long contexts gain less;
nothing is fitted to Kimi-K2.6's rows, whose tokens a step its head's model card gives.""",
}
UNIT = 16  # tokens of a prefix unit
DRAFTS = {
    "Qwama-0.5B": {  # Qwen2-0.5B with the vocabulary of Llama 3
        **{"layers": 24, "hidden": 896, "heads": 14, "kv_heads": 2, "head_dim": 64, "ffn": 4864},
        **{"vocab": 128256, "tied": 1},
    }
}
LLAMA_70B = {"gpu": "H100-SXM", "model": "Llama-3-70B", "tp": 4, "engine": "vllm-0.8"}
LLAMA_70B["max_num_seqs"] = 256  # the engine's default then
LLAMA_8B = {"gpu": "H100-SXM", "model": "Llama-3.1-8B", "engine": "sglang", "max_num_seqs": 128}
V3 = {
    **{"gpu": "H200-SXM", "model": "DeepSeek-V3", "dtype": "fp8", "dp": 16, "ep": 16},
    **{"all_to_all": "deepep", "engine": "sglang", "max_num_seqs": 2048},
}
DRAFT = {
    **{"kind": "draft-model", "draft_model": "Qwama-0.5B", "draft_tp": 1},
    **{"draft_length": 4, "acceptance": 0.55},
}
NGRAM = {"kind": "ngram", "draft_length": 5, "acceptance": 0.65}
EAGLE_TREE = {"kind": "eagle", "draft_length": 5, "acceptance": 0.905}  # 4.68 tokens a step
EAGLE_CHAIN = {"kind": "eagle", "draft_length": 3, "acceptance": 0.73}
MTP = {"kind": "mtp", "draft_length": 2, "acceptance": 0.69}
KIMI = {"gpu": "GB200-NVL72", "model": "Kimi-K2", "tp": 4, "dtype": "nvfp4", "kv_dtype": "fp8"}
EAGLE_MLA = {"kind": "eagle", "draft_length": 3, "acceptance": 0.8135}  # 3.013 tokens a step

VLLM, EAGLE = "blog.vllm.ai/2024/10/17/spec-decode", "arXiv 2503.01840"


class Load(NamedTuple):
    """Requests of equal lengths.

    Attributes:
        count: how many.
        prompt: tokens.
        output: tokens.
        rate_per_s: Poisson arrivals; infinity: all at once, with one prompt that is in the prefix
            cache once the first of them has computed it: a batch that decodes.
    """

    count: int
    prompt: int
    output: int
    rate_per_s: float = np.inf

    def stream(self) -> RequestStream:
        """Return the requests."""
        gaps = np.random.default_rng(0).exponential(1.0, self.count) / self.rate_per_s
        output = np.full(self.count, self.output, np.int32)
        units = 0 if np.isfinite(self.rate_per_s) else self.prompt // UNIT
        return RequestStream(
            arrival_s=np.cumsum(gaps),
            prompt_tokens=np.full(self.count, self.prompt, np.int32),
            output_tokens=output,
            max_tokens=output,
            session=np.full(self.count, -1, np.int32),
            prefix_offsets=units * np.arange(self.count + 1),
            prefix_ids=np.tile(np.arange(units, dtype=np.int32), self.count),
            prefix_block_tokens=UNIT if units else 0,
            priority=np.zeros(self.count, np.float32),
        )


def play(replica: dict[str, Any], load: Load) -> tuple[dict[str, NDArray[Any]], int]:
    """Serve requests on one replica; returns their table and the steps that it took."""
    scenario = from_dict({"replicas": [replica], "models": DRAFTS, "workload": {}})
    scenario = replace(scenario, workload=Workload(load.stream(), load.count))
    env: Any = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    env.reset(seed=0)
    done = False
    while not done:
        _, _, done, _, _ = env.step(0)
    return env.results()["requests"], int(env._world.state["replicas"]["step_count"][0, 0])


def tpot_s(replica: dict[str, Any], load: Load) -> float:
    """Return mean seconds between the tokens of a request."""
    table, _ = play(replica, load)
    between = (table["finish_s"] - table["first_token_s"]) / (table["output_tokens"] - 1)
    return float(between.mean())


def accepted_length(rate: float, draft_length: int) -> float:
    """Return the mean tokens of a step, of requests that are alone on their replica."""
    how = {"kind": "ngram", "draft_length": draft_length, "acceptance": rate}
    load = Load(40, 64, 1001, rate_per_s=1e-6)
    _, steps = play({**LLAMA_8B, "speculation": how}, load)
    return load.count * (load.output - 1) / (steps - load.count)  # a prompt is a step


def speed_up(replica: dict[str, Any], how: dict[str, Any], load: Load) -> float:
    """Return how much sooner a request has its next token with speculation."""
    return tpot_s(replica, load) / tpot_s({**replica, "speculation": how}, load)


P_EAGLE, SGLANG = "vllm.ai/blog/2026-03-13-p-eagle", "github.com/sgl-project/sglang/pull/4247"
LMSYS, TRTLLM = "lmsys.org/blog/2025-07-17-mtp", "github.com/NVIDIA/TensorRT-LLM blog07_NGram"
EAGLE_31 = "vllm.ai/blog/2026-05-26-eagle-3-1"
FITTED, TOO = "acceptance fitted to this row", "host time fitted to this row"
LENGTHS = (
    ("EAGLE-3", 0.73, 3, 2.70, P_EAGLE),
    ("EAGLE-3", 0.73, 7, 3.27, P_EAGLE),
    ("MTP", 0.69, 2, 2.18, LMSYS),
    ("n-gram", 0.27, 3, 1.37, TRTLLM),
)
SPEED_UPS = (
    ("draft model, 70B, 1/s", 1.5, VLLM, LLAMA_70B, DRAFT, Load(100, 250, 250, 1.0), FITTED),
    ("draft model, 70B, 256 at once", 0.714, VLLM, LLAMA_70B, DRAFT, Load(256, 256, 250), ""),
    ("n-gram, 70B, 1/s", 2.8, VLLM, LLAMA_70B, NGRAM, Load(100, 1000, 100, 1.0), FITTED),
    ("n-gram, 70B, 256 at once", 0.556, VLLM, LLAMA_70B, NGRAM, Load(256, 1008, 100), TOO),
    ("EAGLE-3, 8B, batch 1", 2.36, SGLANG, LLAMA_8B, EAGLE_TREE, Load(1, 96, 2000), TOO),
    ("EAGLE-3, 8B, batch 64", 1.38, EAGLE, LLAMA_8B, EAGLE_CHAIN, Load(64, 96, 500), ""),
    ("EAGLE-3.1, Kimi-K2.6, 1 client", 2.03, EAGLE_31, KIMI, EAGLE_MLA, Load(1, 1008, 1000), ""),
    ("EAGLE-3.1, Kimi-K2.6, 4 clients", 1.71, EAGLE_31, KIMI, EAGLE_MLA, Load(4, 1008, 500), ""),
    ("EAGLE-3.1, Kimi-K2.6, 16 clients", 1.66, EAGLE_31, KIMI, EAGLE_MLA, Load(16, 1008, 500), ""),
    ("MTP, V3, 2 a rank", 1.60, LMSYS, V3, MTP, Load(32, 64_000, 1000), ""),
    ("MTP, V3, 128 a rank", 1.14, LMSYS, V3, MTP, Load(2048, 2000, 1000), ""),
)
"""Targets, their published speed-ups of the time to a token, sources, what is played, and notes."""


@remembered
def gained(number: int) -> float:
    """Return the speed-up of a row of :data:`SPEED_UPS`."""
    _, _, _, replica, how, load, _ = SPEED_UPS[number]
    return speed_up(replica, how, load)


CALLS = tuple(Call(__name__, "gained", (i,)) for i in reversed(range(len(SPEED_UPS))))


def rows() -> list[Row]:
    """Return published and simulated effects."""
    found = []
    for kind, rate, length, published, source in LENGTHS:
        target = f"tokens a step, {kind}, K = {length}, rate {rate}"
        simulated = accepted_length(rate, length)
        found.append(near(SPECULATION, target, source, published, 0.05, simulated))
    for number, (target, published, source, _, _, _, note) in enumerate(SPEED_UPS):
        ours = gained(number)
        found.append(near(SPECULATION, target, source, published, 0.2, ours, note, gain=True))
    return found


def main() -> None:
    """Print the rows; the last line is JSON."""
    found = rows()
    for row in found:
        inside = "inside" if row.inside else "outside"
        band = f"{row.low:5.3g} to {row.high:5.3g}"
        print(
            f"{row.target:42} {row.published:6.3g}  {band}  {row.simulated:6.3g}  {inside:7}  "
            f"{row.note}"
        )
    print(json.dumps([vars(row) for row in found]))


if __name__ == "__main__":
    main()
