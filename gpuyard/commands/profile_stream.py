"""One stream of an OpenAI-compatible endpoint and its times, with the standard library."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

WORDS = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work number night "
    "point home water room mother area money story fact month lot right study book eye job word"
).split()
"""Common words, which tokenisers have as one token each."""


class Stopped(Exception):
    """The loop ended while this request was under way."""


@dataclass(frozen=True)
class Endpoint:
    """Where requests go.

    Attributes:
        url: up to the version, for example ``http://localhost:8000/v1``.
        model: its name there.
        key: sent as bearer token; "": none.
        timeout_s: without a byte for so long a request has failed.

    Raises:
        ValueError: the URL is none of HTTP.
    """

    url: str
    model: str
    key: str = ""
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"--url {self.url}: give for example http://localhost:8000/v1")

    @property
    def address(self) -> str:
        """Where completions are asked for."""
        return f"{self.url.rstrip('/')}/completions"

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection that is not yet open."""
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return kind(str(parts.hostname), parts.port, timeout=self.timeout_s)


@dataclass(frozen=True)
class Answer:
    """One answered request: seconds to the first token and between two, and tokens."""

    ttft_s: float
    itl_s: float
    prompt_tokens: int
    output_tokens: int


def ask(
    endpoint: Endpoint, length: int, output_tokens: int, seed: int, stop: threading.Event
) -> Answer:
    """Stream one completion of a random prompt, which no cache has.

    Args:
        endpoint: who is asked.
        length: words of the prompt; its tokens, unless the endpoint reports others.
        output_tokens: of the answer; the endpoint is asked to ignore its end.
        seed: of the words.
        stop: ends the request between two tokens.

    Raises:
        ConnectionError: what the endpoint did instead, in a line.
        Stopped: ``stop`` was set.
    """
    body = {
        "model": endpoint.model,
        "prompt": " ".join(random.Random(seed).choices(WORDS, k=length)),
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"Content-Type": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    connection = endpoint.connect()
    try:
        connection.connect()  # so that TTFT is without it, as behind a router's open connections
        sent_s = time.perf_counter()
        connection.request("POST", urlsplit(endpoint.address).path, json.dumps(body), headers)
        response = connection.getresponse()
        _check(endpoint, response)
        return _answer(endpoint, _events(endpoint, response), sent_s, length, stop)
    except (http.client.HTTPException, OSError) as error:
        if isinstance(error, _Refused):
            raise
        why = str(error) or type(error).__name__
        raise ConnectionError(f"{endpoint.address}: {why}; is the server up?") from error
    finally:
        connection.close()


class _Refused(ConnectionError):
    """The endpoint was reached, and did not do as asked."""


REMEDIES = {
    401: "; give --key-variable",
    404: "; does the URL end with /v1, and is --served a model there?",
    429: "; it limits requests: give a smaller --concurrency",
}


def _check(endpoint: Endpoint, response: http.client.HTTPResponse) -> None:
    if response.status != 200:
        text = " ".join(response.read(300).decode("utf-8", "replace").split())
        remedy = REMEDIES.get(response.status, "")
        raise _Refused(
            f"{endpoint.address}: {response.status} {response.reason}: {text[:200]}{remedy}"
        )
    kind = response.getheader("Content-Type", "")
    if "text/event-stream" not in kind:
        raise _Refused(f"{endpoint.address}: answered {kind or 'no type'}, not a stream of events")


def _events(endpoint: Endpoint, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield what the stream says, until it says that it is done."""
    while line := response.readline():
        field, _, value = line.decode("utf-8", "replace").strip().partition(":")
        if field != "data":
            continue
        if value.strip() == "[DONE]":
            return
        try:
            event = json.loads(value)
        except ValueError:
            event = None
        if not isinstance(event, dict) or "error" in event:
            raise _Refused(f"{endpoint.address}: the stream says {value.strip()[:200]}")
        yield event
    raise _Refused(f"{endpoint.address}: the stream broke off before [DONE]")


def _answer(
    endpoint: Endpoint,
    events: Iterator[dict[str, Any]],
    sent_s: float,
    length: int,
    stop: threading.Event,
) -> Answer:
    first_s = last_s = 0.0
    tokens, usage = 0, dict[str, Any]()
    for event in events:
        if stop.is_set():
            raise Stopped
        usage = event.get("usage") or usage
        if event.get("choices"):
            last_s = time.perf_counter()
            first_s = first_s or last_s
            tokens += 1
    tokens = int(usage.get("completion_tokens", tokens))
    if tokens < 2 or last_s == first_s:
        raise _Refused(f"{endpoint.address}: {tokens} tokens at once; it must stream 2 or more")
    prompt = int(usage.get("prompt_tokens", length))
    return Answer(first_s - sent_s, (last_s - first_s) / (tokens - 1), prompt, tokens)
