"""Quantiles of lengths that an engine counted in a histogram.

vLLM's buckets of lengths are wide: 1, 2, 5, 10, 20, 50 and so on. PromQL's ``histogram_quantile``
takes lengths to be spread evenly within one, and so puts the 95th percentile of prompts with a mean
of 1,155 tokens and sigma 0.81 at 4,130 instead of 3,150: in a bucket on the falling side of a
distribution most lie near its lower bound. Their scatter then looks a sixth larger than it is (of
RAG's prompts, which are much alike, by almost half), and the capacity that follows smaller.

Here the share below a length is taken to run between two bounds as that of a lognormal does: the
logarithm of the length is linear in the normal score of the share. That is exact where lengths are
lognormal, which is what the rest of the core takes them for (`spillway.core.tokenmix`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_NORMAL: Final = NormalDist()
_LEAST_POINTS: Final = 2
#: Standard deviations from the middle to a bound that no request is beyond, where nothing else
#: tells.
_BEYOND: Final = 3.0
#: A bucket with so much less than the fullest has what rounding leaves of rates that are equal.
_LEAST_SHARE: Final = 1e-6


def median_and_p95(
    bounds: Sequence[float], counts: Sequence[float]
) -> tuple[float | None, float | None]:
    """The two quantiles that `spillway.core.facts.LengthQuantiles` has of a histogram.

    Arguments as of `quantile`.
    """
    return quantile(bounds, counts, 0.5), quantile(bounds, counts, 0.95)


def quantile(bounds: Sequence[float], counts: Sequence[float], share: float) -> float | None:
    """The length that this share of the requests is not longer than.

    Args:
        bounds: Upper bounds of the buckets in tokens, ascending, without +Inf; the last one is also
            the largest answer.
        counts: Requests in each bucket (not cumulative), and last those beyond the bounds.
        share: Above 0 and below 1.

    Returns:
        Tokens; None where nothing was counted.
    """
    total = sum(counts)
    if not 0 < total < math.inf:
        return None
    least_count = _LEAST_SHARE * max(counts)
    counts = [count if count > least_count else 0.0 for count in counts]
    total = sum(counts)
    filled = [place for place, count in enumerate(counts) if count > 0]
    least = bounds[filled[0] - 1] if filled[0] else 0.0
    most = bounds[min(filled[-1], len(bounds) - 1)]
    # Normal scores of the shares below the bounds that have requests on both sides.
    points: list[tuple[float, float]] = []
    below = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        below += count
        if 0 < below < total and count > 0:
            points.append((_NORMAL.inv_cdf(below / total), bound))
    if len(points) < _LEAST_POINTS:
        points = [(-_BEYOND, least)] * (least > 0) + points
        points += [(_BEYOND, most)] * (counts[-1] <= 0)
    if len(points) < _LEAST_POINTS:
        return most
    wanted = _NORMAL.inv_cdf(share)
    # The bounds on both sides of it; before the first and after the last one the line goes on.
    place = min(max(bisect_left(points, (wanted, 0.0)), 1), len(points) - 1)
    (before, shorter), (after, longer) = points[place - 1], points[place]
    part = (wanted - before) / (after - before)
    logarithm = math.log(shorter) + part * (math.log(longer) - math.log(shorter))
    # A line that goes on leads anywhere, but the bucket of the wanted length is known.
    shares = [below / total for below in accumulate(counts)]
    bucket = min(bisect_left(shares, share), len(bounds))
    low, high = bounds[bucket - 1] if bucket else 0.0, bounds[min(bucket, len(bounds) - 1)]
    return min(max(math.exp(min(logarithm, math.log(high))), low), high)
