"""Batching, order of prompts and KV reservation: published effects beside simulated ones.

    python benchmarks/technique_batching.py     # prints the rows, a few minutes of one core

Each effect is one switch of a replica, off against on, all else alike. Lengths are drawn: medians
and spreads of the data sets that the papers used, since those are not part of the repository.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from calls import Call, remembered
from closed_loop import Loop, Requests, Sequence
from numpy.typing import NDArray
from technique_ladder import Clients

import gpuyard  # noqa: F401
from gpuyard.baselines import make
from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment, tabulate
from gpuyard.envs.perf.serving.iteration import step_s
from gpuyard.envs.scenario import from_dict
from gpuyard.envs.workload.requests.closed_loop import ClosedLoop
from gpuyard.envs.workload.requests.sessions import SessionGenerator, Spread
from gpuyard.evaluation.rollout import rollout

Row = dict[str, Any]
Columns = dict[str, NDArray[Any]]

PAGED = "PagedAttention, SOSP 2023"
VLLM = "blog.vllm.ai/2023/06/20/vllm.html"
SARATHI = "Sarathi-Serve, OSDI 2024"
HRRN = "github.com/sgl-project/sglang/pull/32911"

OPT = {  # KV slots as PagedAttention, table 1 has them; the limits of vLLM's first versions
    **{"gpu": "A100-40", "model": "OPT-13B", "dtype": "fp16", "kv_dtype": "fp16"},
    **{"engine": "vllm-0.8", "kv_blocks": 15_700 // 16, "max_num_seqs": 256},
    **{"max_num_batched_tokens": 2560, "chunked_prefill": False, "prefill_first": True},
    "prefix_caching": False,
}
STATIC = {
    **{"batching": "static", "prefill_first": False, "kv_reservation": "contiguous"},
    "max_num_batched_tokens": 32_768,  # kv_blocks is given, so this takes no memory
}
LIMIT = 2048
"""Prompt and output tokens of OPT at most."""
STRICT_S, DELAY_S = 0.1, 2.0
"""P99 gap between tokens and median delay of scheduling that capacity is measured at."""


def lengths(
    rng: np.random.Generator, n: int, prompt: tuple[float, float], output: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return log-normal lengths, each a median and the spread of its logarithm."""
    found = [np.exp(rng.normal(np.log(m), s, n)).round().astype(int) for m, s in (prompt, output)]
    return np.maximum(found[0], 4), np.maximum(found[1], 4)


def sharegpt(n: int = 500, rate_per_s: float = 3.0, seed: int = 0) -> Columns:
    """Return requests with ShareGPT's means of 161 and 338 tokens; 3/s saturate any OPT-13B."""
    rng = np.random.default_rng(seed)
    prompt, output = lengths(rng, 4 * n, (87.0, 1.24), (233.0, 1.0))
    fits = (prompt <= 1024) & (prompt + output <= LIMIT)
    prompt, output = prompt[fits][:n], output[fits][:n]
    arrival = np.cumsum(rng.exponential(1 / rate_per_s, n))
    bound = LIMIT - prompt
    return {
        **{"arrival_s": arrival, "prompt_tokens": prompt, "output_tokens": output},
        "max_tokens": bound,
    }


def play(replica: Row, workload: Columns, used: list[float] | None = None) -> Columns:
    """Serve requests on one replica; returns the table of requests.

    Args:
        replica: fields of ``[[replicas]]``.
        workload: columns of a plain trace.
        used: gets the share of the KV cache that holds tokens at each arrival of the second half.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(workload)
            writer.writerows(zip(*(list(column) for column in workload.values()), strict=True))
        trace = {"trace": str(path), "format": "plain", "num_requests": 0}
        env = gym.make(
            "gpuyard/Routing-v0", scenario=from_dict({"replicas": [replica], "workload": trace})
        )
    env.reset(seed=0)
    world: Any = env.unwrapped
    done, turn = False, 0
    while not done:
        _, _, done, _, _ = env.step(0)
        turn += 1
        if used is not None and turn > len(workload["arrival_s"]) // 2 and not done:
            spec, state = world._world.shared["replica_specs"][0], world._world.state["replicas"]
            room = int(spec["kv_blocks"] * spec["block_size"])
            used.append(float(state["report_context"][0, 0]) / room)
    return dict(world.results()["requests"])


def rate_per_s(table: Columns) -> float:
    """Return requests/s of a saturated replica, between the first and the last fifth to finish."""
    first, last = np.quantile(table["finish_s"], [0.2, 0.8])
    return float(((table["finish_s"] > first) & (table["finish_s"] <= last)).sum() / (last - first))


def row(
    name: str, target: str, source: str, low: float, high: float, value: float, note: str = ""
) -> Row:
    """Return one row of the page of techniques."""
    return {
        **{"technique": name, "target": target, "source": source, "note": note},
        **{"low": low, "high": high, "simulated": float(value)},
    }


def kv_rows() -> list[Row]:
    """Paged blocks against contiguous chunks: what holds tokens, and the rate."""
    ways = {
        "paged": 0.963,
        "contiguous": 0.204,
        "contiguous-pow2": 0.268,
        "contiguous-oracle": 0.382,
    }
    name, requests, found, rate = "KV reservation", sharegpt(), [], {}
    for way, share in ways.items():
        used: list[float] = []
        rate[way] = rate_per_s(play({**OPT, "kv_reservation": way}, requests, used))
        target = f"KV cache that holds tokens, {way}"
        low, high = share - 0.05, min(share + 0.05, 1.0)
        found.append(row(name, target, PAGED, low, high, float(np.mean(used))))
    for way, low, high in (("contiguous-oracle", 1.7, 2.7), ("contiguous", 2.7, 8.0)):
        target = f"request rate, paged over {way}"
        found.append(row(name, target, PAGED, low, high, rate["paged"] / rate[way]))
    return found


def static_rows() -> list[Row]:
    """Continuous against static batching, saturated and at a light load."""
    name, requests = "Continuous batching", sharegpt()
    paged = rate_per_s(play(OPT, requests))
    static = rate_per_s(play({**OPT, **STATIC}, requests))
    continuous = rate_per_s(play({**OPT, "kv_reservation": "contiguous"}, requests))
    oracle = rate_per_s(play({**OPT, "kv_reservation": "contiguous-oracle"}, requests))
    slow = "slower kernels of HF Transformers are left out"
    other = "as paged over contiguous-oracle; TGI's own host time is left out"
    target = "request rate, with paging, over static"
    found = [
        row(name, target, VLLM, 14, 24, paged / static, slow),
        row(name, "request rate, paging over TGI", VLLM, 2.2, 2.5, paged / oracle, other),
        row(name, "request rate, both contiguous", "issue 11", 2, 20, continuous / static),
    ]
    light = sharegpt(200, 0.5 * static)
    both = [play({**OPT, **way}, light) for way in (STATIC, {"kv_reservation": "contiguous"})]
    slow, fast = (float((table["finish_s"] - table["arrival_s"]).mean()) for table in both)
    target = "end-to-end time at half of static's rate, static over continuous"
    return [*found, row(name, target, "issue 11", 1, 20, slow / fast)]


class GapLoop(Loop):
    """One replica step by step, prompts first or not, that notes the gaps between tokens."""

    def __init__(self, deployment: Deployment, requests: Requests) -> None:
        super().__init__(deployment, requests)
        self.gaps_s: list[float] = []
        self.last_s: dict[int, float] = {}

    def _plan(self, until_s: float) -> None:
        decodes = [sequence for sequence in self.running if sequence.generated]
        super()._plan(until_s)
        new = [s for s in self.running if s.now and not s.generated]
        if self.d.prefill_first and new:
            for sequence in decodes:
                sequence.now = 0

    def _step_s(self) -> float:
        decodes = [s.computed for s in self.running if s.generated and s.now]
        chunks = [(s.now, s.computed) for s in self.running if s.now and not s.generated]
        sampling = sum(s.computed + s.now == self._known(s) for s in self.running if s.now)
        return step_s(self.table, len(decodes), sum(decodes), chunks, sampling)

    def _end_step(self, now_s: float) -> None:
        for sequence in self.running:
            if self._samples(sequence):
                if sequence.index in self.last_s:
                    self.gaps_s.append(now_s - self.last_s[sequence.index])
                self.last_s[sequence.index] = now_s
        super()._end_step(now_s)

    def _samples(self, sequence: Sequence) -> bool:
        return bool(sequence.now) and sequence.computed + sequence.now == self._known(sequence)


def meets(deployment: Deployment, rate: float, n: int = 160) -> bool:
    """Tell whether a replica keeps the strict P99 gap and starts half of the requests in time."""
    rng = np.random.default_rng(0)
    prompt, output = lengths(rng, n, (1730.0, 0.93), (415.0, 0.545))  # openchat_sharegpt4
    prompt, output = np.minimum(prompt, 7168), np.minimum(output, 1024)
    requests = Requests(prompt, output, np.cumsum(rng.exponential(1 / rate, n)))
    loop = GapLoop(deployment, requests)
    loop.play()
    delay_s = float(np.median(requests.first_token_s - requests.arrival_s))
    return float(np.quantile(loop.gaps_s, 0.99)) <= STRICT_S and delay_s <= DELAY_S


def capacity_per_s(deployment: Deployment) -> float:
    """Return the highest rate that :func:`meets` allows, within 6 %."""
    low, high = 0.05, 12.8
    while high / low > 1.06:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if meets(deployment, middle) else (low, middle)
    return low


@remembered
def mistral_per_s(chunked: bool) -> float:
    """Return the capacity of Mistral-7B with chunks of 512 tokens, or with whole prompts first."""
    whole = {"chunked_prefill": False, "prefill_first": True, "max_num_batched_tokens": 8192}
    batch: Row = {"max_num_batched_tokens": 512} if chunked else whole
    mistral: Row = {"dtype": "bf16", "engine": "vllm-0.12", "max_num_seqs": 128}
    return capacity_per_s(Deployment(gpu("A100-80"), model("Mistral-7B"), **mistral, **batch))


def chunk_rows() -> list[Row]:
    """Chunked prefill: capacity at a strict gap, what chunks cost, and the gap without them."""
    name, first, chunked = "Chunked prefill", mistral_per_s(False), mistral_per_s(True)
    target = "capacity at P99 gap of 0.1 s, decodes first over prompts first, 7B on A100"
    found = [row(name, target, SARATHI, 2.15 / 1.5, 2.6 * 1.5, chunked / first)]
    target = "prefill of 4,096 tokens in chunks of 512 over whole, 34B on 2 A100"
    found.append(row(name, target, SARATHI, 1.0, 1.25, chunk_cost()))
    target = "delay of a decode over the prefill of the whole prompt that arrives"
    source = "github.com/pegainfer-project/pegainfer/pull/368"
    note = "exact but for the chord of a run of decodes (engine.md)"
    return [*found, row(name, target, source, 0.999, 1.001, gap_over_prefill(), note)]


def chunk_cost() -> float:
    """Return the time of a prompt in chunks of 512 tokens over that of the whole prompt."""
    limits: Row = {"tp": 2, "max_num_batched_tokens": 8192, "engine": "vllm-0.12"}
    table = tabulate(Deployment(gpu("A100-80"), model("Yi-34B"), **limits))
    whole_s = step_s(table, 0, 0, [(4096, 0)], 1)
    last = 4096 - 512
    chunks_s = sum(step_s(table, 0, 0, [(512, at)], int(at == last)) for at in range(0, 4096, 512))
    return float(chunks_s / whole_s)


def gap_over_prefill() -> float:
    """Return by how much a whole prompt delays a decode, over the time of that prompt alone."""
    replica = {
        **{"gpu": "A100-80", "model": "Mistral-7B", "engine": "vllm-0.12", "frontend_ms": 0.0},
        **{"chunked_prefill": False, "prefill_first": True, "max_num_batched_tokens": 8192},
        "prefix_caching": False,
    }
    decode: Columns = {
        **{"arrival_s": np.array([0.0, 0.5, 60.0]), "prompt_tokens": np.array([64, 4096, 4096])},
        **{"output_tokens": np.array([200, 1, 1]), "max_tokens": np.array([200, 1, 1])},
    }
    both = play(replica, decode)
    alone = play(replica, {key: column[[0, 2]] for key, column in decode.items()})
    delay_s = both["finish_s"][0] - alone["finish_s"][0]
    return float(delay_s / (both["first_token_s"][2] - both["arrival_s"][2]))


def agents(sessions: int, rate_per_s: float, seed: int = 0) -> Columns:
    """Return turns of coding agents whose context grows, of units of 256 tokens that chain.

    A session begins with 4,000 to 30,000 tokens of its own, has 2 to 20 turns 5 s and more apart,
    and grows by about 2,000 tokens each turn.
    """
    rng = np.random.default_rng(seed)
    turns: list[tuple[float, int, int, str]] = []
    begin_s, known = 0.0, 0
    for _ in range(sessions):
        begin_s += rng.exponential(1 / rate_per_s)
        at_s, tokens = begin_s, int(rng.uniform(4_000, 30_000))
        units = list(range(known, known := known + tokens // 256))
        for _ in range(int(rng.integers(2, 21))):
            turns.append((at_s, tokens, int(rng.integers(50, 400)), " ".join(map(str, units))))
            more = int(rng.exponential(2_000)) + 50
            tokens += more
            units += range(known, known := known + tokens // 256 - len(units))
            at_s += 5.0 + rng.exponential(10.0)
    turns.sort()
    arrival, prompt, output, ids = (np.array(column) for column in zip(*turns, strict=True))
    return {
        **{"arrival_s": arrival, "prompt_tokens": prompt, "output_tokens": output},
        **{"prefix_ids": ids, "prefix_block_tokens": np.full(len(ids), 256)},
    }


ORDERED = {
    **{"gpu": "H100-SXM", "model": "Llama-3-8B", "engine": "sglang", "prefill_first": True},
    **{"max_num_seqs": 64, "max_num_batched_tokens": 8192, "kv_blocks": 24_000},
}


def waiting_clients(policy: str, clients: int = 100) -> Columns:
    """Return the requests of so many clients whose next one comes when the last is answered.

    Sessions as those of :func:`agents`, without the time between turns.
    """
    sessions = SessionGenerator(
        **{"sessions": 2 * clients, "system_tokens": 256, "prefix_block_tokens": 256},
        turns=Spread(10.0, 18.0, 20.0),
        prompt=Spread(15_000.0, 27_000.0, 30_000.0),
        new=Spread(1_400.0, 4_600.0, 10_000.0),
        output=Spread(200.0, 350.0, 400.0),
        tool_s=Spread(0.0, 0.0, 0.0),
        max_tokens=100_000,
    )
    workload = {"closed_loop": True, "preset": "agentic", "sessions": clients}
    replica = {**ORDERED, "scheduling_policy": policy}
    scenario = from_dict({"replicas": [replica], "workload": workload})
    scenario = replace(scenario, workload=ClosedLoop.of(Clients(sessions, clients)))
    rule = "routing/round-robin"
    return rollout(rule, make(rule), scenario, np.array([0])).first["requests"]


@remembered
def ordered(policy: str, clients: bool) -> Columns:
    """Return the requests of agents by the clock, or of clients who wait, in a policy's order."""
    if clients:
        return waiting_clients(policy)
    return play({**ORDERED, "scheduling_policy": policy}, agents(100, 0.12))


def order_rows() -> list[Row]:
    """Order of prompts where agents' turns overload a replica whose cache holds some of them.

    Turns by the clock, and of 100 clients, as there, of whom each waits for an answer.
    """
    name, found = "Order of prompts", []
    never = "by the clock FCFS never catches up"
    lost = "among equal lengths waits outlive the cache: hits of 5 % against 50; lengths not stated"
    for load in ("", ", 100 clients"):
        ttft = {}
        for policy in ("fcfs", "lpm", "hrrn"):
            table = ordered(policy, bool(load))
            ttft[policy] = table["first_token_s"] - table["arrival_s"]
        for what, new, old, published, note in (
            ("longest prefix over FCFS", "lpm", "fcfs", (16.4 / 24.2, 213.3 / 60.5), ("", never)),
            ("HRRN over longest prefix", "hrrn", "lpm", (7.48 / 16.4, 55.48 / 213.3), (lost, "")),
        ):
            means = float(ttft[new].mean() / ttft[old].mean())
            late = float(np.quantile(ttft[new], 0.99) / np.quantile(ttft[old], 0.99))
            for what_s, ours, theirs, why in (
                ("mean", means, published[0], note[0]),
                ("P99", late, published[1], note[1]),
            ):
                low, high = (0.0, 1.0) if theirs < 1 else (1.0, 10.0)
                said = why if not low <= ours <= high else ""
                each = row(name, f"{what_s} TTFT, {what}{load}", HRRN, low, high, ours, said)
                found.append({**each, "published": theirs})
    return found


def rows() -> list[Row]:
    """Return all rows: technique, target, source, low, high, simulated."""
    return [row for part in PARTS for row in part()]


PARTS = (kv_rows, static_rows, chunk_rows, order_rows)
CALLS = (
    *(Call(__name__, "mistral_per_s", (chunked,)) for chunked in (True, False)),
    *(Call(__name__, "ordered", (p, c)) for p in ("fcfs", "lpm", "hrrn") for c in (True, False)),
    *(Call(__name__, part.__name__) for part in (static_rows, kv_rows)),
)


MODELS = {
    "KV reservation": """
`kv_reservation` of a replica: `paged` blocks as tokens come, or one chunk of a power of two blocks
for all tokens that a request may have (`contiguous`), its output rounded up to a power of two
(`contiguous-pow2`) or known (`contiguous-oracle`), as the three Orcas of the PagedAttention paper.
Memory shows what is reserved; free blocks that lie apart are left out.""",
    "Continuous batching": """
`batching` of a replica: `continuous`, `static` or `dynamic` with `batch_wait_ms`. A batch as a
whole is padded to its longest prompt and output and returns when all of it is done
(`whole_batches.py`).""",
    "Chunked prefill": """
`chunked_prefill` and `prefill_first` of a replica: whether a prompt may be computed over several
steps, and whether decodes wait while there are prompts (`admission.py`).""",
    "Order of prompts": """
`scheduling_policy` of a replica: `fcfs`, `priority`, `lpm` (longest cached prefix) or `hrrn`
(highest ratio of wait and prefill to prefill), `order.py`.""",
}


def main() -> int:
    """Print the rows."""
    for item in rows():
        inside = item["low"] <= item["simulated"] <= item["high"]
        band = f"{item['low']:.3g} to {item['high']:.3g}"
        print(
            f"{item['technique']:20s} {item['target']:75s} {band:16s} {item['simulated']:8.3f} "
            f"{'inside' if inside else 'OUTSIDE'}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
