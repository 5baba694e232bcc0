"""Run a policy on held-out seeds and measure each episode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from gpuyard.baselines import Policy
from gpuyard.ids import id_for

from .fairness import service_gap_tokens
from .jobs import completion, job_metrics, shares_of_deserved, to_the_end
from .metrics import Table
from .requests import request_latencies, request_metrics
from .sessions import session_metrics
from .window import steady, whole

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


@dataclass(frozen=True)
class Rollout:
    """The episodes of one policy on one scenario.

    Attributes:
        policy: the policy's name.
        scenario: the scenario's name.
        seeds: int64 (n,), one episode each.
        metrics: name to float64 (n,); NaN where an episode has no such number.
        times_s: what is shown as a distribution: float64 per name ("ttft" of requests, "jct" of
            jobs), of every finished one of the episodes' steady windows, in order of seeds.
        first: the tables of the first episode by name: all its ``requests``, all its ``jobs``.
    """

    policy: str
    scenario: str
    seeds: NDArray[np.int64]
    metrics: dict[str, NDArray[np.float64]]
    times_s: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    first: dict[str, Table] = field(default_factory=dict)


def rollout(
    name: str,
    policy: Policy,
    scenario: Scenario,
    seeds: NDArray[np.int64],
    env_id: str = "",
    num_envs: int = 16,
) -> Rollout:
    """Run one episode per seed, ``num_envs`` at a time.

    A finished environment takes the next seed at once. The policy's own randomness is seeded
    too, so that the result depends on nothing but the arguments.

    Args:
        name: of the policy, to be shown.
        policy: reset and attached here.
        scenario: the world.
        seeds: of the episodes.
        env_id: the environment; empty: the one for the scenario's decisions.
        num_envs: environments in the batch.

    Raises:
        ValueError: the policy or the environment is for other decisions than the scenario's.
    """
    num_envs = min(num_envs, len(seeds))
    policy.reset(scenario, num_envs, seed=0)
    env_id = env_id or id_for(scenario)
    env: Any = gym.make_vec(env_id, num_envs=num_envs, scenario=scenario, autoreset_mode="Disabled")
    policy.attach(env)
    measured: list[Measured] = [({}, {})] * len(seeds)
    first: dict[str, Table] = {}

    episode = np.arange(num_envs)  # which episode each environment plays
    following = num_envs  # the next one to hand out
    total = np.zeros(num_envs)
    observation, _ = env.reset(seed=[int(seed) for seed in seeds[:num_envs]])
    while (episode < len(seeds)).any():
        observation, reward, terminated, truncated, info = env.step(policy.act(observation))
        total += reward
        done = terminated | truncated
        if not done.any():
            continue
        for i in np.flatnonzero(done).tolist():
            if episode[i] < len(seeds):
                measured[episode[i]] = _measure(env, scenario, info, i, total[i])
            if episode[i] == 0:
                first = env.results(i)
            episode[i], following = following, following + 1
            total[i] = 0.0
        policy.restart(done)
        # An environment without a seed left replays the last one, unmeasured.
        again = [int(seeds[min(e, len(seeds) - 1)]) for e in episode.tolist()]
        observation, _ = env.reset(seed=again, options={"reset_mask": done})
    env.close()
    keys = dict.fromkeys(key for numbers, _ in measured for key in numbers)
    metrics = {k: np.array([m.get(k, np.nan) for m, _ in measured]) for k in keys}
    times_s = {k: np.concatenate([t[k] for _, t in measured]) for k in measured[0][1]}
    return Rollout(name, scenario.name, np.asarray(seeds), metrics, times_s, first)


Measured = tuple[dict[str, float], dict[str, NDArray[np.float64]]]
"""Metrics and times of one episode."""


def _measure(
    env: Any, scenario: Scenario, info: dict[str, NDArray], i: int, reward: float
) -> Measured:
    """Measure an episode that has ended: its reward, what ``info`` counts, and its tables.

    Numbers of the steady window replace those of the same name in ``info``, which are of the whole
    episode.
    """
    metrics = {"reward": float(reward)}
    metrics |= {k: float(v[i]) for k, v in info.items() if not k.startswith("_")}
    times_s: dict[str, NDArray[np.float64]] = {}
    for name, table in env.results(i).items():
        numbers, times = MEASURED[name](table, scenario, metrics.get("time_s", np.nan))
        metrics |= numbers
        times_s |= times
    return metrics, times_s


def _of_requests(table: Table, scenario: Scenario, end_s: float) -> Measured:
    names = [service.name for service in scenario.services]
    has_clients = "client" in table
    of_clients = [group.name for group in scenario.clients.classes] if has_clients else []
    if scenario.workload is not None and scenario.workload.num_sessions > 0:
        come = table["arrival_s"] <= end_s  # those of a truncated episode that had not did not
        table = {key: column[come] for key, column in table.items()}
        window = whole(table["arrival_s"], table["finish_s"])
        metrics = request_metrics(
            table, *scenario.objectives, services=names, window=window, clients=of_clients
        )
        metrics |= session_metrics(table)
        shown = np.isfinite(table["finish_s"])
    else:
        metrics = request_metrics(table, *scenario.objectives, services=names, clients=of_clients)
        shown = _shown(table)
    if has_clients:
        metrics["service_gap_tokens"] = service_gap_tokens(table, len(scenario.clients.class_of))
    return metrics, {"ttft": request_latencies(table)["ttft"][shown]}


def _of_clients(table: Table, scenario: Scenario, end_s: float) -> Measured:
    return {}, {}  # what is measured of clients is measured of their requests


def _of_jobs(table: Table, scenario: Scenario, end_s: float) -> Measured:
    assert scenario.cluster is not None and scenario.jobs is not None
    table = to_the_end(table, end_s)
    metrics = job_metrics(table, scenario.cluster.num_gpus, scenario.jobs.tenants)
    return metrics, {"jct": completion(table)["jct"][_shown(table)]}


def _shown(table: Table) -> NDArray[np.bool_]:
    """Tell which rows of a table have finished and arrived in the steady window."""
    window = steady(table["arrival_s"], table["finish_s"])
    return window.holds(table["arrival_s"]) & np.isfinite(table["finish_s"])


def _of_queues(table: Table, scenario: Scenario, end_s: float) -> Measured:
    assert scenario.jobs is not None
    names = [scenario.jobs.queues[row].name for row in table["queue"].tolist()]
    return shares_of_deserved(table, names), {}


MEASURED = {
    "requests": _of_requests,
    "clients": _of_clients,
    "jobs": _of_jobs,
    "queues": _of_queues,
}
"""How each table of an episode is measured."""
