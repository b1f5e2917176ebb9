from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.core.forecast import ForecastMemory, forecast, restore, update

if TYPE_CHECKING:
    from collections.abc import Callable

LEAD = 120.0


def after(seconds: float, value_at: Callable[[float], float]) -> tuple[ForecastMemory, float]:
    memory, at = ForecastMemory(), 0.0
    while at <= seconds:
        memory = update(memory, at, value_at(at), lead_seconds=LEAD)
        at += 15
    return memory, at - 15


def test_before_the_first_observation_there_is_no_forecast() -> None:
    assert forecast(ForecastMemory(), LEAD, 60, 0.0) is None


def test_a_steady_load_is_forecast_as_it_is_with_a_narrow_band() -> None:
    memory, now = after(2 * 3600, lambda _: 10.0)
    found = forecast(memory, LEAD, 60, now)
    assert found is not None
    assert found.mean == pytest.approx(10, rel=0.01)
    assert found.quantile(0.05) == pytest.approx(10, rel=0.05)
    assert found.quantile(0.95) == pytest.approx(10, rel=0.05)
    assert memory.weights["trend"] == 0
    assert memory.weights["seasonal"] == 0


def test_the_first_forecasts_carry_an_honest_spread() -> None:
    found = forecast(update(ForecastMemory(), 0.0, 10.0), LEAD, 60, 0.0)
    assert found is not None
    assert found.quantile(0.05) < 9
    assert found.quantile(0.95) > 11


def test_a_ramp_is_met_ahead() -> None:
    def ramp(at: float) -> float:
        return 10 + max(0.0, at - 1800) * 0.02  # +1.2 requests per second a minute

    memory, now = after(1800 + 900, ramp)
    found = forecast(memory, LEAD, 0, now)
    assert found is not None
    assert memory.weights["trend"] > 0.5
    assert memory.level < ramp(now) - 2, "the level alone lags behind what is there already"
    assert found.mean > ramp(now), "the forecast must be ahead of the present load"
    assert found.mean == pytest.approx(ramp(now + LEAD), rel=0.15)


def test_noise_is_not_extrapolated() -> None:
    memory, _ = after(3600, lambda at: 10.0 + (1.0 if at % 30 else -1.0))
    assert memory.weights["trend"] < 0.1


def test_the_band_covers_what_it_says() -> None:
    # A load that wanders by a fixed pattern of +-20 %.
    memory, _ = after(4 * 3600, lambda at: 10.0 + 2.0 * ((at * 7919) % 101 - 50) / 50)
    assert memory.coverage is not None
    assert memory.coverage == pytest.approx(0.9, abs=0.12)


@pytest.mark.slow
def test_the_same_past_errors_make_a_wider_band_while_the_load_is_restless() -> None:
    def restless_by_turns(at: float) -> float:
        swing = 0.3 if at % 7200 < 3600 else 0.02
        return 50.0 * (1 + swing * ((at * 7919) % 101 - 50) / 50)

    def width(seconds: float) -> float:
        memory, now = after(seconds, restless_by_turns)
        found = forecast(memory, LEAD, 60, now)
        assert found is not None
        return (found.quantile(0.95) - found.quantile(0.05)) / found.mean

    assert width(5 * 7200 + 3600) > 1.5 * width(6 * 7200)


def test_a_young_band_is_not_narrowed_by_an_hour_of_luck() -> None:
    memory, _ = after(1800, lambda _: 10.0)
    assert memory.band.low <= 0.05
    assert memory.band.high >= 0.95
    memory, _ = after(6 * 3600, lambda _: 10.0)
    assert memory.band.low > 0.05, "by then the band is as narrow as its coverage allows"


def test_a_service_that_has_just_begun_is_not_sized_for_the_nothing_before_it() -> None:
    # The mean of the last minute fills up within that minute.
    memory, now = after(90, lambda at: min(8.0, 8.0 * at / 60))
    found = forecast(memory, LEAD, 60, now)
    assert found is not None
    assert found.mean == pytest.approx(8, rel=0.25)


@pytest.mark.parametrize("other", [40.0, 2.0])
def test_another_load_is_believed_when_it_has_lasted_a_minute(other: float) -> None:
    memory, now = after(3600 + 75, lambda at: 10.0 if at < 3600 else other)
    found = forecast(memory, LEAD, 60, now)
    assert found is not None
    assert found.mean == pytest.approx(other, rel=0.05)
    assert found.quantile(0.95) < 1.2 * other, "one break is no reason for a wide band"


def test_a_load_that_comes_back_within_a_minute_was_an_outlier_and_widens_the_band() -> None:
    quiet, _ = after(4 * 3600, lambda _: 10.0)
    memory, now = after(4 * 3600, lambda at: 30.0 if at >= 1800 and at % 630 < 45 else 10.0)
    found = forecast(memory, LEAD, 60, now)
    assert found is not None
    assert found.quantile(0.5) == pytest.approx(10, rel=0.1)
    assert memory.band.spread[-1] > quiet.band.spread[-1]


def test_one_rise_from_nothing_does_not_multiply_later_forecasts_without_bound() -> None:
    memory, now = after(3600, lambda at: 0.0 if at < 1800 else 10.0)
    found = forecast(memory, LEAD, 60, now)
    assert found is not None
    assert found.quantile(0.99) <= 40


def test_the_same_observation_twice_changes_nothing() -> None:
    memory = update(ForecastMemory(), 0.0, 10.0)
    assert update(memory, 0.0, 99.0) is memory


def test_atoms_are_a_distribution() -> None:
    found = forecast(update(ForecastMemory(), 0.0, 10.0), LEAD, 60, 0.0)
    assert found is not None
    assert sum(p for p, _ in found.atoms()) == pytest.approx(1)
    assert sum(p * v for p, v in found.atoms()) == pytest.approx(found.mean)


DAY = 86_400.0


def office_hours(at: float) -> float:
    return 40.0 if 8 * 3600 <= at % DAY < 18 * 3600 else 10.0


@pytest.mark.slow
def test_a_season_is_used_once_it_has_proved_itself_and_not_before() -> None:
    def wave(at: float) -> float:
        return 50.0 + 40.0 * math.sin(2 * math.pi * at / DAY)

    memory, at, seasonal = ForecastMemory(), 0.0, []
    while at < 3 * DAY:
        memory = update(memory, at, wave(at), lead_seconds=1200.0)
        if at % 3600 == 0:
            seasonal.append(memory.weights["seasonal"])
        at += 60
    assert max(seasonal[:25]) == 0, "nothing is known of a second day before there was a first"
    assert sum(seasonal[48:]) / 24 > 0.3
    found = forecast(memory, 1200.0, 0.0, at)
    assert found is not None
    assert found.quantile(0.5) == pytest.approx(wave(at + 1200), rel=0.1)


def test_a_restart_knows_the_season_and_the_spread_but_no_level() -> None:
    step = 300.0
    history = [(i * step, office_hours(i * step)) for i in range(int(2 * DAY / step))]
    memory = restore(history)
    assert forecast(memory, LEAD, 60, 2 * DAY) is None
    assert memory.band.measured >= 240
    memory = update(memory, 2 * DAY + 7 * 3600, 11.0)
    found = forecast(memory, LEAD, 60, 2 * DAY + 7 * 3600)
    assert found is not None
    assert found.mean == pytest.approx(11.0, rel=0.3)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [(0.0, 5.0)],
        [(0.0, math.nan), (1.0, math.inf), (2.0, -3.0), (math.nan, 1.0)],
        [(5.0, 1.0), (5.0, 2.0), (1.0, 3.0)],
        [(0.0, 0.0), (1e9, 1e300), (2e9, 0.0)],
    ],
)
def test_a_strange_history_is_no_obstacle(history: list[tuple[float, float]]) -> None:
    memory = update(restore(history), 3e9, 10.0)
    found = forecast(memory, LEAD, 60, 3e9)
    assert found is not None
    assert math.isfinite(found.mean)


def test_what_is_known_to_come_lifts_what_lies_below_it() -> None:
    found = forecast(update(ForecastMemory(), 0.0, 10.0), LEAD, 60, 0.0)
    assert found is not None
    lifted = found.at_least(10.0)
    assert lifted.quantile(0.05) == 10.0
    assert lifted.quantile(0.95) == found.quantile(0.95)
    assert found.mean < lifted.mean < found.quantile(0.95)
    assert found.at_least(0.0) == found


@given(
    st.lists(st.floats(0, 1e6) | st.sampled_from([0.0, 1.0, 1e6]), min_size=1, max_size=60),
    st.lists(st.floats(-100, 4000), min_size=60, max_size=60),
    st.floats(0, 3600),
)
def test_whatever_comes_a_forecast_is_a_distribution(
    values: list[float], pauses: list[float], hold: float
) -> None:
    memory, at = ForecastMemory(), 1e6
    for value, pause in zip(values, pauses, strict=False):
        at += pause
        memory = update(memory, at, value, lead_seconds=LEAD, hold_seconds=hold)
        found = forecast(memory, LEAD, hold, at)
        assert found is not None
        rates = [rate for _, rate in found.quantiles]
        assert rates == sorted(rates)
        assert all(math.isfinite(rate) and rate >= 0 for rate in rates)
        assert sum(memory.weights.values()) == pytest.approx(1)
