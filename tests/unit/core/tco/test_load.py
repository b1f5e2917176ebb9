from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.core.tco.load import NotPlannableError, from_p95, from_rates, with_retries
from spillway.core.tokenmix import TokenMix

MIX = TokenMix(1000, 200)


def test_a_load_from_its_p95_has_that_p95_and_the_ratio() -> None:
    load = from_p95(40.0, MIX, p95_over_p50=2.0)
    assert load.quantile(0.95) == pytest.approx(40.0, rel=0.01)
    assert load.quantile(0.5) == pytest.approx(20.0, rel=0.01)
    # exp(sigma^2 / 2) times the median, with sigma = ln 2 / 1.645.
    assert load.mean == pytest.approx(20 * math.exp((math.log(2) / 1.645) ** 2 / 2), rel=0.01)


def test_a_ratio_of_one_is_a_steady_load() -> None:
    load = from_p95(40.0, MIX, p95_over_p50=1.0)
    assert load.rates[0] == load.rates[-1] == 40.0


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=900))
def test_a_recorded_load_keeps_its_mean_and_its_bounds(rates: list[float]) -> None:
    if max(rates) <= 0:
        with pytest.raises(NotPlannableError, match="a request in it"):
            from_rates(rates, MIX)
        return
    load = from_rates(rates, MIX)
    assert min(rates) - 1e-9 <= load.rates[0]
    assert load.rates[-1] <= max(rates) * (1 + 1e-9)
    assert list(load.rates) == sorted(load.rates)
    if len(rates) <= 200:
        assert load.mean == pytest.approx(sum(rates) / len(rates))


def test_retries_are_load() -> None:
    load = from_p95(10.0, MIX)
    # Each second attempt fails and is tried once more.
    assert with_retries(load, 0.5, 1).mean == pytest.approx(1.5 * load.mean)
    assert with_retries(load, 0.0, 5).mean == load.mean


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((0.0, 2.0), "requests per second at p95 must be above 0, got 0"),
        ((float("nan"), 2.0), "requests per second at p95 must be above 0, got nan"),
        ((1.0, 0.5), "p95 over p50 must be at least 1 and at most 1000, got 0.5"),
    ],
)
def test_figures_that_make_no_load_are_named(figures: tuple[float, float], said: str) -> None:
    with pytest.raises(NotPlannableError, match=said):
        from_p95(figures[0], MIX, p95_over_p50=figures[1])
