from __future__ import annotations

import math
import random
from bisect import bisect_left
from itertools import pairwise
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.core.lengths import median_and_p95, quantile

#: vLLM's (build_1_2_5_buckets).
BOUNDS = [float(m * 10**e) for e in range(5) for m in (1, 2, 5)]


def shares(median: float, sigma: float) -> list[float]:
    """Share of lognormal lengths in each bucket and beyond."""
    below = [NormalDist().cdf(math.log(bound / median) / sigma) for bound in BOUNDS]
    return [b - a for a, b in zip([0.0, *below], [*below, 1.0], strict=True)]


def counts(lengths: list[float]) -> list[int]:
    found = [0] * (len(BOUNDS) + 1)
    for length in lengths:
        found[bisect_left(BOUNDS, length)] += 1
    return found


@pytest.mark.parametrize(
    ("median", "sigma"),
    [(832, 0.81), (1664, 0.81), (4780, 0.3), (9560, 0.3), (167, 0.68), (12, 1.3)],
)
def test_quantiles_of_lognormal_lengths_are_theirs(median: float, sigma: float) -> None:
    """Where PromQL's straight line through a bucket is up to a third off."""
    found = shares(median, sigma)
    assert quantile(BOUNDS, found, 0.5) == pytest.approx(median, rel=0.001)
    assert quantile(BOUNDS, found, 0.95) == pytest.approx(
        median * math.exp(1.645 * sigma), rel=0.001
    )


def test_their_scatter_is_without_bias_however_few_there_are() -> None:
    sigmas = []
    for seed in range(40):
        rng = random.Random(seed)  # noqa: S311 - not for secrets
        found = counts([rng.lognormvariate(math.log(4780), 0.3) for _ in range(150)])
        middle, long = quantile(BOUNDS, found, 0.5), quantile(BOUNDS, found, 0.95)
        assert middle is not None
        assert long is not None
        sigmas.append(math.log(long / middle) / 1.645)
    assert sum(sigmas) / len(sigmas) == pytest.approx(0.3, rel=0.07)


def test_both_quantiles_are_of_one_histogram() -> None:
    middle, long = median_and_p95(BOUNDS, shares(832, 0.81))
    assert middle == pytest.approx(832, rel=0.001)
    assert long == pytest.approx(832 * math.exp(1.645 * 0.81), rel=0.001)


def test_what_rounding_leaves_in_a_bucket_points_nowhere() -> None:
    # Half of them are beyond all bounds: the line through the two bounds before is steep.
    clean = [0.0] * 9 + [0.5] + [0.0] * 5 + [0.5]
    noisy = [*clean[:10], 1e-12, *clean[11:]]
    for share in (0.4, 0.95, 0.99):
        assert quantile(BOUNDS, noisy, share) == quantile(BOUNDS, clean, share)
    assert quantile(BOUNDS, clean, 0.95) == BOUNDS[-1], (
        "it is beyond the bounds, and so at the last"
    )


@given(
    bounds=st.lists(st.floats(5e-324, 1e308), min_size=1, max_size=6, unique=True).map(sorted),
    numbers=st.lists(st.floats(0.0), min_size=7, max_size=7),
    share=st.floats(0.01, 0.99),
)
def test_whatever_was_counted_a_quantile_lies_within_the_bounds(
    bounds: list[float], numbers: list[float], share: float
) -> None:
    found = quantile(bounds, numbers[: len(bounds) + 1], share)
    assert found is None or 0 <= found <= bounds[-1]


@pytest.mark.parametrize("none", [[0] * 16, [0.0] * 15 + [math.inf], [math.nan] * 16])
def test_nothing_counted_has_no_quantile(none: list[float]) -> None:
    assert quantile(BOUNDS, none, 0.5) is None


def test_lengths_of_one_bucket_lie_within_it() -> None:
    found = counts([3000.0] * 10)
    middle, long = quantile(BOUNDS, found, 0.5), quantile(BOUNDS, found, 0.95)
    assert middle is not None
    assert long is not None
    assert 2000 < middle < long < 5000
    assert middle == pytest.approx(math.sqrt(2000 * 5000))


def test_a_quantile_is_where_lengths_were_counted() -> None:
    # Half below 1,000 and half at it, none beyond 2,000: the line alone would go on for ever.
    assert quantile(BOUNDS, counts([900.0] * 99 + [1500.0]), 0.999) == pytest.approx(2000, rel=0.01)
    assert quantile(BOUNDS, counts([1.0] * 5), 0.5) == 1.0
    assert quantile(BOUNDS, counts([1e6] * 5), 0.5) == BOUNDS[-1]


@pytest.mark.parametrize("seed", range(20))
def test_more_of_the_requests_are_never_shorter(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    found = [rng.choice([0, 0, 1, 5, 40]) for _ in range(len(BOUNDS))] + [rng.choice([0, 3])]
    found[rng.randrange(len(BOUNDS))] += 1
    read = [quantile(BOUNDS, found, share) for share in (0.01, 0.2, 0.5, 0.7, 0.95, 0.99)]
    for shorter, longer in pairwise(read):
        assert shorter is not None
        assert longer is not None
        assert shorter <= longer
