"""Names of the baselines: ``make("routing/least-requests")``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from functools import partial

from . import gang, isolation, routing, topology
from .policy import Policy

# The part before the slash is the kind of decision that a baseline takes.
_BASELINES: dict[str, Callable[..., Policy]] = {
    "routing/random": routing.Random,
    "routing/round-robin": routing.RoundRobin,
    "routing/weighted-round-robin": routing.WeightedRoundRobin,
    "routing/least-requests": routing.LeastRequests,
    "routing/least-queued": routing.LeastQueued,
    "routing/least-tokens": routing.LeastTokens,
    "routing/power-of-two": routing.PowerOfTwo,
    "routing/session-affinity": routing.SessionAffinity,
    "routing/prefix-aware": routing.PrefixAware,
    "routing/llm-d": routing.LLMD,
    "routing/dynamo": routing.Dynamo,
    "routing/dynamo-lmetric": partial(routing.Dynamo, policy="lmetric"),
    "routing/capability-aware": routing.CapabilityAware,
    "routing/predicted-latency": routing.PredictedLatency,
    "isolation/vclos": isolation.VClos,
    "isolation/ocs-vclos": isolation.OpticalVClos,
    "isolation/best-fit": isolation.BestFit,
    "gang/random": gang.Random,
    "gang/fifo": gang.FIFO,
    "gang/fifo-first-fit": gang.FIFOFirstFit,
    "gang/sjf": gang.SJF,
    "gang/smallest-first": gang.SmallestFirst,
    "gang/smallest-area": gang.SmallestArea,
    "gang/dynamic": gang.Dynamic,
    "gang/wfp3": gang.WFP3,
    "gang/unicep": gang.UNICEP,
    "gang/f1": partial(gang.Fitted, function="f1"),
    "gang/f2": partial(gang.Fitted, function="f2"),
    "gang/f3": partial(gang.Fitted, function="f3"),
    "gang/f4": partial(gang.Fitted, function="f4"),
    "gang/easy-backfill": gang.EasyBackfill,
    "gang/conservative-backfill": gang.ConservativeBackfill,
    "gang/srtf": gang.SRTF,
    "gang/srsf": gang.SRSF,
    "gang/tiresias": gang.Tiresias,
    "gang/themis": gang.Themis,
    "gang/gavel": gang.Gavel,
    "gang/volcano": gang.Volcano,
    "topology/kubernetes-binpack": topology.Binpack,
    "topology/kubernetes-spread": topology.Spread,
    "topology/volcano-binpack": topology.VolcanoBinpack,
    "topology/volcano-hard": topology.NetworkTopology,
    "topology/volcano-soft": partial(topology.NetworkTopology, mode="soft"),
    "topology/kai": topology.KAI,
    "topology/slurm-tree": topology.SlurmTree,
    "topology/slurm-block": topology.SlurmBlock,
    "topology/kueue-tas": topology.KueueTAS,
    "topology/kueue-balanced": partial(topology.KueueTAS, balanced=True, default="leaf"),
    "topology/fgd": topology.FGD,
    "topology/best-fit": topology.BestFit,
    "topology/dot-product": topology.DotProduct,
    "topology/delay": topology.Delay,
    "topology/rank-aware": topology.RankAware,
}


def names(kind: str | None = None) -> list[str]:
    """Return the registered names, of one kind (``"routing"``) or of all."""
    kinds = {name.partition("/")[0] for name in _BASELINES}
    if kind is not None and kind not in kinds:
        raise ValueError(f"no baselines of kind {kind!r}; kinds: {', '.join(sorted(kinds))}")
    return [name for name in _BASELINES if kind is None or name.startswith(f"{kind}/")]


def make(name: str, **options: object) -> Policy:
    """Create a baseline by name.

    Args:
        name: one of :func:`names`.
        **options: keyword arguments of its class, for example ``temperature=0.5``.

    Raises:
        ValueError: unknown name, unknown option, or an option out of range; the message says
            what is accepted.
    """
    if name not in _BASELINES:
        close = difflib.get_close_matches(name, _BASELINES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no baseline {name!r}; {hint}Registered: {', '.join(_BASELINES)}")
    factory = _BASELINES[name]
    accepted = list(inspect.signature(factory).parameters)
    for option in options:
        if option not in accepted:
            raise ValueError(
                f"baseline {name!r} has no option {option!r}; "
                f"it accepts {', '.join(accepted) if accepted else 'none'}"
            )
    return factory(**options)
