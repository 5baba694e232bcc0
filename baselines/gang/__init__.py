"""Which gang starts next: queue orders, backfill, preemptive and fair scheduling."""

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

__all__ = [
    "FIFO",
    "SJF",
    "SRSF",
    "SRTF",
    "UNICEP",
    "WFP3",
    "ConservativeBackfill",
    "Dynamic",
    "EasyBackfill",
    "FIFOFirstFit",
    "Fitted",
    "Gavel",
    "Random",
    "SmallestArea",
    "SmallestFirst",
    "Themis",
    "Tiresias",
    "Volcano",
]
