"""What must hold at every decision of many joint worlds at once, as sums over whole arrays.

The same as :class:`cluster_worlds.Check` says of one world, and more: devices are counted node by
node, requests in flight replica by replica. Axes: E worlds, J gangs, R replicas, N requests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cluster_worlds import GPUS_PER_NODE
from numpy.typing import NDArray

from gpuyard.envs.engine.core.owners import FREE
from gpuyard.envs.engine.gangs.records import FINISHED, PENDING, RUNNING
from gpuyard.envs.engine.serving.records import (
    COMING,
    DECODE,
    DRAINING,
    MOVING,
    OFF,
    PREFILL,
    QUEUED,
    SERVING,
    STARTING,
    TURNING,
    WHOLE,
)

Array = NDArray[Any]


def count(mask: Array, numbers: Array, size: int, weights: Array | None = None) -> Array:
    """Count what a mask (E, K) picks by its number, or sum its weights; returns (E, size)."""
    worlds = np.nonzero(mask)[0]
    chosen = None if weights is None else weights[mask]
    cells = worlds * size + numbers[mask]
    return np.bincount(cells, chosen, minlength=len(mask) * size).reshape(len(mask), size)


class JointCheck:
    """Checks all worlds of a vector environment, and remembers what must not go back.

    Args:
        env: a vector environment whose worlds go on by themselves.
    """

    def __init__(self, env: Any) -> None:
        self.state, self.shared = env._world.state, env._world.shared
        self.now_s = np.full(env.num_envs, -1.0)
        self.ended = np.zeros(env.num_envs, int)

    def __call__(self, anew: Array) -> None:
        """Check; ``anew``, bool (E,): worlds that have begun since the last call."""
        now_s, finished = self.state["clock"]["now_s"], self.state["router"]["finished"]
        assert (now_s >= np.where(anew, -1.0, self.now_s)).all(), "time ran back"
        assert (finished >= np.where(anew, 0, self.ended)).all(), "a finished request came back"
        self.now_s, self.ended = now_s.copy(), finished.copy()
        self.devices()
        self.gangs()
        self.replicas(now_s)
        self.turns()
        self.requests()
        self.transfers()
        self.handovers()

    def devices(self) -> None:
        """A gang holds all of its devices or none, and each device is held, free or down."""
        jobs, owner = self.state["jobs"], self.state["gpu_owner"]
        held = count(owner >= 0, owner, jobs.shape[1])
        running = jobs["status"] == RUNNING
        assert (held == np.where(running, jobs["gpus"], 0)).all(), "part of a gang"
        nodes = (owner == FREE).reshape(len(owner), -1, GPUS_PER_NODE).sum(2)
        assert (self.state["node_free"] == nodes).all(), "free devices are miscounted"
        assert (self.state["used_memory"] <= 1 + 1e-6).all(), "more memory than there is"
        room = self.shared["capacity"] * (1 + 1e-9)
        assert (self.state["link_rate"] <= room).all(), "more on a link than it carries"
        idle = ~running.any(1) & (self.state["network"]["once_running"] == 0)
        assert (abs(self.state["link_rate"][idle]) <= 1e-6 * room).all(), "a link stays reserved"

    def gangs(self) -> None:
        """Every gang is counted once."""
        jobs, gangs = self.state["jobs"], self.state["gangs"]
        status, training = jobs["status"], jobs["service"] < 0
        assert (gangs["pending"] == (status == PENDING).sum(1)).all()
        assert (gangs["running"] == ((status == RUNNING) & training).sum(1)).all()
        assert (gangs["pending_jobs"] == ((status == PENDING) & training).sum(1)).all()
        assert (gangs["finished"] == (status == FINISHED).sum(1)).all(), "a gang is lost"

    def replicas(self, now_s: Array) -> None:
        """A replica stands where its gang does."""
        replicas, specs = self.state["replicas"], self.shared["replica_specs"]
        phase, status = replicas["phase"], self.state["jobs"]["status"][:, specs["gang"]]
        placed = np.isin(phase, (SERVING, STARTING, DRAINING))
        assert (status[placed] == RUNNING).all(), "a replica serves without devices"
        queued = phase == QUEUED
        waits = (status == PENDING) | self.wait_for_base()
        assert waits[queued].all(), "a replica that nobody places"
        gone = np.isin(phase, (OFF, TURNING))
        assert (placed | queued | gone).all()
        assert not np.isin(status[gone], (RUNNING, PENDING)).any(), "a gang without its replica"
        moving = np.isin(phase, (STARTING, DRAINING)).sum(1)
        assert (self.state["fleet"]["moving"] == moving).all()
        late = (phase == STARTING) & (replicas["ready_s"] <= now_s[:, None])
        assert not late.any(), "a replica has started and does not serve"
        empty = ~np.isin(phase, (SERVING, DRAINING))
        assert (replicas["in_flight"][empty] == 0).all(), "requests where nobody serves"
        whole = replicas["free_blocks"] == specs["kv_blocks"]
        assert whole[empty].all(), "blocks are held where nobody serves"

    def wait_for_base(self) -> Array:
        """Tell which replicas' gangs are rightly out of the queue, bool (E, R)."""
        status, specs = self.state["jobs"]["status"], self.shared["replica_specs"]
        base = self.shared["services"]["base_gang"][specs["service"]]
        waits = np.zeros((len(status), len(specs)), np.bool_)
        for r, spec in enumerate(specs):
            if spec["is_base"]:
                waits[:, r] = status[:, base[r]] == PENDING
            else:
                others = specs[(specs["service"] == spec["service"]) & (specs["is_base"] == 1)]
                waits[:, r] = (status[:, others["gang"]] != RUNNING).any(1)
        return waits

    def turns(self) -> None:
        """Who waits for another's devices is the heir of one replica of its service that drains."""
        replicas, specs = self.state["replicas"], self.shared["replica_specs"]
        gives, heirs = replicas["heir"] >= 0, replicas["heir"]
        assert (replicas["phase"][gives] == DRAINING).all()
        named = count(gives, heirs, len(specs))
        assert (named == (replicas["phase"] == TURNING)).all(), "devices left to none, or to two"
        givers = np.nonzero(gives)[1]
        assert (specs["service"][heirs[gives]] == specs["service"][givers]).all()
        assert (specs["role"][heirs[gives]] != specs["role"][givers]).all()

    def requests(self) -> None:
        """Every request is in one place."""
        router, requests, replicas = (self.state[k] for k in ("router", "requests", "replicas"))
        arrived = np.arange(requests.shape[1]) < router["arrived"][:, None]
        done = arrived & np.isfinite(requests["finish_s"])
        assert (done.sum(1) == router["finished"]).all(), "a request is lost, or finished twice"
        assert (requests["stage"][done] == WHOLE).all()
        on = arrived & ~done & (requests["replica"] >= 0)
        here = count(on, requests["replica"], replicas.shape[1])
        assert (here == replicas["in_flight"]).all(), "a replica miscounts its requests"
        assert (on.sum(1) == router["in_flight"]).all()
        waiting = (arrived & (requests["replica"] < 0)).sum(1)
        assert (waiting == router["parked"] + router["held"] + (router["deciding"] >= 0)).all()
        theirs = self.shared["replica_specs"]["service"][requests["replica"][on]]
        assert (requests["service"][on] == theirs).all(), "a request at another service"
        parked, at = np.zeros(len(router), int), router["parked_head"].astype(int)
        while (at >= 0).any() and parked.max() <= requests.shape[1]:
            parked += at >= 0
            at = np.where(at >= 0, requests["next"][np.arange(len(at)), at], -1)
        assert (parked == router["parked"]).all() and (parked >= router["parked_due"]).all()

    def transfers(self) -> None:
        """Bytes that set off have arrived, are given up, or have a sender on the network."""
        router, requests, fleet = (self.state[key] for key in ("router", "requests", "fleet"))
        arrived = np.arange(requests.shape[1]) < router["arrived"][:, None]
        moving, once = arrived & (requests["stage"] == MOVING), self.state["once"]
        senders = count(moving, requests["sender"], once.shape[1])
        assert (senders <= 1).all(), "two transfers in one"
        assert (senders.sum(1) == self.state["network"]["once_running"]).all()
        worlds, clients = np.nonzero(moving)
        used = once[worlds, requests["sender"][moving]]
        assert (used["client"] == clients).all()
        under_way = np.bincount(worlds, used["bytes"], minlength=len(router))
        known = fleet["arrived_bytes"] + fleet["lost_bytes"] + under_way
        assert np.isclose(fleet["moved_bytes"], known).all(), "bytes are lost on their way"

    def handovers(self) -> None:
        """KV caches are held at both ends until they have arrived."""
        router, requests, replicas = (self.state[k] for k in ("router", "requests", "replicas"))
        specs, size = self.shared["replica_specs"], replicas.shape[1]
        still = np.arange(requests.shape[1]) < router["arrived"][:, None]
        still &= ~np.isfinite(requests["finish_s"])
        held = still & (requests["source"] >= 0) & (requests["stage"] > 0)
        assert (replicas["holding"] == count(held, requests["source"], size)).all()
        assert (requests["blocks"][held] > 0).all(), "a cache without blocks"
        here = still & (requests["replica"] >= 0)
        coming = count(here & (requests["stage"] == COMING), requests["replica"], size)
        assert (replicas["coming"] == coming).all()
        moving = here & (requests["stage"] == MOVING)
        shared = requests["there_nodes"] * specs["unit_blocks"][requests["replica"]]
        there = count(moving, requests["replica"], size, requests["there"] - shared)
        assert (replicas["free_blocks"] >= 0).all()
        assert (there <= specs["kv_blocks"] - replicas["free_blocks"]).all(), "no room kept there"
        assert (replicas["holding"][:, specs["does"] == DECODE] == 0).all()
        prefills = specs["does"] == PREFILL
        assert (replicas["coming"][:, prefills] == 0).all()
        assert (count(moving, requests["replica"], size)[:, prefills] == 0).all()
