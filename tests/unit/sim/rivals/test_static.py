"""Fixed sizes from a past load."""

from __future__ import annotations

import numpy as np

from spillway.sim.rivals import static
from spillway.sim.trace import Trace
from tests.unit.sim.rivals.hand import LENGTHS, seen, told

#: Ten minutes at 1 to 10 requests/s.
PAST = Trace("past", "by hand", 60.0, np.arange(1.0, 11.0), LENGTHS)


def test_median_is_the_load_of_half_of_the_minutes() -> None:
    scaler = static.median(PAST)
    scaler.begin(told())
    # 5.5 requests/s at 2 a replica.
    assert scaler.decide(seen(0, ready=9, gpu_utilization=1.0)).replicas == [3]


def test_peak_is_the_highest_minute_whatever_comes() -> None:
    scaler = static.peak(PAST)
    scaler.begin(told())
    for load in (0.0, 99.0):
        assert scaler.decide(seen(0, ready=1, arrivals_per_second=load)).replicas == [5]


def test_bounds_hold() -> None:
    grid = static.peak_grid(PAST)
    grid.begin(told(floor=4, max=5))
    got = grid.decide(seen(0, grid.configurations, ready=1)).replicas
    assert set(got) == {4, 5}


def test_a_target_out_of_reach_takes_all_there_is() -> None:
    scaler = static.median(PAST)
    scaler.begin(told(requests_per_second=0.0))
    assert scaler.decide(seen(0, ready=1)).replicas == [100]
