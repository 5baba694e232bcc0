"""Planners that place gangs by the tree of domains, as schedulers in production do."""

from .best_fit import BestFit
from .delay import Delay
from .dot_product import DotProduct
from .fgd import FGD
from .kai import KAI
from .kubernetes import Binpack, Spread
from .kueue import KueueTAS
from .planner import TopologyPlanner
from .rank_aware import RankAware
from .slurm_block import SlurmBlock
from .slurm_tree import SlurmTree
from .volcano import Binpack as VolcanoBinpack
from .volcano import NetworkTopology

__all__ = [
    "FGD",
    "KAI",
    "BestFit",
    "Binpack",
    "Delay",
    "DotProduct",
    "KueueTAS",
    "NetworkTopology",
    "RankAware",
    "SlurmBlock",
    "SlurmTree",
    "Spread",
    "TopologyPlanner",
    "VolcanoBinpack",
]
