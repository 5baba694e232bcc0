"""The router of vllm-router on loopback, before workers that only say who was asked."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

WORKERS = 4
START_S = 60.0  # the router checks its workers before it listens


class Worker(ThreadingHTTPServer):
    """A mock engine: notes each completion, answers it once it is let go."""

    daemon_threads = True

    def __init__(self, index: int, asked: queue.Queue[tuple[int, threading.Event]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.index, self.asked = index, asked
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Worker

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        models = {"object": "list", "data": [{"id": "mock", "object": "model"}]}
        self._answer(models if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/completions":  # cache_aware asks for tokens; without, it matches text
            self._answer({}, "404 Not Found")
            return
        go = threading.Event()
        self.server.asked.put((self.server.index, go))
        go.wait(60.0)
        self._answer({"id": "x", "object": "text_completion", "choices": []})

    def _answer(self, body: dict, status: str = "200 OK") -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        self.wfile.write(head.encode() + b"\r\n\r\n" + data)


class InFlight:
    """A request that a worker holds.

    Attributes:
        worker: the index of the one that the router chose.
    """

    def __init__(
        self, port: int, prompt: str | list[int], session: str, asked: queue.Queue
    ) -> None:
        body = json.dumps({"model": "mock", "prompt": prompt, "max_tokens": 1})
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        headers = {"Content-Type": "application/json"}
        if session:
            headers["X-Session-ID"] = session
        self._connection.request("POST", "/v1/completions", body, headers)
        self.worker, self._go = asked.get(timeout=30)

    def finish(self) -> None:
        """Let the worker answer, and read the answer to its end."""
        self._go.set()
        response = self._connection.getresponse()
        assert response.status == 200, response.read()
        response.read()
        self._connection.close()


class Router:
    """A running router; a context manager that ends it.

    Args:
        policy: as its command line names it.
        options: more of its command line.

    Attributes:
        urls: of the workers, in the order of the command line.
    """

    def __init__(self, policy: str, *options: str) -> None:
        self._asked: queue.Queue[tuple[int, threading.Event]] = queue.Queue()
        self._workers = [Worker(index, self._asked) for index in range(WORKERS)]
        self.urls = [f"http://127.0.0.1:{worker.server_port}" for worker in self._workers]
        self._port = _free_port()
        command = [sys.executable, "-m", "vllm_router.launch_router", "--host", "127.0.0.1"]
        command += ["--port", str(self._port), "--prometheus-port", str(_free_port())]
        command += ["--log-level", "error", "--policy", policy, *options]
        command += ["--worker-urls", *self.urls]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def __enter__(self) -> Router:
        end = time.monotonic() + START_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > end:
                self.__exit__(None, None, None)
                raise RuntimeError(f"vllm-router did not start; exit {self._process.poll()}")
            time.sleep(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for worker in self._workers:
            worker.shutdown()
            worker.server_close()

    def send(self, prompt: str | list[int], session: str = "") -> InFlight:
        """Send a request; return it once a worker has it."""
        return InFlight(self._port, prompt, session, self._asked)

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
