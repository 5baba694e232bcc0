"""Isolation: gangs with links of their own, and the placement that they are compared with."""

from ..policy import Factory
from .vclos import BestFit, OpticalVClos, VClos

BASELINES: dict[str, Factory] = {
    "vclos": VClos,
    "ocs-vclos": OpticalVClos,
    "best-fit": BestFit,
}
