"""Where a decision would turn: just above it the policy asks for one more, just below it not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.core.economics import replicas_by_marginal_rule, replicas_by_quantile
from spillway.core.forecast import Forecast
from spillway.core.thresholds import by_marginal_rule, by_quantile

#: The search ends within half a per cent.
NEAR = 0.01


def at(mean: float, spread: float = 0.2) -> Forecast:
    levels = ((0.1, 1 - spread), (0.5, 1.0), (0.9, 1 + spread))
    return Forecast(0.0, 300.0, mean, tuple((level, mean * share) for level, share in levels))


def test_without_spread_the_turning_points_are_plain() -> None:
    # g/a is a half: replica n pays from (n - 1/2) * mu on.
    found = by_marginal_rule(at(25.0, 0.0), 3, mu=10.0, g=2.0, a=4.0)
    assert found.add_above == pytest.approx(35.0, rel=NEAR)
    assert found.remove_below == pytest.approx(25.0, rel=NEAR)
    found = by_quantile(at(25.0, 0.0), 3, mu=10.0, quantile=0.9)
    assert found.add_above == pytest.approx(30.0, rel=NEAR)
    assert found.remove_below == pytest.approx(20.0, rel=NEAR)


def test_an_api_that_is_cheaper_than_a_full_replica_never_asks_for_one() -> None:
    found = by_marginal_rule(at(25.0), 2, mu=10.0, g=4.0, a=4.0)
    assert found.add_above is None
    assert found.remove_below is None


def test_without_spread_the_turning_price_is_that_of_the_part_that_is_used() -> None:
    # 25 req/s use half of the third replica of 10, and nothing of a fourth.
    found = by_marginal_rule(at(25.0, 0.0), 3, mu=10.0, g=2.0, a=4.0)
    assert found.api_remove_below == pytest.approx(4.0)
    assert found.api_add_above is None
    # Two replicas are full; half of a third is worth its 2 dollars at an API of 4.
    found = by_marginal_rule(at(25.0, 0.0), 2, mu=10.0, g=2.0, a=3.0)
    assert found.api_add_above == pytest.approx(4.0)
    assert found.api_remove_below == pytest.approx(2.0)
    assert by_quantile(at(25.0, 0.0), 3, mu=10.0, quantile=0.9).api_add_above is None


def test_with_no_replica_there_is_none_to_remove() -> None:
    assert by_quantile(at(1.0), 0, mu=10.0, quantile=0.9).remove_below is None


@given(
    st.floats(1.0, 200.0),
    st.floats(0.0, 0.5),
    st.floats(1.0, 40.0),
    st.floats(0.1, 0.9),
)
def test_on_either_side_of_a_turning_point_the_rule_answers_differently(
    mean: float, spread: float, mu: float, share: float
) -> None:
    g, a = share * 10, 10.0
    forecast = at(mean, spread)
    replicas = replicas_by_marginal_rule(forecast, mu, g, a, 1000)
    found = by_marginal_rule(forecast, replicas, mu, g, a)
    if found.add_above is not None:
        above = replicas_by_marginal_rule(at(found.add_above * 1.02, spread), mu, g, a, 1000)
        below = replicas_by_marginal_rule(at(found.add_above * 0.98, spread), mu, g, a, 1000)
        assert above > replicas >= below
    if found.remove_below is not None:
        assert found.remove_below <= mean * (1 + NEAR)
    if found.api_add_above is not None:
        dearer, cheaper = found.api_add_above * 1.001, found.api_add_above * 0.999
        assert replicas_by_marginal_rule(forecast, mu, g, dearer, 1000) > replicas
        assert replicas_by_marginal_rule(forecast, mu, g, cheaper, 1000) <= replicas
    if found.api_remove_below is not None:
        cheaper = found.api_remove_below * 0.999
        assert replicas_by_marginal_rule(forecast, mu, g, cheaper, 1000) < replicas


@given(st.floats(1.0, 200.0), st.floats(1.0, 40.0))
def test_so_it_is_for_the_quantile(mean: float, mu: float) -> None:
    forecast = at(mean)
    replicas = replicas_by_quantile(forecast, mu, 0.9, 1000)
    found = by_quantile(forecast, replicas, mu, 0.9)
    if found.add_above is not None:
        assert replicas_by_quantile(at(found.add_above * 1.02), mu, 0.9, 1000) > replicas
    assert math.isclose(forecast.mean, mean)
