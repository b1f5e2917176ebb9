"""A price that is decided by is declared, or plausible, whatever the sources say."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from spillway.core.prices import (
    GPU_USD_PER_HOUR,
    LARGEST_JUMP,
    GpuPrice,
    Offers,
    Prices,
    PriceSource,
    resolve,
)
from spillway.core.retries import attempts_per_request, billed_per_answer
from tests.unit.core.pools import spec, variant

POOL = spec(variants=[variant(usd=None)])
anything = st.one_of(st.none(), st.floats(), st.floats(0.01, 100))
shares = st.floats(0, 0.99)
layers = st.lists(st.integers(0, 5), max_size=4)


def said(usd: float | None) -> Offers:
    return Offers(gpus={} if usd is None else {"gpu": (GpuPrice(usd, PriceSource.CATALOG),)})


@given(st.lists(anything, min_size=1, max_size=8))
def test_whatever_a_source_says_the_price_stays_plausible(history: list[float | None]) -> None:
    prices = Prices()
    for tick, usd in enumerate(history):
        before = prices.gpus.get("gpu")
        prices = resolve(POOL, said(usd), prices, float(tick))
        now = prices.gpus.get("gpu")
        if now is None:
            assert before is None
            assert prices.unknown == ("variant gpu",)
            continue
        assert GPU_USD_PER_HOUR[0] <= now.usd_per_gpu_hour <= GPU_USD_PER_HOUR[1]
        if before is not None:
            ratio = now.usd_per_gpu_hour / before.usd_per_gpu_hour
            assert 1 / LARGEST_JUMP * (1 - 1e-6) <= ratio <= LARGEST_JUMP * (1 + 1e-6)
        assert bool(prices.notes) == (usd is None or now.usd_per_gpu_hour != usd)


@given(shares, layers)
def test_layers_of_retries_multiply_into_one(p: float, retries: list[int]) -> None:
    one = math.prod(r + 1 for r in retries) - 1
    assert math.isclose(attempts_per_request(p, retries), attempts_per_request(p, [one]))


@given(shares, layers)
def test_attempts_are_those_of_a_walk_through_all_outcomes(p: float, retries: list[int]) -> None:
    """Attempt k + 1 is made when k have failed."""
    most = math.prod(r + 1 for r in retries)
    walked = sum(p**failed for failed in range(most))
    assert math.isclose(attempts_per_request(p, retries), walked, rel_tol=1e-9)


@given(shares, shares, st.floats(0, 1), layers)
def test_failures_never_make_an_answer_cheaper(
    p: float, q: float, billed: float, retries: list[int]
) -> None:
    low, high = sorted((p, q))
    assert billed_per_answer(high, billed) >= billed_per_answer(low, billed) >= 1
    assert attempts_per_request(high, retries) >= attempts_per_request(low, retries) - 1e-9


@given(st.floats(0, 0.9), st.floats(0, 1), layers)
def test_what_is_billed_is_answers_and_the_billed_share_of_failures(
    p: float, billed: float, retries: list[int]
) -> None:
    attempts = attempts_per_request(p, retries)
    answers = 1 - p ** math.prod(r + 1 for r in retries)
    bill = answers + billed * attempts * p
    assert math.isclose(bill / answers, billed_per_answer(p, billed), rel_tol=1e-9)
