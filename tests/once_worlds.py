"""Transfers beside jobs on small networks, whose starts, ends and sizes are given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from network_worlds import Kind, Net, Run
from numpy.typing import NDArray

from gpuyard.envs.engine.core.compile import entry, kernel
from gpuyard.envs.engine.network.once import send, take_ended, take_free
from gpuyard.envs.engine.network.traffic import enter, move_on, next_event_s, progress, settle
from gpuyard.envs.engine.state import STATE

TRANSFER = np.dtype(
    [("start_s", "f8"), ("bytes", "f8"), ("source", "i4"), ("target", "i4"), ("gpus", "i4")]
)
"""A transfer from the GPUs that follow ``source`` to those that follow ``target``."""

ENDLESS = 1e6  # iterations


@dataclass
class Trip:
    """Jobs that run on and on, and transfers beside them.

    Attributes:
        net: the fabric; ``ports`` are set here.
        kinds, gpus, starts_s: of the jobs, as of :class:`network_worlds.Run`.
        transfers: TRANSFER (F,), by start.
        nic: bytes/s of a GPU's port.
    """

    net: Net
    kinds: list[Kind]
    gpus: list[list[int]]
    starts_s: list[float]
    transfers: NDArray[np.void]
    nic: float
    seed: int = 0
    run: Run = field(init=False)
    ports: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        ends = np.unique([self.transfers["source"], self.transfers["target"]])
        width = {
            int(t[end]): int(t["gpus"]) for t in self.transfers for end in ("source", "target")
        }
        ports = tuple(self.nic * width[int(gpu)] for gpu in ends)
        net = Net(**{**vars(self.net), "ports": ports})
        self.run = Run(net, self.kinds, len(self.kinds), self.seed, max(len(self.transfers), 1))
        first_port = len(self.run.arrays["capacity"]) - len(ends)
        self.ports = np.full(net.gpus, -1, np.int32)
        self.ports[ends] = first_port + np.arange(len(ends))
        for j in range(len(self.kinds)):
            self.run.set_job(j, j, ENDLESS)
        for gpu in ends:
            chain = np.arange(gpu, gpu + width[int(gpu)])
            self.run.arrays["gpu_next"][0, chain] = [*chain[1:], -1]

    def go(self, from_s: float, until_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the transfers' times (F,), and seconds per iteration of jobs between two times."""
        ended = np.full(len(self.transfers), np.nan)
        first = [gpus[0] for gpus in self.gpus]
        for gpus in self.gpus:
            self.run.arrays["gpu_next"][0, gpus] = [*gpus[1:], -1]
        done = np.zeros((2, len(self.kinds)))
        carry(
            *(self.run._table.ctypes.data, np.array(self.starts_s, float)),
            *(np.array(first, np.int64), self.transfers, self.ports),
            *(from_s, until_s, ended, done),
        )
        return ended - self.transfers["start_s"], (until_s - from_s) / (done[0] - done[1])

    def events(self) -> Iterator[float]:
        """Let all happen, event by event; yields the time after each."""
        run, jobs, gone, left = self.run, 0, 0, len(self.transfers)
        while left > 0:
            job_s = self.starts_s[jobs] if jobs < len(self.kinds) else math.inf
            send_s = self.transfers["start_s"][gone] if gone < len(self.transfers) else math.inf
            now_s = min(run.next_event_s(), job_s, send_s)
            if job_s <= now_s:
                run.enter(jobs, self.gpus[jobs], now_s)
                jobs += 1
            elif send_s <= now_s:
                launch(self.run._table.ctypes.data, self.transfers[gone], self.ports, gone, now_s)
                gone += 1
            else:
                run.advance(now_s)
                while landed(self.run._table.ctypes.data) >= 0:
                    left -= 1
            run.settle(now_s)
            yield now_s


arrays_at = STATE.at


@entry
def carry(address, starts, first, transfers, ports, from_s, until_s, ended, done):
    """Let jobs start and transfers go until all have arrived and ``until_s`` is reached."""
    w = arrays_at(address)
    jobs, gone, left, now_s, seen = 0, 0, len(transfers), 0.0, 0
    marks_s = (from_s, until_s)
    while left > 0 or seen < 2:
        mark_s = marks_s[seen] if seen < 2 else math.inf
        job_s = starts[jobs] if jobs < len(starts) else math.inf
        send_s = transfers[gone].start_s if gone < len(transfers) else math.inf
        event_s = next_event_s(w, 0)
        now_s = min(event_s, job_s, send_s, mark_s)
        if mark_s <= now_s:
            for j in range(len(starts)):
                done[seen, j] = progress(w, 0, j, now_s)
            seen += 1
        elif job_s <= now_s:
            w.senders[0, jobs].first_gpu = first[jobs]
            enter(w, 0, jobs, now_s)
            settle(w, 0, now_s)
            jobs += 1
        elif send_s <= now_s:
            w.network[0].hash_seed += np.uint64(1)  # jobs have their paths
            let_go(w, transfers[gone], ports, gone, now_s)
            gone += 1
        else:
            move_on(w, 0, now_s)
            client = take_ended(w, 0)
            while client >= 0:
                ended[client] = now_s
                left -= 1
                client = take_ended(w, 0)
            settle(w, 0, now_s)


@entry
def launch(address, transfer, ports, client, now_s):
    """Send one transfer; a way in for Python."""
    let_go(arrays_at(address), transfer, ports, client, now_s)


@entry
def landed(address):
    """Return a transfer that has arrived, -1: none."""
    return take_ended(arrays_at(address), 0)


@kernel
def let_go(w, transfer, ports, client, now_s):
    """Send one transfer."""
    k = take_free(w, 0)
    once = w.once[0, k]
    once.client, once.bytes, once.most_bytes_per_s = client, transfer.bytes, math.inf
    once.from_gpu, once.to_gpu = transfer.source, transfer.target
    once.from_ranks = once.to_ranks = transfer.gpus
    once.from_port, once.to_port = ports[transfer.source], ports[transfer.target]
    once.inside = 0
    send(w, 0, k, now_s)
