"""How load scatters within a minute, and what that does to a forecast of minutes."""

from __future__ import annotations

import math
import random

import pytest

from spillway.core.economics import replicas_by_marginal_rule
from spillway.core.forecast import LEVELS, Forecast
from spillway.core.peaks import Peaks, with_peaks

TICK = 15.0


def watched(counts: list[float], every: float = TICK) -> Peaks:
    """After means of a minute over a load that is given as requests per second of each tick."""
    peaks, length = Peaks(), round(60 / every)
    for tick in range(length, len(counts)):
        mean = sum(counts[tick - length : tick]) / length
        peaks = peaks.observed(tick * every, mean)
    return peaks


def noisy(share: float, ticks: int = 1500) -> list[float]:
    random.seed(7)
    return [max(0.0, random.gauss(100.0, 100.0 * share)) for _ in range(ticks)]


def flat(value: float, spread: float = 0.0) -> Forecast:
    quantiles = tuple((level, value * (1 + spread * (level - 0.5))) for level in LEVELS)
    return Forecast(at=0.0, horizon_seconds=200.0, mean=value, quantiles=quantiles)


def test_a_load_that_nobody_watched_has_no_peaks() -> None:
    assert Peaks().share(1.0) == 0.0
    assert Peaks().observed(0.0, 10.0).share(1.0) == 0.0, "one mean says nothing of its inside"


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_the_scatter_of_a_tick_is_read_from_means_of_a_minute(share: float) -> None:
    # A mean of one second has the variance of 15 s times 15.
    assert watched(noisy(share)).density == pytest.approx(share * math.sqrt(TICK), rel=0.15)


def test_a_still_load_and_a_ramp_have_hardly_any() -> None:
    assert watched([100.0] * 1500).share(1.0) < 0.01
    ramp = [100.0 + tick / 10 for tick in range(1500)]
    assert watched(ramp).share(1.0) < 0.01


def test_a_jump_to_another_load_is_not_scatter() -> None:
    still = [100.0] * 500
    assert watched(still + [300.0] * 8).share(1.0) < 0.02


def test_quick_answers_feel_peaks_that_long_ones_even_out() -> None:
    peaks = watched(noisy(0.1))
    quick, slow = peaks.share(0.6), peaks.share(11.0)
    # Ten seconds of white noise, less what the minute's own mean has of it.
    assert quick == pytest.approx(peaks.density * math.sqrt(1 / 11.2 - 1 / 60))
    assert 0 < slow < quick / 2
    assert peaks.share(60.0) == 0.0, "who stays as long as the mean lasts feels no more than it"


def test_the_same_sample_or_one_from_long_ago_teaches_nothing() -> None:
    peaks = watched(noisy(0.1))
    assert peaks.at is not None
    assert peaks.observed(peaks.at, 1.0) == peaks
    assert peaks.observed(peaks.at + 2.0, 1.0) == peaks, "too near to tell"
    for gap in (30.0, 300.0):
        later = peaks.observed(peaks.at + gap, 500.0)
        assert (later.density, later.value) == (peaks.density, 500.0)
    back = peaks.observed(peaks.at - 100.0, 50.0)
    assert (back.density, back.value) == (peaks.density, 50.0), "a clock that was set back"


def test_without_peaks_the_forecast_is_the_same() -> None:
    forecast = flat(100.0, 0.4)
    assert with_peaks(forecast, 0.0) is forecast


def test_peaks_widen_the_forecast_and_leave_its_mean() -> None:
    plain = flat(100.0, 0.2)
    wide = with_peaks(plain, 0.1)

    def moments(forecast: Forecast) -> tuple[float, float]:
        mean = sum(p * v for p, v in forecast.atoms())
        return mean, sum(p * (v - mean) ** 2 for p, v in forecast.atoms())

    (mean, variance), (wide_mean, wide_variance) = moments(plain), moments(wide)
    assert wide_mean == pytest.approx(mean)
    assert wide_variance == pytest.approx(variance + 100.0, rel=0.1)
    values = [value for _, value in wide.quantiles]
    assert values == sorted(values)
    assert [level for level, _ in wide.quantiles] == list(LEVELS)


def test_load_is_never_negative_whatever_the_peaks() -> None:
    assert with_peaks(flat(1.0), 3.0).quantiles[0][1] >= 0


def test_peaks_that_the_api_would_charge_dearly_are_worth_a_replica() -> None:
    """At seven times a replica's price a rare peak pays for one; at the same price it does not."""
    calm = flat(100.0)
    restless = with_peaks(calm, 0.15)
    assert replicas_by_marginal_rule(calm, 10.0, 1.0, 7.0, 100) == 10
    assert replicas_by_marginal_rule(restless, 10.0, 1.0, 7.0, 100) > 10
    assert replicas_by_marginal_rule(restless, 10.0, 1.0, 1.1, 100) < 10
