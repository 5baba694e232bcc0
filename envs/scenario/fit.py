"""Whether replicas and requests go together, and what each replica can do with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..hardware.encoders import encoder
from ..perf import Deployment, capability
from ..perf.serving.kv_groups import kv_groups
from ..workload.requests.closed_loop import ClosedLoop
from ..workload.requests.generator import Generator
from ..workload.requests.sessions import SessionGenerator
from ..workload.requests.source import Workload
from ..workload.requests.stream import RequestStream
from .checks import ScenarioError
from .deployments import Replica
from .sizes import check_serving


def fitted(replicas: tuple[Replica, ...], workload: Workload) -> tuple[Replica, ...]:
    """Return the replicas with their capacities for this workload filled in.

    Raises:
        ScenarioError: prefix units that blocks do not divide, or requests that fit nowhere.
    """
    check_serving(replicas, workload)
    _check_blocks(replicas, workload)
    _check_room(replicas, workload)
    _check_images(replicas, workload)
    _check_whole(replicas, workload)
    try:
        lengths = workload.mean_lengths()
    except ValueError as error:  # of a generator whose rate and times do not go together
        raise ScenarioError(f"workload: {error}") from error
    capacities = {
        deployment: capability(deployment).throughput(*lengths)
        for deployment in {replica.deployment for replica in replicas}
    }
    return tuple(
        replace(r, capacity=capacities[r.deployment] / r.deployment.own_ranks) for r in replicas
    )


def _check_blocks(replicas: tuple[Replica, ...], workload: Workload) -> None:
    unit = workload.prefix_block_tokens
    for replica in replicas:
        block = replica.deployment.block_size
        if unit and unit % block:
            raise ScenarioError(
                f"{replica.where}.block_size = {block} must divide the workload's "
                f"prefix blocks of {unit} tokens"
            )


def _check_images(replicas: tuple[Replica, ...], workload: Workload) -> None:
    """Refuse models that see no images, or by another encoder than the workload's."""
    if workload.images is None:
        return
    wanted = encoder(workload.images.model)
    for replica in replicas:
        name = replica.deployment.model.name
        if name not in wanted.models:
            raise ScenarioError(
                f"{replica.where}.model = {name!r} does not see images as workload.images.model "
                f"= {workload.images.model!r} does; serve one of {', '.join(wanted.models)}, or "
                f"leave workload.images out"
            )
        _check_encoder(replica.deployment, replica.where)


def _check_encoder(d: Deployment, where: str) -> None:
    """Refuse ways to serve for which nobody has modelled when an image is encoded."""
    if d.batching != "continuous":
        raise ScenarioError(
            f"{where}.batching = {d.batching!r}: images are encoded step by step; give "
            f'"continuous" or leave workload.images out'
        )
    if d.dp > 1 and not d.dp_ranks:
        raise ScenarioError(
            f"{where}.dp = {d.dp}: which of its ranks encodes an image is modelled for ranks of "
            f'their own only; give dp_ranks = "own" or leave workload.images out'
        )


def longest_request(workload: Workload) -> int:
    """Return the most prompt and output tokens that a request may have."""
    source = workload.source
    if isinstance(workload, ClosedLoop):
        return workload.source.longest
    visual = max(workload.images.tokens) if workload.images else 0
    text = source.max_tokens if isinstance(source, Generator) else int(_tokens(source).max())
    return text + visual


def _tokens(stream: RequestStream) -> NDArray[np.int64]:
    return stream.prompt_tokens.astype(np.int64) + stream.max_tokens


def _check_room(replicas: tuple[Replica, ...], workload: Workload) -> None:
    source, longest = workload.source, longest_request(workload)
    if isinstance(source, Generator | SessionGenerator):
        remedy = "lower workload.max_tokens"
    elif isinstance(workload, ClosedLoop):
        remedy = "leave out sessions of the trace whose contexts grow that long"
    else:
        worst = int(_tokens(source).argmax())
        remedy = f"leave out request {worst} of the trace or lower its max_tokens"
    room = max(_room(replica) for replica in replicas)
    if longest > room:
        raise ScenarioError(
            f"a request of up to {longest} prompt and output tokens never fits: the largest KV "
            f"cache holds {room}; {remedy}, or give replicas more memory (tp, a larger GPU, fewer "
            f"bits)"
        )


def _room(replica: Replica) -> int:
    """Return the most prompt and output tokens that a replica's KV cache holds of one request."""
    d = replica.deployment
    if d.kv_reservation == "paged":
        lookahead = d.speculation.lookahead if d.speculation else 0
        return kv_groups(d).longest(replica.kv_blocks) - lookahead
    return d.block_size << (replica.kv_blocks.bit_length() - 1)


def _check_whole(replicas: tuple[Replica, ...], workload: Workload) -> None:
    """Refuse replicas that compute prompts whole but not all of them in one step."""
    longest = longest_request(workload)
    for replica in replicas:
        d = replica.deployment
        if not d.chunked_prefill and d.max_num_batched_tokens < longest:
            raise ScenarioError(
                f"{replica.where}.max_num_batched_tokens = {d.max_num_batched_tokens} must be "
                f"at least {longest}, the longest request, where chunked_prefill = false"
            )
