"""How close the fitted workload generators come to the traces.

Prints one row per preset and statistic, real against generated, and ends with one line of JSON.
Needs the traces: set GPUYARD_DATA to the folder of the measured data (default ../shared/data).
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard.envs.workload.requests.parameters import Modulation  # noqa: E402
from gpuyard.envs.workload.requests.prefix import hit_tokens, shared_only  # noqa: E402
from gpuyard.envs.workload.requests.presets import preset  # noqa: E402
from gpuyard.envs.workload.requests.readers import read  # noqa: E402
from gpuyard.envs.workload.requests.stream import RequestStream  # noqa: E402

TRACES = {
    "azure-conv": "azure-llm-2023/AzureLLMInferenceTrace_conv_first42min.csv",
    "azure-code": "azure-llm-2023/AzureLLMInferenceTrace_code_first42min.csv",
    "mooncake-conv": "mooncake-fast25/conversation_trace_first70pct.jsonl.gz",
}
SESSIONS = "length-pairs/sharegpt_multiturn_llama_dev70pct.jsonl.gz"
SEEDS = 8


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of two samples."""
    at = np.concatenate([a, b])
    below = [np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def dispersion(arrival_s: np.ndarray, window_s: float) -> float:
    """Index of dispersion: variance over mean of the arrivals per window; Poisson has 1."""
    edges = np.arange(arrival_s[0], arrival_s[-1], window_s)
    counts = np.histogram(arrival_s, edges)[0]
    return float(counts.var() / counts.mean())


def hit_share(stream: RequestStream) -> float:
    """Share of prompt tokens that an unbounded cache of prompt blocks would have."""
    whole = stream.prompt_tokens // stream.prefix_block_tokens
    offsets = stream.prefix_offsets
    place = np.arange(len(stream.prefix_ids)) - np.repeat(offsets[:-1], np.diff(offsets))
    inside = place < np.repeat(whole, np.diff(offsets))
    count = np.add.reduceat(np.append(inside, False), offsets[:-1]) * (np.diff(offsets) > 0)
    cut = replace(
        stream,
        prefix_offsets=np.append(0, np.cumsum(count)),
        prefix_ids=stream.prefix_ids[inside],
    )
    return float(hit_tokens(shared_only(cut)).sum() / stream.prompt_tokens.sum())


def statistics(stream: RequestStream) -> dict[str, float]:
    """Numbers that a replay depends on."""
    gaps = np.diff(stream.arrival_s)
    numbers = {
        "rate_per_s": len(gaps) / gaps.sum(),
        "gap_cv": gaps.std() / gaps.mean(),
        "dispersion_1s": dispersion(stream.arrival_s, 1.0),
        "dispersion_10s": dispersion(stream.arrival_s, 10.0),
        "dispersion_60s": dispersion(stream.arrival_s, 60.0),
        "prompt_mean": stream.prompt_tokens.mean(),
        "output_mean": stream.output_tokens.mean(),
    }
    if stream.prefix_block_tokens:
        numbers["hit_share"] = hit_share(stream)
    return {name: float(value) for name, value in numbers.items()}


def compare(name: str, data: Path) -> dict[str, float]:
    """Errors of one preset against its trace: means over seeds, KS distances pooled."""
    real = read(data / TRACES[name])
    generator = replace(preset(name), max_tokens=2**20)
    made = [generator.sample(np.random.default_rng(seed), len(real)) for seed in range(SEEDS)]
    errors = {}
    for field in ("prompt_tokens", "output_tokens"):
        pooled = np.concatenate([getattr(stream, field) for stream in made])
        errors[f"ks_{field}"] = distance(getattr(real, field), pooled)
    gaps = np.concatenate([np.diff(stream.arrival_s) for stream in made])
    errors["ks_gaps"] = distance(np.diff(real.arrival_s), gaps)
    for key, value in errors.items():
        print(f"{name:14s} {key:18s} {value:8.3f}")
    each = [statistics(stream) for stream in made]
    for key, value in statistics(real).items():
        values = np.array([numbers[key] for numbers in each])
        print(
            f"{name:14s} {key:18s} {value:10.3f} real {values.mean():10.3f} generated "
            f"(one seed +- {values.std():.3f})"
        )
        errors[key] = float(values.mean() / value - 1.0)
    return errors


def compare_chat(data: Path) -> dict[str, float]:
    """Errors of the chat preset's conversations against ShareGPT's."""
    with gzip.open(data / SESSIONS, "rt") as file:
        sessions = [json.loads(line) for line in file]
    system = replace(preset("chat").clients, count=1, system_tokens=0)
    generator = replace(
        preset("chat"), max_tokens=2**20, clients=system, modulation=Modulation(), rate_per_s=0.01
    )
    made = generator.sample(np.random.default_rng(0), 60_000)
    order = np.lexsort((made.arrival_s, made.session))
    session, prompt, output = made.session[order], made.prompt_tokens[order], made.output_tokens
    first = np.flatnonzero(np.diff(session, prepend=-1))
    turns = np.diff(np.append(first, len(session)))
    later = np.setdiff1d(np.arange(len(session)), first)
    user = prompt[later] - prompt[later - 1] - output[order][later - 1]
    inside = slice(len(turns) // 10, -len(turns) // 10)  # neither begun before nor cut off
    errors = {
        "ks_turns": distance(np.array([len(s) for s in sessions]), turns[inside]),
        "ks_user_tokens": distance(np.array([max(t[0], 1) for s in sessions for t in s]), user),
        "ks_output_tokens": distance(np.array([t[1] for s in sessions for t in s]), output),
    }
    for key, value in errors.items():
        print(f"{'chat':14s} {key:18s} {value:8.3f}")
    return errors


def main() -> None:
    data = Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data")) / "traces"
    if not data.is_dir():
        sys.exit(f"no traces at {data}: set GPUYARD_DATA to the folder of the measured data")
    errors = {name: compare(name, data) for name in TRACES}
    errors["chat"] = compare_chat(data)
    print(json.dumps({n: {k: round(v, 4) for k, v in e.items()} for n, e in errors.items()}))


if __name__ == "__main__":
    main()
