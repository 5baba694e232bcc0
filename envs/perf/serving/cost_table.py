"""What the engine knows of a replica's speed: a few coefficients and two tables.

One engine step of a replica with B decoding sequences of C cached tokens in total and prompt
chunks of q tokens on top of c cached ones takes the longer of host and GPU,

    max(host_s + host_seq_s * S, linear_s[B + Q] + head_s[S]
        + (decode(B, C) if there is no chunk, else mixed(B, C, Q) + prefill(chunks)))

with Q the sum of q and S the sequences that sample. The host line hides behind the GPU; for most
engines that do not schedule ahead it is 0, and the tables hold the host's time.

    decode  = dec_fixed_s + dec_log_s * log2(1 + C/B/1024) + dec_seq_s * B
              + ((dec_flop_s * C n)**3
                 + (dec_token_s * C + dec_again_s * C (n - 1) + dec_row_s * B n)**3)**(1/3)
              (0 if B = 0; affine in C up to the log term where dec_flop_s = 0)
    mixed   = mix_seq_s * B + mix_cell_s * B * Q + mix_token_s * C
              (decode(B, C) where mix_token_s = 0: kernels whose decodes do not mind the chunk)
    chunk   = ((pre_flop_s * q * (c + (q + pre_pad)/2))**3 + (pre_tile_s * (q + pre_pad))**3
               + (pre_query_s * q + pre_cache_s * (c + q))**3)**(1/3)
    prefill = pre_fixed_s + max(largest of chunk + pre_alone_s * q,
                                sum of chunks / (1 + other_shards))   (0 if no chunk)

n is 1, or the tokens that each sequence verifies in the step where it speculates: then ``B n`` of
them are in linear_s and head_s, attention reads the cache once, and again in part for each further
token where its kernel does (dec_again_s), and drafting comes on top (:mod:`.drafting`).

Times in seconds, for the whole model (all layers). Source of the forms: perf_models sections 3.1
to 3.8 of the reference; each term's own source stands with the kernel that fills it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .constants import Source

COST = np.dtype(
    [
        ("host_s", "f8"),
        ("host_seq_s", "f8"),
        ("dec_fixed_s", "f8"),
        ("dec_log_s", "f8"),
        ("dec_seq_s", "f8"),
        ("dec_token_s", "f8"),
        ("dec_row_s", "f8"),
        ("dec_again_s", "f8"),  # of a cached token, for each further one that is verified with it
        ("dec_flop_s", "f8"),
        ("mix_seq_s", "f8"),
        ("mix_cell_s", "f8"),
        ("mix_token_s", "f8"),
        ("pre_fixed_s", "f8"),
        ("pre_flop_s", "f8"),
        ("pre_pad", "f8"),
        ("pre_tile_s", "f8"),
        ("pre_query_s", "f8"),
        ("pre_cache_s", "f8"),
        ("pre_alone_s", "f8"),  # of a token, on its shard, that linear_s counts on the other ones
        ("other_shards", "f8"),  # parts of the batch that are computed beside one of them
        ("flop_per_token", "f8"),  # model FLOPs of one token on one device, for device_load
        ("peak_flops", "f8"),  # FLOP/s of one device at the dtype in use
        ("comm_bytes_per_token", "f8"),  # bytes one device sends over its scale-up link per token
        ("comm_bytes_per_s", "f8"),  # that link's capacity per direction
    ]
)


@dataclass(frozen=True)
class CostTable:
    """Step costs of one replica kind.

    Attributes:
        coefficients: one record of :data:`COST`.
        linear_s: shape (max_num_batched_tokens + 1,), seconds of all token-wise work and the
            fixed cost of a step, by tokens in the step; index 0 is 0.
        head_s: shape (max_num_seqs + 1,), seconds of LM head and sampler by sequences sampling.
        sources: where the constants are from that it was computed with.
    """

    coefficients: np.void
    linear_s: NDArray[np.float64]
    head_s: NDArray[np.float64]
    sources: tuple[Source, ...] = ()
