"""Sending the embeddings of an image from an encode replica to the replica that prefills.

One 16-bit vector as wide as the language model for each visual token, over the GPU's NIC::

    t = start + tokens x hidden x 2 bytes / rate

with ``start`` and the share of the NIC's rate that a connector of KV caches has
(``kv_transfer.toml``); the slower NIC counts. All ranks of a replica get their copy together.
Source: NVIDIA Dynamo sends embeddings as it sends KV caches, by NIXL; SGLang by Mooncake.
"""

from __future__ import annotations

from ...hardware.catalogue import GPU, Model
from .kv_transfer import nic_constants


def embedding_s(model: Model, sender: GPU, receivers: tuple[GPU, ...], connector: str) -> float:
    """Return the seconds per visual token besides the start."""
    _, share = nic_constants(connector)
    rate = share * min(gpu.nic_bytes_per_s for gpu in (sender, *receivers))
    return 2.0 * model.hidden / rate


def start_s(connector: str) -> float:
    """Return the seconds that sending embeddings takes besides their bytes."""
    return nic_constants(connector)[0]
