"""The benchmark's worlds are as large and as wrong as they say."""

from __future__ import annotations

import numpy as np
import pytest

from spillway.sim.benchmark.worlds import (
    DRIFTS,
    PRICES,
    World,
    conditions_of,
    drifted,
    scaled,
)
from spillway.sim.setting import setting_of
from spillway.sim.trace import Lengths, Trace

LENGTHS = Lengths.of(np.full(50, 1000), np.full(50, 200))
#: Six hours, busiest in the fifth.
TRACE = Trace("day", "by hand", 600.0, np.array([5.0] * 24 + [9.0] * 6 + [5.0] * 6), LENGTHS)
WORLD = World("day", 10, 180.0)


@pytest.mark.parametrize("scale", [10, 200])
def test_a_scaled_load_needs_as_many_replicas_on_average(scale: int) -> None:
    trace = scaled(TRACE, scale)
    conditions = conditions_of(World("day", scale, 180.0), PRICES[0], 0)
    told = setting_of(trace, conditions, 60.0).told
    assert trace.mean_per_second / told.requests_per_second == pytest.approx(scale, rel=0.01)
    assert trace.mean_per_second / trace.requests_per_second.max() == pytest.approx(
        TRACE.mean_per_second / 9
    )


@pytest.mark.parametrize("drift", DRIFTS)
def test_nobody_is_told_of_a_drift(drift: str) -> None:
    trace = scaled(TRACE, 10)
    usual = conditions_of(WORLD, PRICES[0], 0)
    other = drifted(usual, drift, trace)
    assert other != usual
    told, truth = setting_of(trace, usual, 60.0).told, setting_of(trace, other, 60.0).told
    assert truth.requests_per_second == told.requests_per_second
    assert truth.api_usd_per_request == told.api_usd_per_request
    assert truth.lengths is told.lengths


def test_the_outage_is_where_it_hurts() -> None:
    (change,) = drifted(conditions_of(WORLD, PRICES[0], 0), "API outage 30 min", TRACE).changes
    assert change.api_down
    assert (change.at, change.until) == (14_400, 16_200)


def test_the_rate_limit_is_a_twentieth_of_the_load() -> None:
    other = drifted(conditions_of(WORLD, PRICES[0], 0), "API rate limit", TRACE)
    assert other.api.requests_per_minute == pytest.approx(3 * TRACE.mean_per_second)
