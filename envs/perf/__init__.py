"""Analytic costs: the time of an LLM iteration, its memory, and what a replica can serve."""

from .serving.capability import Capability, capability
from .serving.deployment import Deployment
from .serving.kv_capacity import kv_blocks, kv_tokens
from .serving.tabulate import tabulate

__all__ = ["Capability", "Deployment", "capability", "kv_blocks", "kv_tokens", "tabulate"]
