"""Isolation: gangs with links of their own, and the placement that they are compared with."""

from .vclos import BestFit, OpticalVClos, VClos

__all__ = ["BestFit", "OpticalVClos", "VClos"]
