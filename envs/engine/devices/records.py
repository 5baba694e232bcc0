"""Nodes and GPUs, as they are built and as they stand."""

from __future__ import annotations

import numpy as np

from ...rules import Faults, numbers

NODE_SPEC = np.dtype(
    [
        ("leaf", "i4"),
        ("pod", "i4"),
        ("pool", "i4"),
        ("gpus", "i4"),
        ("nic_bytes_per_s", "f8"),  # most that one flow gets
        ("scale_up_bytes_per_s", "f8"),
        ("memory_bytes", "f8"),  # per GPU
        ("price_per_h", "f8"),  # per GPU
        ("idle_w", "f8"),  # per GPU
        ("busy_w", "f8"),  # per GPU
    ]
)

DEVICES = np.dtype(  # one record per environment
    [
        ("total_gpus", "i4"),
        ("free_gpus", "i4"),
        ("down_gpus", "i4"),
        ("partial_gpus", "i4"),  # free GPUs on nodes that are partly used
        ("power_w", "f8"),  # of all GPUs, as they are allocated
        ("price_per_s", "f8"),  # of the allocated GPUs
        ("busy_gpu_s", "f8"),
        ("fragmented_gpu_s", "f8"),
        ("energy_j", "f8"),
        ("cost", "f8"),
        ("next_failure_s", "f8"),
        ("next_repair_s", "f8"),
        ("random", "u8"),
        ("mark", "i8"),  # scratch, of ``gpu_mark``
    ]
)

FAULT_RULES = np.dtype(numbers(Faults))  # one record for the whole world
