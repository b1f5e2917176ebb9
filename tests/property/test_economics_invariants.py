from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from spillway.core.economics import (
    replicas_by_marginal_rule,
    replicas_by_quantile,
    usd_per_attempt,
)
from spillway.core.forecast import LEVELS, Forecast
from spillway.core.prices import PriceSource, TokenPrice
from spillway.core.retries import billed_per_answer
from spillway.core.tokenmix import TokenMix

MAX = 30
demands = st.lists(st.floats(0, 200), min_size=1, max_size=len(LEVELS))
usd = st.floats(0.01, 100)
capacities = st.floats(0.5, 50)


def forecast_of(values: list[float]) -> Forecast:
    """Equally likely loads."""
    n = len(values)
    quantiles = tuple(((i + 0.5) / n, v) for i, v in enumerate(sorted(values)))
    return Forecast(0.0, 120.0, sum(values) / n, quantiles)


def expected_cost(n: int, values: list[float], mu: float, g: float, a: float) -> float:
    """Dollars an hour of n replicas and of the API for what they can't take."""
    burst = sum(max(0.0, v - n * mu) for v in values) / len(values)
    return n * g + burst / mu * a


@given(demands, capacities, usd, usd)
def test_the_marginal_rule_finds_the_cheapest_number(
    values: list[float], mu: float, g: float, a: float
) -> None:
    n = replicas_by_marginal_rule(forecast_of(values), mu, g, a, MAX)
    costs = [expected_cost(k, values, mu, g, a) for k in range(MAX + 1)]
    assert math.isclose(costs[n], min(costs), rel_tol=1e-6, abs_tol=1e-6)


@given(demands, capacities, usd, usd, usd)
def test_a_dearer_api_never_means_fewer_replicas(
    values: list[float], mu: float, g: float, a: float, more: float
) -> None:
    forecast = forecast_of(values)
    before = replicas_by_marginal_rule(forecast, mu, g, a, MAX)
    assert replicas_by_marginal_rule(forecast, mu, g, a + more, MAX) >= before


@given(demands, capacities, usd, usd, usd)
def test_dearer_gpus_never_mean_more_replicas(
    values: list[float], mu: float, g: float, a: float, more: float
) -> None:
    forecast = forecast_of(values)
    before = replicas_by_marginal_rule(forecast, mu, g, a, MAX)
    assert replicas_by_marginal_rule(forecast, mu, g + more, a, MAX) <= before


@given(demands, capacities, usd, usd, st.floats(0, 100))
def test_more_demand_never_means_fewer_replicas(
    values: list[float], mu: float, g: float, a: float, more: float
) -> None:
    forecast = forecast_of(values)
    higher = forecast.shifted(more)
    assert replicas_by_marginal_rule(higher, mu, g, a, MAX) >= replicas_by_marginal_rule(
        forecast, mu, g, a, MAX
    )
    assert replicas_by_quantile(higher, mu, 0.95, MAX) >= replicas_by_quantile(
        forecast, mu, 0.95, MAX
    )


token_usd = st.floats(0.01, 100)
mixes = st.builds(
    lambda prompt, output, share: TokenMix(prompt, output, prompt * share),
    st.floats(1, 20_000),
    st.floats(1, 4000),
    st.floats(0, 1),
)


@given(demands, capacities, usd, mixes, st.tuples(token_usd, token_usd), st.floats(0, 1),
       st.tuples(token_usd, token_usd), st.floats(0, 0.5), st.floats(0, 1))  # fmt: skip
def test_every_api_price_that_rises_keeps_or_adds_replicas(
    values: list[float],
    mu: float,
    g: float,
    mix: TokenMix,
    price: tuple[float, float],
    cached: float,
    more: tuple[float, float],
    errors: float,
    billed: float,
) -> None:
    """Prompt, answer, cached prompt, and the failures that are billed."""

    def replicas(prompt: float, answer: float, cached_prompt: float, failing: float) -> int:
        quoted = TokenPrice(prompt, answer, PriceSource.DECLARED, cached_prompt)
        each = usd_per_attempt(quoted, mix) * billed_per_answer(failing, billed)
        return replicas_by_marginal_rule(forecast_of(values), mu, g, each * mu * 3600, MAX)

    prompt, answer = price
    before = replicas(prompt, answer, cached * prompt, 0.0)
    assert replicas(prompt + more[0], answer, cached * prompt, 0.0) >= before
    assert replicas(prompt, answer + more[1], cached * prompt, 0.0) >= before
    assert replicas(prompt, answer, prompt, 0.0) >= before
    assert replicas(prompt, answer, cached * prompt, errors) >= before
