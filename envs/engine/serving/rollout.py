"""What a rollout step is measured by: sessions that answer back, all of which have to end.

Makespan and the time to 90 % of the sessions are what reports of rollouts give (NeMo-RL pull 3663);
tokens per second and GPU are those of finished requests.
"""

from __future__ import annotations

from ..core.compile import kernel
from .refusal import left


@kernel
def makespan_s(router, now_s):
    """Return the seconds until all requests had ended, or until now if they have not."""
    return router.last_finish_s if left(router) == 0 else now_s


@kernel
def time_to_90_s(router, now_s):
    """Return the seconds until 90 % of the sessions had ended, or until now if they have not."""
    return router.ended_90_s if router.ended_90_s > 0.0 else now_s


@kernel
def tokens_per_gpu_s(w, router, now_s):
    """Return the output tokens of finished requests per second and GPU of all replicas."""
    gpus = 0
    for r in range(len(w.replica_specs)):
        gpus += w.replica_specs[r].num_devices + w.replica_specs[r].gpus
    return router.output_tokens / (now_s * gpus) if now_s > 0.0 else 0.0


@kernel
def imbalance(w, e):
    """Return the busiest replica's seconds in steps that have ended over the mean; 0: no step has.

    Source: verl pull 6533, which reports the most loaded replica over the mean.
    """
    total_s, most = 0.0, 0.0
    for r in range(len(w.replica_specs)):
        total_s += w.replicas[e, r].busy_s
        most = max(most, w.replicas[e, r].busy_s)
    return most * len(w.replica_specs) / total_s if total_s > 0.0 else 0.0


@kernel
def rollout_value(w, e, router, rules, now_s):
    """Return the weighted sum up to now of the terms that are about a closed loop."""
    if router.answers == 0:
        return 0.0
    total = -rules.w_makespan * makespan_s(router, now_s)
    total -= rules.w_time_to_90 * time_to_90_s(router, now_s)
    if rules.w_throughput != 0.0:
        total += rules.w_throughput * tokens_per_gpu_s(w, router, now_s)
    if rules.w_imbalance != 0.0:
        total -= rules.w_imbalance * imbalance(w, e)
    return total


@kernel
def write_rollout(w, e, router, info, now_s):
    """Fill the numbers of a closed loop so far: ``columns.OF_SESSIONS``, then ``OF_STEPS``."""
    info[0] = router.sessions_ended
    info[1] = makespan_s(router, now_s)
    info[2] = time_to_90_s(router, now_s)
    info[3] = tokens_per_gpu_s(w, router, now_s)
    info[4] = imbalance(w, e)
    if router.step_sessions > 0:
        info[5], info[6] = router.step + 1, router.stale_sessions
