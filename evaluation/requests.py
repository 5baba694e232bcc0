"""What is measured of the requests of one episode.

=====================  =============================================================
TTFT                   time to first token: first token - arrival
TPOT                   time per output token: (finish - first token) / (tokens - 1)
E2E                    end to end: finish - arrival
SLO attainment         share of the requests that met both objectives, TTFT and TPOT
goodput                such requests per second of the window
output tokens/s        output tokens of finished requests per second of the window
prefix hit rate        share of the finished requests' prompt tokens found cached
=====================  =============================================================

All are of the requests that arrive in the steady window (:mod:`.window`), whenever they finish; one
that has not finished met no objective. The definitions of TTFT and TPOT are those of vLLM's
``benchmark_serving`` and of DistServe (Zhong et al., OSDI 2024), whose goodput this is: the rate of
arrival times the attainment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import classes
from .metrics import Table, summarise
from .window import Window, steady

PERCENTILES = (50, 90, 99)


class Objectives(Protocol):
    """What a request should keep."""

    @property
    def ttft_s(self) -> float:
        """Objective for the time to first token, seconds."""

    @property
    def tpot_s(self) -> float:
        """Objective for the time per output token, seconds."""


def request_metrics(
    requests: Table,
    *slos: Objectives,
    services: Sequence[str] = (),
    window: Window | None = None,
    clients: Sequence[str] = (),
) -> dict[str, float]:
    """Return the metrics of an episode.

    Args:
        requests: its per-request table (``results(i)["requests"]`` of the environment).
        slos: the objectives, of each service or class of clients if there are several.
        services: names of services.
        window: the part of the episode that counts; by default the steady one.
        clients: names of classes of clients.

    Returns:
        For TTFT, TPOT and E2E names like ``ttft_p99_s``; ``slo_attainment``, ``goodput``,
        ``output_tokens_per_s``, ``prefix_hit_rate``; where priorities differ ``ttft_weighted_s``
        and TTFT and attainment of each; of each of several services TTFT, TPOT, attainment and
        goodput (:mod:`.classes`). Empty if no request finished.
    """
    window = window or steady(requests["arrival_s"], requests["finish_s"])
    inside = window.holds(requests["arrival_s"])
    seen = {key: np.asarray(column)[inside] for key, column in requests.items()}
    latencies, met = request_latencies(seen), attained(seen, *slos)
    ttft_s = latencies["ttft"][np.isfinite(latencies["ttft"])]
    if not len(ttft_s):
        return {}
    metrics: dict[str, float] = {}
    for name, values in latencies.items():
        metrics |= summarise(name, values[np.isfinite(values)], PERCENTILES, "_s")
    done = np.isfinite(seen["finish_s"])
    prompt = seen["prompt_tokens"][done].sum()
    metrics |= {
        "slo_attainment": float(met.mean()),
        "goodput": window.per_s(met.sum()),
        "output_tokens_per_s": window.per_s(seen["output_tokens"][done].sum()),
        "prefix_hit_rate": float(seen["cached_tokens"][done].sum() / prompt),
    }
    labels = classes.priorities(seen["priority"])
    of_class = {"ttft_mean_s": latencies["ttft"], "slo_attainment": met.astype(np.float64)}
    found = classes.means(of_class, "priority", labels)
    if found:
        metrics["ttft_weighted_s"] = classes.weighted_mean(ttft_s, seen["priority"][done])
    of_class["tpot_mean_s"] = latencies["tpot"]
    for names, column in ((services, "service"), (clients, "class")):
        if names:
            labels = [names[number] for number in seen[column].tolist()]
            found |= classes.means(of_class, column, labels)
            counts = classes.totals("goodput", met.astype(np.float64), column, labels)
            found |= {key: window.per_s(count) for key, count in counts.items()}
    return metrics | found


def request_latencies(requests: Table) -> dict[str, NDArray[np.float64]]:
    """Return ``ttft``, ``tpot`` and ``e2e`` of each request, seconds.

    NaN for requests that have not finished; those of one output token have no TPOT.
    """
    finish_s, tokens = requests["finish_s"], requests["output_tokens"]
    first_s = np.where(np.isfinite(finish_s), requests["first_token_s"], np.nan)
    gaps = np.where(tokens > 1, tokens - 1.0, np.nan)
    return {
        "ttft": first_s - requests["arrival_s"],
        "tpot": (finish_s - first_s) / gaps,
        "e2e": finish_s - requests["arrival_s"],
    }


def attained(requests: Table, *slos: Objectives) -> NDArray[np.bool_]:
    """Tell which requests finished within both objectives; one token has no TPOT to miss.

    Args:
        requests: their table.
        slos: the objectives, of each service or class of clients if there are several.
    """
    latencies = request_latencies(requests)
    which = "class" if "class" in requests else "service"
    of = requests[which] if len(slos) > 1 else np.zeros(len(latencies["ttft"]), np.intp)
    on_time = latencies["ttft"] <= np.array([slo.ttft_s for slo in slos])[of]
    return on_time & (np.nan_to_num(latencies["tpot"]) <= np.array([s.tpot_s for s in slos])[of])
