"""Planners that place gangs by the tree of domains, as schedulers in production do."""

from functools import partial

from ..policy import Factory
from .best_fit import BestFit
from .delay import Delay
from .dot_product import DotProduct
from .fgd import FGD
from .kai import KAI
from .kubernetes import Binpack, Spread
from .kueue import KueueTAS
from .rank_aware import RankAware
from .slurm_block import SlurmBlock
from .slurm_tree import SlurmTree
from .volcano import Binpack as VolcanoBinpack
from .volcano import NetworkTopology

BASELINES: dict[str, Factory] = {
    "kubernetes-binpack": Binpack,
    "kubernetes-spread": Spread,
    "volcano-binpack": partial(VolcanoBinpack, order="volcano"),
    "volcano-hard": NetworkTopology,
    "volcano-soft": partial(NetworkTopology, mode="soft"),
    "kai": KAI,
    "slurm-tree": SlurmTree,
    "slurm-block": SlurmBlock,
    "kueue-tas": KueueTAS,
    "kueue-balanced": partial(KueueTAS, balanced=True, default="leaf"),
    "fgd": FGD,
    "best-fit": BestFit,
    "dot-product": DotProduct,
    "delay": Delay,
    "rank-aware": RankAware,
}
