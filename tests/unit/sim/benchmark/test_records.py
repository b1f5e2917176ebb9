"""What a run is recorded as, and which configurations are worth scoring."""

from __future__ import annotations

import pytest

from spillway.sim.benchmark.records import frontier, record
from spillway.sim.benchmark.worlds import PRICES, World
from spillway.sim.outcome import Result

WORLD = World("day", 10, 180.0)


def result(usd: float, attainment: float, scaler: str = "x") -> Result:
    return Result(
        scaler=scaler,
        configuration="",
        seconds=3600.0,
        requests=1000.0,
        cloud_requests=50.0,
        lost_requests=0.0,
        attained_requests=1000.0 * attainment,
        gpu_usd=usd - 1,
        api_usd=1.0,
        replica_hours=1.0,
        scale_actions=0,
        ttft_seconds={},
        tpot_seconds={},
    )


def test_the_frontier_leaves_out_what_is_dearer_and_no_better() -> None:
    results = [result(*each) for each in ((10, 0.95), (12, 0.94), (11, 0.97), (9, 0.91), (13, 1))]
    assert frontier(results) == [3, 0, 2, 4]


def test_what_attains_too_little_is_left_out_unless_nothing_else_is_there() -> None:
    assert frontier([result(5, 0.3), result(10, 0.95)]) == [1]
    assert frontier([result(5, 0.3), result(10, 0.5)]) == [1]


def test_a_long_frontier_is_thinned_and_keeps_its_ends() -> None:
    results = [result(10 + n, 0.901 + n / 1000) for n in range(90)]
    found = frontier(results)
    assert len(found) == 12
    assert (found[0], found[-1]) == (0, 89)


def test_what_falls_short_is_bought() -> None:
    kept = record(WORLD, PRICES[0], "", result(10, 0.90), 0.002, burst=True)
    # 5 % of 1,000 requests at $0.002.
    assert kept.usd_at(0.95) == pytest.approx(10.1)
    assert kept.usd_at(0.85) == 10
    assert kept.cloud_share == pytest.approx(0.05)
