"""Which gang starts next: queue orders, backfill, preemptive and fair scheduling."""

from functools import partial

from ..policy import Factory
from .conservative import ConservativeBackfill
from .easy import EasyBackfill
from .fifo import FIFO, FIFOFirstFit
from .fitted import Fitted
from .gavel import Gavel
from .remaining import SRSF, SRTF
from .smallest import SJF, Dynamic, SmallestArea, SmallestFirst
from .themis import Themis
from .tiresias import Tiresias
from .uniform import Random
from .volcano import Volcano
from .wait_weighted import UNICEP, WFP3

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
}
