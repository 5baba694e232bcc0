"""How a replica batches, orders and stores: switches that are off by default.

The engine's own way is continuous batching with chunked prefill, decodes first, first come first
served, paged KV blocks and a prefix cache (vLLM v1). Sources of the others: batches as wholes,
Orca (Yu et al., OSDI 2022), which they are compared with, and Triton's dynamic batcher; prompts
first and whole, version 0 of vLLM's scheduler, Sarathi-Serve (Agrawal et al., OSDI 2024);
priorities, vLLM's ``--scheduling-policy``; longest prefix, SGLang's ``lpm``; response ratio,
SGLang pull request 32911; clients evenly, VTC (Sheng et al., OSDI 2024); contiguous reservation,
PagedAttention (Kwon et al., SOSP 2023), whose three variants of Orca have the chunks of a buddy
allocator.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .deployment import Deployment

BATCHING = ("continuous", "static", "dynamic")
POLICIES = ("fcfs", "priority", "lpm", "hrrn", "vtc")
RESERVATIONS = ("paged", "contiguous", "contiguous-pow2", "contiguous-oracle")
"""In the order of the engine's numbers for them."""
MOST_WAIT_MS = 600_000.0


@dataclass(frozen=True, kw_only=True)
class Scheduling:
    """Fields of a replica, each with what it is unless given.

    Attributes:
        batching: ``continuous``: a request joins the next step; ``static``: a batch is formed when
            the replica is empty and runs, padded to its longest, until all of it is done;
            ``dynamic``: so, too, but it waits ``batch_wait_ms`` for the batch to fill.
        batch_wait_ms: how long the oldest request waits for others.
        chunked_prefill: a prompt may be computed over several steps; otherwise whole, in one.
        prefill_first: a step has prompts only while there are any, and decodes wait for it.
        long_prefill_token_threshold: tokens of one prompt in a step at most, which leaves the rest
            of the budget to prompts behind it; 0: no such bound (as in vLLM).
        scheduling_policy: whom the queue gives next: ``fcfs``; ``priority``, highest first, which
            also lets the lowest be preempted; ``lpm``: longest cached prefix; ``hrrn``: highest
            ratio of wait and prefill to prefill; ``vtc``: that of the client served least.
        kv_reservation: ``paged``: blocks as tokens come; ``contiguous``: one chunk for all tokens
            that a request may have, or (``contiguous-pow2``) its output rounded up to a power of
            two, or (``contiguous-oracle``) what it will have.
        prefix_caching: whether cached prefixes are reused.
    """

    batching: str = field(default="continuous", metadata={"choices": BATCHING})
    batch_wait_ms: float = field(default=0.0, metadata={"range": (0, MOST_WAIT_MS)})
    chunked_prefill: bool = True
    prefill_first: bool = False
    long_prefill_token_threshold: int = field(default=0, metadata={"whole": 0})
    scheduling_policy: str = field(default="fcfs", metadata={"choices": POLICIES})
    kv_reservation: str = field(default="paged", metadata={"choices": RESERVATIONS})
    prefix_caching: bool = True


def fault(d: Deployment) -> tuple[str, str] | None:
    """Return the field that cannot be as it is, and the remedy; None if all go together."""
    for item in fields(Scheduling):
        allowed = item.metadata.get("choices")
        if allowed and getattr(d, item.name) not in allowed:
            return item.name, f"use one of {', '.join(allowed)}"
    if not 0 <= d.batch_wait_ms <= MOST_WAIT_MS:
        return "batch_wait_ms", f"give 0 to {MOST_WAIT_MS:g} milliseconds"
    if (d.batch_wait_ms > 0) != (d.batching == "dynamic"):
        return "batch_wait_ms", 'give one above 0 with batching = "dynamic", and only there'
    if d.long_prefill_token_threshold and (d.prefill_first or not d.chunked_prefill):
        return "long_prefill_token_threshold", "it needs chunked prompts and decodes first; give 0"
    return _company_fault(d) or _storage_fault(d) or _batch_fault(d)


def _company_fault(d: Deployment) -> tuple[str, str] | None:
    """Refuse other ways than vLLM's own beside drafts and ranks, which are modelled for those."""
    for name in ("speculation", "dp_ranks"):
        others = changed(d, allowed=("prefix_caching",))
        if getattr(d, name) and others:
            return others[0], f"beside {name} only the engine's own way is modelled; leave it out"
    return None


def _storage_fault(d: Deployment) -> tuple[str, str] | None:
    if d.kv_reservation == "paged":
        return None
    if d.model.mla or d.model.window_layers or d.model.linear_layers:
        kind = "a latent cache (MLA)" if d.model.mla else "windows or states"
        return "kv_reservation", f"{d.model.name} has {kind}, which engines page; use paged"
    if d.prefix_caching:
        return "kv_reservation", "contiguous chunks share no prefix; give prefix_caching = false"
    return None


def _batch_fault(d: Deployment) -> tuple[str, str] | None:
    if d.batching == "continuous":
        return None
    if d.chunked_prefill:
        return "batching", "it computes prompts together and whole; give chunked_prefill = false"
    if d.kv_reservation == "paged":
        return "batching", "it reserves what its longest request needs; give a contiguous one"
    if d.scheduling_policy != "fcfs":
        return "batching", 'its batch is the head of the queue; give scheduling_policy = "fcfs"'
    if d.prefill_first:
        return "batching", "no prompt comes while it decodes; give prefill_first = false"
    return None


def changed(d: Deployment, allowed: tuple[str, ...] = ()) -> list[str]:
    """Return the switches of a replica that are not off, but for those that are allowed."""
    return [
        item.name
        for item in fields(Scheduling)
        if getattr(d, item.name) != item.default and item.name not in allowed
    ]
