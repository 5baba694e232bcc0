"""Analytic costs: the time of an LLM iteration, its memory, and what a replica can serve."""

from .capability import Capability, capability
from .deployment import Deployment
from .memory import kv_blocks
from .tabulate import tabulate

__all__ = ["Capability", "Deployment", "capability", "kv_blocks", "tabulate"]
