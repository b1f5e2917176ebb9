"""Double above 60 % for a minute, remove one below 30 % for ten, never below two."""

from __future__ import annotations

from spillway.sim.rivals.classic import Classic, ClassicConfiguration, classic, classic_grid
from tests.unit.sim.rivals.hand import seen, told


def replicas(scaler: Classic, utilizations: list[float], start: int) -> list[int]:
    scaler.begin(told())
    current, found = start, []
    for n, each in enumerate(utilizations):
        asked = scaler.decide(seen(n * 15.0, ready=current, gpu_utilization=each))
        current = int(asked.replicas[0])
        found.append(current)
    return found


def test_doubles_when_busy_for_a_minute_and_counts_anew() -> None:
    assert replicas(classic(), [0.7] * 10, 3) == [3] * 4 + [6] * 5 + [12]


def test_a_calm_moment_starts_the_minute_again() -> None:
    assert replicas(classic(), [0.7, 0.7, 0.7, 0.6, 0.7, 0.7, 0.7, 0.7], 3) == [3] * 8


def test_removes_one_after_ten_idle_minutes_down_to_two() -> None:
    assert replicas(classic(), [0.1] * 83, 4) == [4] * 40 + [3] * 41 + [2] * 2
    assert replicas(classic(), [0.1] * 83, 2) == [2] * 83


def test_waits_for_replicas_that_start() -> None:
    scaler = classic()
    scaler.begin(told())
    for n in range(20):
        asked = scaler.decide(seen(n * 15.0, ready=3, unready=3, gpu_utilization=0.95))
        assert asked.replicas == [6]


def test_no_metric_is_neither_busy_nor_idle() -> None:
    assert replicas(classic(), [float("nan")] * 60, 5) == [5] * 60


def test_each_configuration_counts_for_itself() -> None:
    scaler = Classic([ClassicConfiguration(), ClassicConfiguration(high=0.9, low=0.8)])
    scaler.begin(told())
    for n in range(41):
        asked = scaler.decide(seen(n * 15.0, 2, ready=4, gpu_utilization=0.7))
    assert list(asked.replicas) == [4, 3]


def test_the_grid_has_no_thresholds_that_cross() -> None:
    grid = classic_grid()
    assert len({grid.describe(k) for k in range(grid.configurations)}) == grid.configurations
