"""Autoscaling rules of real systems: how many replicas each role of a service should have.

A rule sees :class:`Signals` and remembers what it needs; it knows nothing of environments.

>>> rule = KedaTokenAware(prefill_tokens_per_s=15928)
>>> rule.desired(signals)
{'prefill': 3, 'decode': 1}
"""

from .behavior import Behavior, Policy
from .dynamo_load import DynamoLoad, DynamoThresholds, Thresholds
from .dynamo_sla import DynamoSLA, Profile
from .fixed import Fixed
from .hpa import HPA
from .idle import Idle
from .keda import KedaTokenAware
from .rule import Replicas, ScalingRule
from .signals import DECODE, MIXED, PREFILL, RoleSignals, Signals
from .wva import WVASaturation, WVATokens

__all__ = [
    "DECODE",
    "HPA",
    "MIXED",
    "PREFILL",
    "Behavior",
    "DynamoLoad",
    "DynamoSLA",
    "DynamoThresholds",
    "Fixed",
    "Idle",
    "KedaTokenAware",
    "Policy",
    "Profile",
    "Replicas",
    "RoleSignals",
    "ScalingRule",
    "Signals",
    "Thresholds",
    "WVASaturation",
    "WVATokens",
]
