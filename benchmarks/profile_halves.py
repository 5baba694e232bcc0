"""How well a replica's own constants, fitted on half of a sweep, predict the other half.

Public closed-loop runs (aiconfigurator 0.12.0, Apache-2.0; TPOT only, as its TTFT is of many
clients): each deployment of Llama-3.1 and gpt-oss on H100, H200 and B200 with 14 rows or more is
fitted twice, on every other row, and on the lower concurrencies. The constants of the model itself
were calibrated on the same runs, all of them: "before" is in sample.

    python benchmarks/profile_halves.py
    python benchmarks/profile_halves.py --csv learnt.csv   # one deployment's half, for gpuyard
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard.envs.hardware.catalogue import gpu, model  # noqa: E402
from gpuyard.envs.perf import Deployment  # noqa: E402
from gpuyard.envs.perf.serving.calibrate import fit  # noqa: E402
from gpuyard.envs.perf.serving.closed_loop import (  # noqa: E402
    Measurement,
    check,
    observed,
    predicted,
)

GPUS = {"h100_sxm": "H100-SXM", "h200_sxm": "H200-SXM", "b200_sxm": "B200-SXM"}
MODELS = {
    "meta-llama/Llama-3.1-70B": "Llama-3.1-70B",
    "meta-llama/Llama-3.1-8B-Instruct": "Llama-3.1-8B",
    "openai/gpt-oss-120b": "gpt-oss-120b",
}
ENGINES = {"vllm": "vllm-0.15", "trtllm": "trtllm", "sglang": "sglang"}
DTYPES = {"": "bf16", "fp8": "fp8", "fp8_block": "fp8", "nvfp4": "nvfp4"}
LIMITS = {"max_num_seqs": 512, "max_num_batched_tokens": 8192}
LEAST_ROWS = 14
EXAMPLE = ("trtllm", "", "Llama-3.1-70B", "H200-SXM", "fp8", 4)
BY = ["backend", "backend_version", "model", "gpu", "gemm_quant_mode", "tp_size"]
POINT = ["isl", "osl", "concurrency"]


def deployments(data: Path) -> Iterator[tuple[tuple, Deployment, list[Measurement]]]:
    """Yield the deployments and their rows, by prompt, answer and concurrency."""
    table = pd.read_csv(data / "perf/inference/e2e_ttft_tpot.csv.gz", low_memory=False)
    table["gpu"], table["model"] = table.system.map(GPUS), table.model_path.map(MODELS)
    for name in ("backend_version", "gemm_quant_mode"):
        table[name] = table[name].fillna("")
    plain = (table["mode"] == "agg") & (table.pp_size == 1) & table.gpu.notna()
    for name in ("attention_dp_size", "moe_ep_size"):
        plain &= table[name].isna() | (table[name] == 1)
    for key, runs in table[plain & table.model.notna()].groupby(BY):
        runs = runs.drop_duplicates(POINT).sort_values(POINT)
        if len(runs) < LEAST_ROWS:
            continue
        engine, _, name, device, weights, tp = key
        dtype = "mxfp4" if name == "gpt-oss-120b" else DTYPES[weights]
        kind = {"tp": int(tp), "dtype": dtype, "engine": ENGINES[engine]}
        deployment = Deployment(gpu(device), model(name), **kind, **LIMITS)
        rows = [
            Measurement(run.concurrency, run.isl, run.osl, itl_s=run.silicon_tpot_ms / 1e3)
            for run in runs.astype(dict.fromkeys(POINT, int)).itertuples()
        ]
        yield key, deployment, [row for row in rows if fits(deployment, row)]


def fits(deployment: Deployment, row: Measurement) -> bool:
    """Tell whether a run was within the KV cache, so that nobody waited."""
    try:
        check(deployment, row)
    except ValueError:
        return False
    return True


def errors(deployment: Deployment, rows: list[Measurement]) -> NDArray[np.float64]:
    """Return sizes of relative errors, %."""
    return 100 * np.abs(predicted(deployment, rows) / np.array(list(observed(rows))) - 1)


def halves(rows: list[Measurement], split: str) -> tuple[list[Measurement], list[Measurement]]:
    """Return rows to fit on and rows to predict."""
    if split == "every other row":
        return rows[::2], rows[1::2]
    middle = np.median([row.concurrency for row in rows])
    return (
        [row for row in rows if row.concurrency <= middle],
        [row for row in rows if row.concurrency > middle],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--csv", type=Path, help="write the example's half that is fitted on")
    options = parser.parse_args()
    data = Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        sys.exit(f"no measured data at {data}: set GPUYARD_DATA to its folder")
    known = list(deployments(data))
    if options.csv:
        (rows,) = [rows for key, _, rows in known if key == EXAMPLE]
        halves_of = [vars(row) for row in halves(rows, "every other row")[0]]
        pd.DataFrame(halves_of).to_csv(options.csv, index=False)
        return
    print("| predicted | engine | deployments | times | median, P90 before | after | better in |")
    print("|---|---|---|---|---|---|---|")
    for split in ("every other row", "higher concurrencies"):
        for engine in [*ENGINES, "all"]:
            pairs = []
            for key, deployment, rows in known:
                if engine in (key[0], "all"):
                    learnt, held_out = halves(rows, split)
                    own = fit(deployment, learnt).deployment
                    pairs.append((errors(deployment, held_out), errors(own, held_out)))
            before, after = map(np.concatenate, zip(*pairs, strict=True))
            better = sum(np.median(new) < np.median(old) for old, new in pairs)
            print(
                f"| {split} | {engine} | {len(pairs)} | {len(before)} | {told(before)} | "
                f"{told(after)} | {better} |"
            )


def told(sizes: NDArray[np.float64]) -> str:
    return f"{np.median(sizes):.1f}, {np.quantile(sizes, 0.9):.1f} %"


if __name__ == "__main__":
    main()
