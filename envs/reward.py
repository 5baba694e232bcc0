"""The terms a reward is made of.

The reward of a decision is the change of ``sum(weight * term)`` since the last one, so over an
episode each term adds up to the metric in its row.

Routing:

| Term          | Sum over an episode                                                          |
|---------------|------------------------------------------------------------------------------|
| `waiting`     | minus the seconds requests waited for their first token (N x mean TTFT)      |
| `in_system`   | minus the seconds requests spent from arrival to last token (N x mean E2E)   |
| `slo`         | requests that met both objectives, TTFT and TPOT                             |
| `tokens`      | output tokens of finished requests                                           |
| `preemptions` | minus the number of preemptions                                              |
| `invalid`     | minus the number of infeasible actions                                       |

Placement:

| Term          | Sum over an episode                                                          |
|---------------|------------------------------------------------------------------------------|
| `waiting`     | minus the seconds gangs waited in the queue (N x mean JWT)                   |
| `in_system`   | minus the seconds gangs spent from arrival to end (N x mean JCT)             |
| `slowdown`    | minus the sum of bounded slowdowns                                           |
| `finished`    | finished gangs                                                               |
| `utilisation` | busy GPU seconds over the number of GPUs                                     |
| `preemptions` | minus the number of preemptions                                              |
| `cost`        | minus the price of allocated GPUs, $                                         |
| `energy`      | minus the energy of all GPUs, kWh                                            |
| `invalid`     | minus the number of infeasible actions                                       |
"""

from __future__ import annotations

TERMS = ("waiting", "in_system", "slo", "tokens", "preemptions", "invalid")

PLACEMENT_TERMS = (
    "waiting",
    "in_system",
    "slowdown",
    "finished",
    "utilisation",
    "preemptions",
    "cost",
    "energy",
    "invalid",
)

SHORTEST_RUN_S = 10.0
"""Shorter run times count as this much in the bounded slowdown, so that tiny jobs do not dominate.
Source: Feitelson et al., "Theory and practice in parallel job scheduling", 1997."""
