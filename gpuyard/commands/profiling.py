"""``gpuyard profile``: a replica's own constants, from measurements of it."""

from __future__ import annotations

import argparse
import os
import shlex
import time
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import positive

if TYPE_CHECKING:
    import threading

    from gpuyard.envs.perf.serving.closed_loop import Measurement

    from .profile_stream import Answer, Endpoint

REPLICA = ("gpu", "model", "tp", "dtype", "kv_dtype", "engine")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.description = (
        "Fit a replica's own constants to measured times, by least squares over the cost model, "
        "and write it as a [[replicas]] table. With --url the times are measured first."
    )
    parser.add_argument(
        "file", type=Path, help="CSV of measurements (docs/profile.md); with --url it is written"
    )
    replica = parser.add_argument_group("the replica that was measured")
    replica.add_argument("--gpu", help="of the catalogue: gpuyard list gpus")
    replica.add_argument("--model", help="of the catalogue, or the path of a config.json")
    replica.add_argument("--tp", type=positive, help="tensor-parallel degree (1)")
    replica.add_argument("--dtype", help="format of its weights (bf16)")
    replica.add_argument("--kv-dtype", help="format of its KV cache (bf16)")
    replica.add_argument("--engine", help="gpuyard list engines (the newest vLLM)")
    replica.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="any other field of a [[replicas]] table, such as max_num_seqs=128; several times",
    )
    parser.add_argument("--out", type=Path, help="TOML file to write (default: print it)")
    parser.add_argument("--force", action="store_true", help="overwrite --out, and FILE with --url")
    live = parser.add_argument_group("measuring an OpenAI-compatible endpoint")
    live.add_argument("--url", help="for example http://localhost:8000/v1")
    live.add_argument("--served", help="the model's name there (that of --model)")
    live.add_argument("--lengths", type=_numbers, default=[128, 1024, 4096], help="prompt tokens")
    live.add_argument("--concurrency", type=_numbers, default=[1, 4, 16], help="clients at a time")
    live.add_argument("--outputs", type=positive, default=128, help="mean output tokens (128)")
    live.add_argument("--requests", type=positive, default=4, help="to measure of each client (4)")
    live.add_argument("--most-requests", type=positive, default=1000, help="to send in all (1000)")
    live.add_argument("--time-limit-s", type=float, default=1800.0, help="for all points (1800)")
    live.add_argument("--key-variable", help="environment variable with the key to send")
    live.add_argument("--resume", action="store_true", help="go on: points in FILE are kept")


def run(options: argparse.Namespace) -> int:
    """Measure if asked, fit if it is said what was measured; return the exit status."""
    if options.out and options.out.exists() and not options.force:
        raise ValueError(f"--out {options.out} exists: add --force to overwrite it")
    row = _replica(options)
    if options.url:
        _measure(options)
    if row:
        _fit(options, row)
    return 0


def _replica(options: argparse.Namespace) -> dict[str, Any]:
    """Return the ``[[replicas]]`` table that was described; empty: none, which --url allows."""
    row = {name: getattr(options, name) for name in REPLICA if getattr(options, name) is not None}
    for text in options.set:
        name, equals, value = text.partition("=")
        try:
            row.update(tomllib.loads(f"{name} = {value}"))
        except tomllib.TOMLDecodeError:
            raise ValueError(
                f"--set {text}: give FIELD=VALUE as in TOML, such as links='\"pcie\"'"
            ) from None
        if not equals or name.strip() in ("count", "kv_blocks", "calibration"):
            raise ValueError(f"--set {text}: give a field that a replica is fitted with")
    if options.url and not options.gpu:
        return {}
    for name in ("gpu", "model"):
        if name not in row:
            raise ValueError(f"--{name} is missing: which {name} was measured?")
    return row


def _fit(options: argparse.Namespace, row: dict[str, Any]) -> None:
    """Fit, print what was found, and write or print the replica."""
    from gpuyard.envs.perf.serving.calibrate import fit
    from gpuyard.envs.perf.serving.closed_loop import check
    from gpuyard.envs.scenario.deployments import read_replica

    from .profile_rows import read
    from .profile_text import replica_toml, report

    deployment = read_replica(row, "replica", {}, {}, Path()).deployment
    measured: list[Measurement] = []
    for line, measurement, _ in read(options.file):
        try:
            check(deployment, measurement)
        except ValueError as error:
            raise ValueError(f"{options.file}, line {line}: {error}") from None
        measured.append(measurement)
    found = fit(deployment, measured)
    said = report(found, measured)
    print(said)
    text = replica_toml(found, row, said, _command(options, row), options.file.name)
    if options.out is None:
        print(f"\n{text}", end="")
        return
    options.out.write_text(text, encoding="utf-8")
    print(f"\nsaved {options.out}: its [[replicas]] table goes into a scenario")


def _command(options: argparse.Namespace, row: dict[str, Any]) -> str:
    """Return the command that fits the same replica to the same file."""
    words = ["gpuyard", "profile", str(options.file)]
    for name in REPLICA:
        if name in row:
            words += [f"--{name.replace('_', '-')}", str(row[name])]
    for text in options.set:
        words += ["--set", text]
    return shlex.join(words)


def _measure(options: argparse.Namespace) -> None:
    """Measure each point that the file lacks, and add it to the file."""
    from . import profile_live as live
    from .profile_rows import append

    endpoint = _endpoint(options)
    done = _done(options)
    deadline_s = time.monotonic() + options.time_limit_s
    sent, seed = 0, time.time_ns()  # no prompt of an earlier measurement comes again
    for length in options.lengths:
        for clients in options.concurrency:
            if (clients, length) in done:
                continue
            requests = options.requests * clients
            most = live.most_sent(clients, requests)
            if sent + most > options.most_requests:
                print(
                    f"stopped before {clients} clients of {length} tokens, which may send {most} "
                    f"requests: {sent} of --most-requests {options.most_requests} are spent; "
                    "--resume goes on"
                )
                return
            one = partial(_one, endpoint, length, options.outputs, seed + sent)
            answers = live.closed_loop(one, clients, requests, deadline_s)
            sent += most
            if len(answers) < requests:
                print(f"stopped after --time-limit-s {options.time_limit_s:g}; --resume goes on")
                return
            row = live.row(answers, clients, length)
            append(options.file, row)
            print(
                f"{clients} clients, {row['prompt_tokens']} prompt tokens: TTFT "
                f"{1e3 * row['ttft_s']:.1f} ms, ITL {1e3 * row['itl_s']:.2f} ms",
                flush=True,
            )


def _one(
    endpoint: Endpoint, length: int, outputs: int, start: int, number: int, stop: threading.Event
) -> Answer:
    """Send a request with a prompt of its own."""
    from .profile_live import varied
    from .profile_stream import ask

    seed = start + number
    return ask(endpoint, length, varied(outputs, seed), seed, stop)


def _endpoint(options: argparse.Namespace) -> Endpoint:
    from .profile_stream import Endpoint

    name = options.served or options.model
    if not name:
        raise ValueError("--served is missing: the model's name at the endpoint")
    if options.outputs < 2:
        raise ValueError("--outputs 1: give 2 or more, there is a time between two tokens only")
    if not options.time_limit_s > 0:
        raise ValueError(f"--time-limit-s {options.time_limit_s:g}: must be above 0")
    key = ""
    if options.key_variable:
        key = os.environ.get(options.key_variable, "")
        if not key:
            raise ValueError(f"--key-variable {options.key_variable}: no such variable is set")
    return Endpoint(options.url, name, key)


def _done(options: argparse.Namespace) -> set[tuple[int, int]]:
    """Return the points that the file has: clients and length."""
    from .profile_rows import read

    if not options.file.exists():
        return set()
    if options.resume:
        return {
            (row.concurrency, others.get("length", row.prompt_tokens))
            for _, row, others in read(options.file)
        }
    if not options.force:
        raise ValueError(
            f"{options.file} exists: add --resume to go on, or --force to overwrite it"
        )
    options.file.unlink()
    return set()


def _numbers(text: str) -> list[int]:
    """Return whole numbers above 0, comma separated, ascending."""
    try:
        return sorted({positive(word) for word in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be whole numbers with commas between"
        ) from None
