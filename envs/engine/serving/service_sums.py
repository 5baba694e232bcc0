"""Sums behind the metrics of one service of several."""

from __future__ import annotations

from ..core.compile import kernel


@kernel
def count_for_service(service, request, tpot_s, met):
    """Add a finished request to the sums of its service."""
    service.finished += 1
    service.output_tokens += request.output_tokens
    service.slo_met += met
    if request.output_tokens > 1:
        service.multi_token += 1
        service.tpot_s += tpot_s
