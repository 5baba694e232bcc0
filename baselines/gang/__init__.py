"""Which gang starts next: queue orders, backfill, preemptive and fair scheduling."""

from collections.abc import Callable
from functools import partial

from .. import options
from ..policy import Factory
from . import keys
from .conservative import ConservativeBackfill
from .easy import EasyBackfill
from .fifo import FIFO, FIFOFirstFit
from .fitted import Fitted
from .gavel import Gavel
from .kai import KAIFairShare
from .kueue import Kueue
from .remaining import SRSF, SRTF
from .scheduler import Ordered, Scheduler
from .slurm import SlurmMultifactor
from .smallest import SJF, Dynamic, SmallestArea, SmallestFirst
from .themis import Themis
from .tiresias import Tiresias
from .uniform import Random
from .volcano import Volcano
from .wait_weighted import UNICEP, WFP3

_BOTH: dict[str, Callable[[], Scheduler]] = {
    "f1": partial(Fitted, function="f1"),
    "f2": partial(Fitted, function="f2"),
    "f3": partial(Fitted, function="f3"),
    "f4": partial(Fitted, function="f4"),
    "easy-backfill": EasyBackfill,
    "conservative-backfill": ConservativeBackfill,
    "srtf": SRTF,
    "srsf": SRSF,
    "tiresias": Tiresias,
    "themis": Themis,
    "gavel": Gavel,
    "volcano": Volcano,
    "kai-fair-share": KAIFairShare,
    "kueue": Kueue,
    "kueue-fair": partial(Kueue, sharing="final-initial"),
    "slurm-multifactor": SlurmMultifactor,
}
"""Whole planners that other families can take as an order too."""

BASELINES: dict[str, Factory] = {
    "random": Random,
    "fifo": FIFO,
    "fifo-first-fit": FIFOFirstFit,
    "sjf": SJF,
    "smallest-first": SmallestFirst,
    "smallest-area": SmallestArea,
    "dynamic": Dynamic,
    "wfp3": WFP3,
    "unicep": UNICEP,
    **_BOTH,
}

ORDERS: dict[str, Callable[[], Scheduler]] = {
    "fifo": partial(Ordered, keys.oldest, blocks=True),
    "fifo-first-fit": partial(Ordered, keys.oldest),
    "sjf": partial(Ordered, keys.shortest),
    "smallest-first": partial(Ordered, keys.smallest),
    "smallest-area": partial(Ordered, keys.least_area),
    "dynamic": partial(Ordered, keys.dynamic),
    "wfp3": partial(Ordered, keys.wfp3),
    "unicep": partial(Ordered, keys.unicep),
    **_BOTH,
}
"""The queue half of each baseline, for placements of other families: ``order="srsf"``."""


def make_order(name: str) -> Scheduler:
    """Return who comes next, by the name that it has in this family, options as anywhere.

    Raises:
        ValueError: unknown name or option.
    """
    plain, texts = options.split(name)
    if plain not in ORDERS:
        raise ValueError(f"order = {name!r} must be one of {', '.join(ORDERS)}")
    return ORDERS[plain](**options.parse(plain, ORDERS[plain], texts))
