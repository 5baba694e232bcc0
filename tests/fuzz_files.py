"""Small mutations of scenario, trace and topology files, and how reading each of them ends.

    python tests/fuzz_files.py scenarios 3000 0
    python tests/fuzz_files.py traces 3000 0
    python tests/fuzz_files.py topologies 3000 0

Each file has to end in a ScenarioError or TraceError that names it, or in a world, a stream or a
cluster that can be used. Whatever else happens is printed, one line a file: how it ended, what was
changed, the message. Memory and time are limited, so that a count that asks for hundreds of GiB,
and an endless loop, end as a failure.
"""

from __future__ import annotations

import collections
import gzip
import random
import re
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_topologies import TOPOLOGIES
from fuzz_traces import JOBS, REQUESTS

LIMIT_BYTES = 6 * 2**30
LIMIT_S = 8.0  # of CPU: others may use the machine
NUMBER = re.compile(rb"(?<![\w.])-?\d+(\.\d+)?([eE][+-]?\d+)?")
NASTY = (
    *(b"0", b"-1", b"1", b"2", b"0.5", b"-0.0", b"65536", b"1e6", b"100000000", b"2147483647"),
    *(b"2147483648", b"4294967297", b"9223372036854775807", b"9223372036854775808", b"1e10"),
    *(b"1e18", b"1e-9", b"1e-300", b"1e-320", b"1e300", b"1e308", b"nan", b"inf", b"-inf"),
    *(b"1" + b"0" * 400, b"1" * 5000, b"1e400", b"true", b'""', b'"x"', b"", b"x", b"1_0"),
)
TOML_ONLY = (b"[]", b"{}", b"[1, 2]", b"{ a = 1 }", b"[[[]]]", b"[" * 400 + b"]" * 400, b"[" * 9999)
FIELDS = {  # known fields that a shipped file may leave out, by table
    "workload": "num_requests rate_per_s max_tokens rate_scale urgent_share prefix_block_tokens "
    "max_ids_per_request clients bursts modulation conversation prompt output trace format",
    "router": "signal_interval_s signal_interval_max_s hold_s hold_limit_s",
    "slo": "ttft_s tpot_s",
    "encoders": "count gpu connector cache_tokens",
    "estimates": "output duration sigma",
    "observation": "queue_rows aggregate",
    "network": "fidelity routing queue_pairs",
    "scheduler": "window preemption running_rows preempt_s checkpoint_s",
    "faults": "node_mtbf_h repair_h straggler_share straggler_speed",
    "reward": "waiting in_system",
    "jobs": "num_jobs rate_per_h interarrival_s load rate_scale max_gpus max_duration_s required "
    "preferred high_priority_share profiles arrivals tenants trace",
    "jobs.arrivals": "burst_shape window_s start_hour hours",
    "cluster": "preset num_gpus topology pools fabric",
    "cluster.fabric": "kind nodes_per_leaf rails leafs_per_pod spines uplinks oversubscription "
    "uplink_gbit core_uplinks core_oversubscription core_gbit planes spine_ports reconfigure_s",
    "replicas": "count tp ep dp dtype kv_dtype block_size engine max_num_seqs kv_blocks "
    "max_num_batched_tokens gpu_memory_utilization frontend_ms links batching batch_wait_ms "
    "chunked_prefill prefill_first long_prefill_token_threshold scheduling_policy kv_reservation "
    "prefix_caching",
    "cluster.pools": "gpus_per_node nodes nics_per_node nic_gbit scale_up_gbps nodes_per_leaf",
    "gpus.mine": "like memory_gb memory_gbps fp16_tflops fp8_tflops nic_gbit price_per_h",
    "models.mine": "layers hidden heads kv_heads head_dim ffn vocab experts",
}


class Slow(Exception):
    """A file takes too long."""


@dataclass(frozen=True)
class Case:
    """One mutated file: its name, its content, what was done to it."""

    name: str
    content: bytes
    done: str


def mutated(rng: random.Random, text: bytes, toml: bool) -> tuple[bytes, str]:
    """Return the text with one to three small mutations, and what they are."""
    done = []
    kinds: list[Callable[..., tuple[bytes, str]]] = [_number, _number, _number, _line, _byte]
    kinds += [_field, _field, _value] if toml else [_cell, _cell, _head]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        text, what = rng.choice(kinds)(rng, text)
        done.append(what)
    return text, "; ".join(done)


def _number(rng: random.Random, text: bytes) -> tuple[bytes, str]:
    found = list(NUMBER.finditer(text))
    if not found:
        return text, "nothing"
    at = rng.choice(found)
    new = rng.choice((*NASTY, at[0] + b"0", at[0] + b"000000", b"-" + at[0], b"0." + at[0]))
    return text[: at.start()] + new + text[at.end() :], f"{at[0]!r} -> {new[:30]!r}"


def _line(rng: random.Random, text: bytes) -> tuple[bytes, str]:
    lines = text.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.choice(("drop", "double", "swap", "cut"))
    if kind == "drop":
        del lines[i]
    elif kind == "double":
        lines.insert(j, lines[i])
    elif kind == "swap":
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines = lines[:i]
    return b"\n".join(lines), f"{kind} line {i + 1}"


def _byte(rng: random.Random, text: bytes) -> tuple[bytes, str]:
    i = rng.randrange(len(text) + 1)
    kind = rng.choice(("drop", "insert", "cut", "change"))
    new = rng.choice(
        (b"\xff", b"\xe9", b"\0", b'"', b",", b"=", b"[", b"]", b"{", b"x", b"-", b"9")
    )
    rest = {
        "drop": text[i + 1 :],
        "insert": new + text[i:],
        "cut": b"",
        "change": new + text[i + 1 :],
    }
    return text[:i] + rest[kind], f"{kind} {new!r} at byte {i}"


def _field(rng: random.Random, text: bytes) -> tuple[bytes, str]:
    """Give a known field a bad value, in its table if the file has that."""
    table = rng.choice(list(FIELDS))
    line = rng.choice(FIELDS[table].split()).encode() + b" = " + rng.choice(NASTY + TOML_ONLY)
    for head in (b"[[%b]]" % table.encode(), b"[%b]" % table.encode()):
        at = text.find(head + b"\n")
        if at >= 0:
            at += len(head) + 1
            return text[:at] + line + b"\n" + text[at:], f"{table}: {line[:40]!r}"
    many = table in ("replicas", "cluster.pools", "jobs.tenants")
    head = (b"[[%b]]" if many else b"[%b]") % table.encode()
    return text + b"\n" + head + b"\n" + line + b"\n", f"{table}: {line[:40]!r}"


def _value(rng: random.Random, text: bytes) -> tuple[bytes, str]:
    found = list(re.finditer(rb"(?m)(?<= = ).*$", text))
    if not found:
        return text, "nothing"
    at, new = rng.choice(found), rng.choice(NASTY + TOML_ONLY)
    return text[: at.start()] + new + text[at.end() :], f"{at[0]!r} -> {new[:30]!r}"


def _cell(rng: random.Random, text: bytes) -> tuple[bytes, str]:
    found = list(re.finditer(rb"[^,|\n\t {}\[\]:]+", text))
    if not found:
        return text, "nothing"
    at = rng.choice(found)
    new = rng.choice(
        (*NASTY, b"2" * 140_000, b"None", b"null", b"[1]", b"{}", b"9999-01-01 00:00:00")
    )
    return text[: at.start()] + new + text[at.end() :], f"{at[0][:30]!r} -> {new[:30]!r}"


def _head(rng: random.Random, text: bytes) -> tuple[bytes, str]:
    """Double a column's name, with or without its values."""
    lines = text.split(b"\n")
    comma = b"|" if b"|" in lines[0] else b","
    cells = lines[0].split(comma)
    name = rng.choice(cells)
    if rng.random() < 0.5:
        lines = [comma.join([*line.split(comma), line.split(comma)[0]]) for line in lines]
    lines[0] = comma.join([*cells, name])
    return b"\n".join(lines), f"double {name[:30]!r}"


def scenario_cases(count: int, seed: int) -> Iterator[Case]:
    """Yield mutations of the shipped scenarios."""
    from gpuyard.envs.shipped import FOLDER

    texts = [path.read_bytes() for path in sorted(FOLDER.glob("*.toml"))]
    for i in range(count):
        rng = random.Random(f"scenario {seed} {i}")
        yield Case("mine.toml", *mutated(rng, rng.choice(texts), toml=True))


def trace_cases(count: int, seed: int) -> Iterator[Case]:
    """Yield mutations of a small trace or job list of every format."""
    shapes = [(name, text.encode()) for name, text in (*REQUESTS.items(), *JOBS.items())]
    for i in range(count):
        rng = random.Random(f"trace {seed} {i}")
        name, text = shapes[i % len(shapes)]
        content, done = mutated(rng, text, toml=False)
        if rng.random() < 0.1:
            content = gzip.compress(content, mtime=0)
            cut = rng.randrange(len(content))
            content, done = (content[:cut], f"{done}; gzip cut") if cut % 2 else (content, done)
        yield Case(name, content, done)


def topology_cases(count: int, seed: int) -> Iterator[Case]:
    """Yield mutations of a tree, of blocks and of a YAML document with both."""
    for i in range(count):
        rng = random.Random(f"topology {seed} {i}")
        name, text = TOPOLOGIES[i % len(TOPOLOGIES)]
        if name == "document.yaml" and rng.random() < 0.5:  # the other one of the two kinds
            text = text.replace("true", "x").replace("false", "true").replace("x", "false")
        yield Case(name, *mutated(rng, text.encode(), toml=False))


def make_world(path: Path) -> None:
    """Read a scenario file and make the world that it describes."""
    import gymnasium as gym

    from gpuyard.envs.scenario import load
    from gpuyard.ids import id_for

    scenario = load(path)
    world = gym.make_vec(id_for(scenario), num_envs=1, scenario=scenario)
    world.reset(seed=0)
    world.close()


def read_trace(path: Path) -> None:
    """Read a trace or job list and look at what came of it."""
    if path.name in REQUESTS:
        from gpuyard.envs.workload.requests.readers import read as read_requests

        stream = read_requests(path)
        counts: tuple[Any, ...] = (stream.prompt_tokens, stream.output_tokens, stream.max_tokens)
        assert (stream.max_tokens >= stream.output_tokens).all()
    else:
        from gpuyard.envs.workload.jobs.readers import read as read_jobs

        jobs = read_jobs(path)
        counts = (jobs.gpus,)
        assert np.isfinite(jobs.duration_s).all() and (jobs.duration_s > 0).all()
        assert (jobs.duration_s < 1e11).all() and (jobs.gpus <= 2**20).all()
        stream = jobs  # type: ignore[assignment]
    assert all((count >= 1).all() for count in counts), "silently wrong counts"
    times = stream.arrival_s
    assert np.isfinite(times).all() and (times >= 0).all() and (times < 1e11).all(), "wrong times"
    assert (np.diff(times) >= 0).all(), "not in order of arrival"


def read_topology(path: Path) -> None:
    """Read a topology and make the cluster that it describes."""
    from gpuyard.envs.scenario import ScenarioError
    from gpuyard.envs.scenario.cluster import read_cluster

    pool = {"gpu": "T4", "gpus_per_node": 1}
    try:
        cluster = read_cluster({"topology": str(path), "pools": [pool]}, {})
    except ScenarioError as error:
        if "nodes is missing" not in str(error):
            raise
        cluster = read_cluster({"topology": str(path), "pools": [{**pool, "nodes": 4}]}, {})  # flat
    nodes = np.bincount(cluster.node_leaf)
    assert (nodes > 0).all() and len(nodes) == len(cluster.leaf_pod), "a leaf without nodes"
    assert (np.bincount(cluster.leaf_pod) > 0).all() and (cluster.fabric.capacity > 0).all()


KINDS: dict[str, tuple[Callable[[int, int], Iterator[Case]], Callable[[Path], None]]] = {
    "scenarios": (scenario_cases, make_world),
    "traces": (trace_cases, read_trace),
    "topologies": (topology_cases, read_topology),
}


def outcome(case: Case, folder: Path, end: Callable[[Path], None]) -> tuple[str, str]:
    """Return how a file ends, "read" or "refused" if as it should, and the message."""
    from gpuyard.envs.scenario import ScenarioError
    from gpuyard.envs.workload.trace_file import TraceError

    path = folder / case.name
    path.write_bytes(case.content)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        end(path)
        return "read", ""
    except (ScenarioError, TraceError) as error:
        named = str(path) in str(error) or (folder.name in str(error))
        short = len(str(error)) < 4000  # the longest names all models
        return ("refused" if named and short else "refused without its name"), str(error)[:300]
    except Slow:
        return "hang", ""
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return type(error).__name__, str(error)[:200]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def main(kind: str, count: int, seed: int) -> int:
    """Read so many mutated files; print what does not end well; return how many."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    signal.signal(signal.SIGPROF, _late)
    warnings.simplefilter("ignore")
    cases, end = KINDS[kind]
    ends: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        import gpuyard  # noqa: F401

        for case in cases(count, seed):
            how, message = outcome(case, Path(folder), end)
            ends[how] += 1
            if how not in ("read", "refused"):
                print(f"{how}: {case.name}: {case.done}: {message}", flush=True)
    print(dict(ends.most_common()))
    return count - ends["read"] - ends["refused"]


def _late(*_: object) -> None:
    raise Slow


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])) else 0)
