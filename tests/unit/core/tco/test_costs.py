"""Bills by hand, and against brute force."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.core.tco.autoscaling import classic
from spillway.core.tco.costs import (
    ApiTerms,
    OwnTerms,
    api_alone,
    fixed_fleet,
    following_fleet,
)
from spillway.core.tco.crossover import crossover, sensitivity
from spillway.core.tco.load import Load, NotPlannableError, from_rates
from spillway.core.tco.sizing import compare
from spillway.core.tokenmix import TokenMix

MIX = TokenMix(1000, 200)
#: $0.36 a thousand requests of the mix.
API = ApiTerms(0.20, 0.80)
#: A replica takes 10 requests a second, for which the API charges $12.96 an hour.
OWN = OwnTerms(3.50, 10.0)
HOURS = 730


def test_the_api_alone_costs_its_tokens() -> None:
    bill = api_alone(from_rates([0.0, 20.0], MIX), API)
    assert bill.total == pytest.approx(10 * 3600 * HOURS * 0.00036)
    assert (bill.gpu, bill.burst_share) == (0.0, 1.0)


def test_a_fleet_bursts_what_it_can_not_take() -> None:
    bill = fixed_fleet("one", 1, from_rates([5.0, 30.0], MIX), OWN, API)
    assert bill.gpu == pytest.approx(3.5 * HOURS)
    # 20 of 30 requests a second leave in half of the time.
    assert bill.api == pytest.approx(10 * 3600 * HOURS * 0.00036)
    assert bill.burst_share == pytest.approx(20 / 35)


def test_waiting_redundancy_and_labour_are_on_the_bill() -> None:
    slow = ApiTerms(0.20, 0.80, extra_seconds=2.0, usd_per_second=0.001)
    assert slow.usd_per_request(MIX) == pytest.approx(0.00036 + 0.002)
    own = OwnTerms(3.50, 10.0, 2, storage_per_month=50, network_per_month=20, labour_per_month=3000)
    bill = fixed_fleet("", 1, from_rates([5.0], MIX), own, API)
    assert bill.fixed == pytest.approx(2 * 3.5 * HOURS + 3070)


def test_failed_attempts_are_billed_at_their_share() -> None:
    free = ApiTerms(0.20, 0.80, error_share=0.2)
    billed = ApiTerms(0.20, 0.80, error_share=0.2, billed_error_share=1.0)
    assert free.usd_per_request(MIX) == pytest.approx(0.00036)
    assert free.usd_per_attempt(MIX) == pytest.approx(0.8 * 0.00036)
    assert billed.usd_per_attempt(MIX) == pytest.approx(0.00036)


rates = st.lists(st.floats(0.1, 300), min_size=1, max_size=20)
prices = st.floats(0.05, 20)


@given(rates, prices, st.floats(0.5, 40), prices, prices)
def test_no_way_is_cheaper_than_the_bound_and_no_fixed_one_than_the_rule(
    seen: list[float], g: float, mu: float, prompt: float, answer: float
) -> None:
    load, own, api = from_rates(seen, MIX), OwnTerms(g, mu), ApiTerms(prompt, answer)
    bills = compare(load, own, api)
    best, bound = bills[-2].total, bills[-1].total
    most = own.replicas_for(max(seen)) + 1
    brute = min(fixed_fleet("", n, load, own, api).total for n in range(most + 1))
    assert best == pytest.approx(brute, rel=1e-9)
    assert bound <= min(bill.total for bill in bills) * (1 + 1e-9)


@given(rates, prices, st.floats(0.5, 40), prices)
def test_the_bound_is_the_cheapest_number_at_every_single_rate(
    seen: list[float], g: float, mu: float, prompt: float
) -> None:
    load, own, api = from_rates(seen, MIX), OwnTerms(g, mu), ApiTerms(prompt, 1.0)
    singly = []
    for rate in load.rates:
        one = Load((rate,), MIX)
        most = math.ceil(rate / mu) + 1
        singly.append(min(fixed_fleet("", n, one, own, api).total for n in range(most + 1)))
    expected = sum(singly) / len(singly)
    assert following_fleet("", load, own, api).total == pytest.approx(expected, rel=1e-9)


@given(rates, prices, prices, prices, st.floats(1, 3))
def test_every_bill_rises_with_every_price_and_with_demand(
    seen: list[float], g: float, prompt: float, answer: float, factor: float
) -> None:
    load, own, api = from_rates(seen, MIX), OwnTerms(g, 8.0), ApiTerms(prompt, answer)
    dearer = (
        compare(load, OwnTerms(g * factor, 8.0), api),
        compare(load, own, ApiTerms(prompt * factor, answer)),
        compare(load, own, ApiTerms(prompt, answer * factor)),
        compare(load.scaled(factor), own, api),
    )
    before = compare(load, own, api)
    for bills in dearer:
        # The rules of thumb may jump either way; what is optimal may not.
        for way in (0, -2, -1):
            assert bills[way].total >= before[way].total * (1 - 1e-9)


# Crossover


def total_own(rate: float, own: OwnTerms, utilization: float) -> float:
    hour = own.usd_per_replica_hour * HOURS
    return own.replicas_for(rate, utilization) * hour + own.fixed_per_month


def test_one_replica_pays_from_what_it_costs() -> None:
    at = crossover(OWN, API, MIX)
    # $3.50 an hour over $0.36 a thousand.
    assert at.first == pytest.approx(3.5 / 3600 / 0.00036)
    # The second one, at 8.5 requests a second, costs $7 where the API charges $11.
    assert at.always == at.first


def test_an_api_below_the_gpus_price_is_never_crossed() -> None:
    at = crossover(OwnTerms(20.0, 10.0), API, MIX)
    assert (at.first, at.always) == (None, None)


@given(prices, st.floats(1, 40), prices, st.floats(0, 20_000), st.integers(0, 3))
def test_the_crossover_is_where_the_bills_cross(
    g: float, mu: float, prompt: float, labour: float, spare: int
) -> None:
    own = OwnTerms(g, mu, spare, labour_per_month=labour)
    api = ApiTerms(prompt, 1.0)
    at = crossover(own, api, MIX)
    per_rps = api.usd_per_attempt(MIX) * 3600 * HOURS
    if at.first is None or at.always is None:
        assert per_rps * mu * 0.85 <= g * HOURS * (1 + 1e-9)
        return
    assert at.first <= at.always * (1 + 1e-9)
    assert total_own(at.first, own, 0.85) <= per_rps * at.first * (1 + 1e-6)
    for share in (0.2, 0.5, 0.9, 0.999):
        assert total_own(at.first * share, own, 0.85) >= per_rps * at.first * share * (1 - 1e-6)
    for replicas in range(1, 30):
        above = at.always * (1 + 1e-6) + replicas * mu * 0.85 * (1 + 1e-6)
        assert total_own(above, own, 0.85) <= per_rps * above * (1 + 1e-6)


def test_dearer_gpus_and_a_cheaper_api_move_the_crossover_up() -> None:
    grid = sensitivity(OWN, API, MIX)
    numbers = [[math.inf if v is None else v for v in row] for row in grid]
    for row, dearer in pairwise(numbers):
        assert all(a <= b for a, b in zip(row, dearer, strict=True))
    assert all(a >= b for row in numbers for a, b in pairwise(row))
    assert grid[2][2] == crossover(OWN, API, MIX).first


# The classic formula


def test_the_classic_example_by_its_own_formula() -> None:
    found = classic(200, 40, 100, 3.06)
    assert found.fixed_replicas == 3
    assert round(found.fixed_monthly, 2) == 6701.40
    assert round(found.autoscaled_monthly, 2) == 3395.38
    assert round(found.savings_fraction, 2) == 0.49


@given(st.floats(1, 1e4), st.floats(0, 1), st.floats(1, 1e4))
def test_autoscaling_never_costs_more_than_the_peak(
    peak: float, share: float, capacity: float
) -> None:
    found = classic(peak, peak * share, capacity, 3.06)
    assert 0 <= found.savings_fraction < 1


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((200, 300, 100, 3.06), "mean requests per second must be at least 0 and at most 200"),
        ((200, 40, 0, 3.06), "requests per second of a replica must be above 0, got 0"),
        ((200, 40, 100, -1), "the price of a replica-hour must be above 0, got -1"),
    ],
)
def test_figures_out_of_range_are_named(
    figures: tuple[float, float, float, float], said: str
) -> None:
    with pytest.raises(NotPlannableError, match=said):
        classic(*figures)
