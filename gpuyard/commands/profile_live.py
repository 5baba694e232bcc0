"""A closed loop of clients at an endpoint: load that never exceeds their number."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable

from .profile_stream import Answer, Stopped

Ask = Callable[[int, threading.Event], Answer]
"""Sends request number n and returns its answer, or raises where the event is set meanwhile."""
SPREAD = 0.25
"""Answers are up to so much shorter or longer than asked for, at random. Equal ones would end and
begin in waves, without prompts between their tokens, as no real load does."""


def varied(output_tokens: int, seed: int) -> int:
    """Return the length of one answer."""
    least, most = (round(output_tokens * (1 + sign * SPREAD)) for sign in (-1, 1))
    return random.Random(seed).randint(max(least, 2), most)


def closed_loop(one: Ask, clients: int, requests: int, deadline_s: float) -> list[Answer]:
    """Keep ``clients`` requests under way until ``requests`` have been answered.

    The first answer of each client is left out: they begin together, as no later ones do. What is
    under way at the end is given up, so that all measured requests had company.

    Args:
        one: sends a request.
        clients: at any time.
        requests: to measure.
        deadline_s: of ``time.monotonic()``; later everything is given up.

    Returns:
        The answers; fewer than ``requests`` if time ran out.

    Raises:
        ConnectionError: the first that a client met.
    """
    stop, lock = threading.Event(), threading.Lock()
    answers: list[Answer] = []
    failures: list[BaseException] = []

    def client(number: int) -> None:
        try:
            for turn in range(requests + 1):
                if stop.is_set():
                    return
                answer = one(turn * clients + number, stop)
                with lock:
                    if turn and len(answers) < requests:
                        answers.append(answer)
                    if len(answers) == requests:
                        stop.set()
        except Stopped:
            pass
        except Exception as error:
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(clients)]
    for thread in threads:
        thread.start()
    try:
        while not stop.wait(0.05) and time.monotonic() < deadline_s:
            pass
    finally:
        stop.set()
    for thread in threads:  # not after Ctrl-C: they end with the process
        thread.join()
    if failures:
        raise failures[0]
    return answers


def most_sent(clients: int, requests: int) -> int:
    """Return how many requests a closed loop sends at most."""
    return requests + 2 * clients - 1


def row(answers: list[Answer], clients: int, length: int) -> dict[str, float]:
    """Return what is measured: the median TTFT, means of the rest."""
    return {
        "concurrency": clients,
        "prompt_tokens": round(statistics.mean(a.prompt_tokens for a in answers)),
        "output_tokens": round(statistics.mean(a.output_tokens for a in answers)),
        "ttft_s": round(statistics.median(a.ttft_s for a in answers), 7),
        "itl_s": round(statistics.mean(a.itl_s for a in answers), 7),
        "requests": len(answers),
        "length": length,
    }
