"""What is done with a stream before it is replayed: cut a window, change the rate."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .prefix import densify
from .stream import RequestStream


def window(stream: RequestStream, start: int, n: int) -> RequestStream:
    """Return requests ``start`` to ``start + n``, with the first arrival at time 0.

    Ids keep their meaning inside the window and are renamed dense from 0.

    Raises:
        ValueError: the window does not lie inside the stream.
    """
    if not (0 <= start and 1 <= n and start + n <= len(stream)):
        raise ValueError(
            f"window of {n} requests from {start} does not lie inside a stream of {len(stream)}; "
            f"choose start >= 0, n >= 1 and start + n <= {len(stream)}"
        )
    cut = slice(start, start + n)
    offsets = stream.prefix_offsets[start : start + n + 1]
    return replace(
        stream,
        arrival_s=stream.arrival_s[cut] - stream.arrival_s[start],
        prompt_tokens=stream.prompt_tokens[cut],
        output_tokens=stream.output_tokens[cut],
        max_tokens=stream.max_tokens[cut],
        session=stream.session[cut],
        prefix_offsets=offsets - offsets[0],
        prefix_ids=densify(stream.prefix_ids[offsets[0] : offsets[-1]]),
        priority=stream.priority[cut],
        client=stream.client if isinstance(stream.client, int) else stream.client[cut],
        deadline_s=None if stream.deadline_s is None else stream.deadline_s[cut],
    )


def scale_rate(stream: RequestStream, factor: float) -> RequestStream:
    """Return the stream with ``factor`` times its request rate: all times divided by it.

    Raises:
        ValueError: ``factor`` is not a finite number above 0.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"factor = {factor!r} must be a finite number above 0")
    return replace(stream, arrival_s=np.asarray(stream.arrival_s / factor))
