"""What a router sees of a request's image on a replica."""

from __future__ import annotations

from ..core.compile import kernel
from ..serving.images import expected_image_s, has_image
from ..serving.records import HANDED
from .columns import places

CANDIDATE_VISION = places("candidates", "vision")


@kernel
def observe_image(w, e, r, index, now_s, report_s):
    """Fill the columns of a request's image, as of the last report.

    Returns:
        The seconds that the image adds to the time of its prompt alone.
    """
    row = w.candidates[e, r, w.layout[0].candidates_vision :]
    row[CANDIDATE_VISION.image_here] = has_image(w, e, r, index, report_s)
    if w.requests[e, index].stage == HANDED:  # the image is in the KV cache that comes
        return 0.0
    return expected_image_s(w, e, r, index, now_s, report_s)
