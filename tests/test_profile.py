"""``gpuyard profile``: a real HTTP server on loopback is measured, files are read and written."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import pytest
from test_calibrate import SYNC, TRUE, rows
from test_cli import fails

import gpuyard  # noqa: F401
from gpuyard.cli import main
from gpuyard.commands import profile_stream
from gpuyard.commands.profile_live import closed_loop, most_sent
from gpuyard.commands.profile_stream import Answer, Endpoint, ask
from gpuyard.envs.scenario import load

TOKENS = 12


class Clock:
    """Time that only the server moves, each time when the client has read it once more."""

    def __init__(self) -> None:
        self.now_s, self.reads, self.changed = 100.0, 0, threading.Condition()

    def perf_counter(self) -> float:
        with self.changed:
            self.reads += 1
            self.changed.notify_all()
            return self.now_s

    def pass_s(self, seconds: float, reads: int) -> None:
        """Let time pass as soon as the client has read the clock so often."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.reads >= reads, timeout=30)
            self.now_s += seconds


class Server:
    """An endpoint that streams, and what it saw."""

    def __init__(self, wait: Callable[[int], None] = lambda token: None, usage: bool = True):
        self.wait, self.usage = wait, usage
        self.status, self.kind, self.ending = 200, "text/event-stream", b"data: [DONE]\n\n"
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.under_way, self.most, self.lock = 0, 0, threading.Lock()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Stream a completion."""
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.bodies.append(body)
            self.keys.append(handler.headers["Authorization"])
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            handler.send_response(self.status)
            handler.send_header("Content-Type", self.kind)
            handler.end_headers()
            for token in range(body["max_tokens"]):
                self.wait(token)
                with self.lock:  # before the client can know the end
                    self.under_way -= token == body["max_tokens"] - 1
                handler.wfile.write(b'data: {"choices": [{"text": " a"}]}\n\n')
            if self.usage:
                length = len(body["prompt"].split()) + 3  # as a tokeniser may count
                usage = {"prompt_tokens": length, "completion_tokens": body["max_tokens"]}
                handler.wfile.write(f"data: {json.dumps({'usage': usage})}\n\n".encode())
            handler.wfile.write(self.ending)
        except OSError:
            pass  # the client gave up

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yield the URL."""
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answer(self)

            def log_message(self, *words: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
            thread = threading.Thread(target=http.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{http.server_port}/v1"
            finally:
                http.shutdown()
                thread.join()


def once(url: str, length: int = 5, **settings: str) -> Answer:
    return ask(Endpoint(url, "m", **settings), length, TOKENS, 1, threading.Event())


@pytest.mark.parametrize("usage", [True, False])
def test_times_are_those_of_the_servers_clock(monkeypatch: Any, usage: bool) -> None:
    clock = Clock()
    monkeypatch.setattr(profile_stream, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    # the client reads the clock when it sends, and at each token
    server = Server(lambda n: clock.pass_s(0.004 * n if n else 0.25, n + 1), usage)
    with server.running() as url:
        answer = once(url, key="secret")
    assert answer.ttft_s == pytest.approx(0.25, rel=1e-9)
    assert answer.itl_s == pytest.approx(0.004 * sum(range(TOKENS)) / (TOKENS - 1), rel=1e-9)
    assert (answer.prompt_tokens, answer.output_tokens) == (8 if usage else 5, TOKENS)
    assert server.keys == ["Bearer secret"]
    (body,) = server.bodies
    assert body["stream"] is body["ignore_eos"] is True
    assert (body["model"], body["max_tokens"], len(body["prompt"].split())) == ("m", TOKENS, 5)


def test_real_times_lie_between_what_server_and_caller_saw() -> None:
    sent: list[float] = []

    def wait(token: int) -> None:
        time.sleep(0.05 if token == 0 else 0.002)
        sent.append(time.perf_counter())

    with Server(wait).running() as url:
        began = time.perf_counter()
        answer = once(url)
        ended = time.perf_counter()
    whole_s = answer.ttft_s + answer.itl_s * (TOKENS - 1)
    assert 0.05 <= answer.ttft_s < whole_s
    assert sent[-1] - sent[0] + 0.05 <= whole_s <= ended - began


def test_load_never_exceeds_the_clients() -> None:
    gate = threading.Barrier(3)  # nobody is answered before three are under way
    server = Server()

    def wait(token: int) -> None:
        if token == 0 and len(server.bodies) <= 3:
            gate.wait(timeout=30)

    server.wait = wait
    with server.running() as url:
        endpoint = Endpoint(url, "m")
        answers = closed_loop(
            lambda number, stop: ask(endpoint, 4, TOKENS, number, stop), 3, 6, time.monotonic() + 60
        )
    assert len(answers) == 6
    assert server.most == 3
    assert 9 <= len(server.bodies) <= most_sent(3, 6)
    prompts = [body["prompt"] for body in server.bodies]
    assert len(set(prompts)) == len(prompts)


def test_no_time_no_answers() -> None:
    with Server(lambda token: time.sleep(0.01)).running() as url:
        endpoint = Endpoint(url, "m")
        late = time.monotonic() - 1
        answers = closed_loop(lambda n, stop: ask(endpoint, 4, TOKENS, n, stop), 2, 10**6, late)
    assert len(answers) < 10**6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": 404}, "404 Not Found: .*does the URL end with /v1"),
        ({"status": 429}, "429 Too Many Requests: .*smaller --concurrency"),
        ({"status": 401}, "401 Unauthorized: .*--key-variable"),
        ({"kind": "application/json"}, "answered application/json, not a stream of events"),
        ({"ending": b""}, "the stream broke off before"),
        ({"ending": b'data: {"error": "out of memory"}\n\n'}, 'says {"error": "out of memory"}'),
        ({"ending": b"data: what\n\n"}, "the stream says what"),
    ],
)
def test_errors_of_the_endpoint_are_one_line(change: dict[str, Any], words: str) -> None:
    server = Server()
    vars(server).update(change)
    with server.running() as url, pytest.raises(ConnectionError, match=words) as error:
        once(url)
    assert "\n" not in str(error.value)


def live(url: str, file: Path, *more: str) -> list[str]:
    points = ["--lengths", "8,16", "--concurrency", "1,2", "--outputs", "8", "--requests", "3"]
    return ["profile", str(file), "--url", url, "--served", "m", *points, *more]


def written(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_points_are_appended_and_resumed(tmp_path: Path, capsys: Any) -> None:
    file, server = tmp_path / "m.csv", Server()
    with server.running() as url:
        # room for the points (8, 1) and (8, 2): 4 and 9 requests at most
        assert main(live(url, file, "--most-requests", "13")) == 0
        assert "stopped before 1 clients of 16 tokens" in capsys.readouterr().out
        first = written(file)
        assert [(r["length"], r["concurrency"]) for r in first] == [("8", "1"), ("8", "2")]
        assert [r["prompt_tokens"] for r in first] == ["11", "11"]  # as the endpoint counts
        assert [r["requests"] for r in first] == ["3", "6"]
        assert {body["max_tokens"] for body in server.bodies} <= set(range(6, 11))
        assert all(6 <= int(r["output_tokens"]) <= 10 for r in first)
        assert "--resume to go on, or --force" in fails(capsys, *live(url, file))
        server.bodies.clear()
        assert main(live(url, file, "--resume")) == 0
        assert {len(body["prompt"].split()) for body in server.bodies} == {16}
        assert written(file)[:2] == first
        assert len(written(file)) == 4
        assert main(live(url, file, "--force", "--lengths", "8", "--concurrency", "1")) == 0
        assert len(written(file)) == 1


def test_interruption_keeps_what_was_measured(tmp_path: Path, capsys: Any) -> None:
    file, server = tmp_path / "m.csv", Server()

    def asleep(*_: object) -> None:
        raise KeyboardInterrupt

    with server.running() as url:
        assert main(live(url, file, "--concurrency", "1", "--lengths", "8")) == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gpuyard.commands.profile_live.time", SimpleNamespace(monotonic=asleep))
            server.wait = lambda token: time.sleep(0.05)
            assert main(live(url, file, "--resume")) == 130
    assert len(written(file)) == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--url", "localhost:8000"], "--url localhost:8000: give for example http://"),
        (["--url", "http://127.0.0.1:9/v1", "--served", "m"], "is the server up?"),
        (["--url", "http://h/v1"], "--served is missing"),
        (["--url", "http://h/v1", "--served", "m", "--outputs", "1"], "--outputs 1: give 2"),
        (["--url", "http://h/v1", "--served", "m", "--key-variable", "NO_SUCH"], "no such vari"),
        (["--gpu", "H100-SXM"], "--model is missing"),
        (["--gpu", "H100-SXM", "--model", "Llama-3.1-8B", "--set", "links"], "FIELD=VALUE"),
        (["--gpu", "H100-SXM", "--model", "Llama-3.1-8B", "--set", "speed=1"], "replica.speed is"),
        (["--gpu", "H100-SXM", "--model", "Llama-3.1-8B"], "No such file"),
    ],
)
def test_wrong_words_are_refused(tmp_path: Path, capsys: Any, more: list[str], words: str) -> None:
    if "localhost:8000" in more:
        more = [*more, "--served", "m"]
    assert words in fails(capsys, "profile", str(tmp_path / "no.csv"), *more)


HEADER = "concurrency,prompt_tokens,output_tokens,ttft_s,itl_s\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: column concurrency is missing; use concurrency, prompt_tokens"),
        (HEADER, "has no rows"),
        (HEADER.replace("itl_s", "itl_ms"), "line 1: column 'itl_ms' is unknown; use"),
        (HEADER.replace("ttft_s", "itl_s"), "line 1: a column stands twice"),
        ("concurrency,prompt_tokens,output_tokens\n", "line 1: give ttft_s or itl_s"),
        (HEADER + "1,8,4,0.1,0.01\n0,8,4,0.1,0.01\n", "line 3: concurrency = '0' must be a whole"),
        (HEADER + "1,8.5,4,0.1,0.01\n", "line 2: prompt_tokens = '8.5' must be a whole number"),
        (HEADER + "1,8,1,0.1,0.01\n", "line 2: output_tokens = '1' must be a whole number from 2"),
        (HEADER + "1,8,4,-1,0.01\n", "line 2: ttft_s = '-1' must be a number of seconds above 0"),
        (HEADER + "1,8,4,,nan\n", "line 2: itl_s = 'nan' must be a number of seconds above 0"),
        (HEADER + "1,8,4,0.1\n", "line 2: it must have as many cells as the header"),
        (HEADER + "1,8,4,0.1,0.01,7\n", "line 2: it must have as many cells as the header"),
        (HEADER + "9999,8,4,0.1,0.01\n", "line 2: concurrency = 9999: the replica runs 1 to"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, capsys: Any, text: str, words: str) -> None:
    file = tmp_path / "m.csv"
    file.write_text(text)
    replica = ["--gpu", "H100-SXM", "--model", "Llama-3.1-8B"]
    assert words in fails(capsys, "profile", str(file), *replica)


def test_a_profiled_replica_serves_a_scenario(tmp_path: Path, capsys: Any) -> None:
    file, out = tmp_path / "m.csv", tmp_path / "replica.toml"
    known = replace(SYNC, max_num_seqs=128, frontend_ms=12.0, calibration=TRUE)
    with file.open("w") as opened:
        opened.write(HEADER)
        for row in rows(known):
            ttft = "" if row.concurrency > 1 else row.ttft_s
            opened.write(f"{row.concurrency},{row.prompt_tokens},64,{ttft},{row.itl_s}\n")
    command = ["profile", str(file), "--gpu", "H100-SXM", "--model", "Llama-3.1-8B"]
    command += ["--engine", "vllm-0.12", "--set", "max_num_seqs=128", "--out", str(out)]
    assert main(command) == 0
    assert "stays as it is" not in capsys.readouterr().out
    assert "add --force to overwrite it" in fails(capsys, *command)
    text = out.read_text()
    assert text.startswith(f"# gpuyard profile {file} --gpu H100-SXM")
    assert 'source = "m.csv"' in text
    assert main([*command, "--force"]) == 0
    assert out.read_text() == text
    out.write_text(text + '\n[workload]\npreset = "chat"\nnum_requests = 8\n')
    world = load(out)
    own = world.replicas[0].deployment
    assert own.calibration is not None
    assert own.calibration.prefill == pytest.approx(TRUE.prefill, rel=1e-5)
    assert own.calibration.step_ms == pytest.approx(TRUE.step_ms, rel=1e-5)
    assert own.frontend_ms == pytest.approx(12.0, rel=1e-5)
    env = gym.make("gpuyard/Routing-v0", scenario=str(out)).unwrapped
    env.reset(seed=1)
    ended = False
    while not ended:
        *_, ended, truncated, _info = env.step(0)
        ended = ended or truncated
    assert any("m.csv" in fact.source for fact in env.provenance())
