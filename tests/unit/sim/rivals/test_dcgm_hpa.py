"""The guide's HPA: how fast its policies let it go."""

from __future__ import annotations

from spillway.sim.rivals.dcgm_hpa import dcgm_hpa, dcgm_hpa_grid
from tests.unit.sim.rivals.hand import seen, told


def replicas(utilizations: list[float], start: int) -> list[int]:
    scaler = dcgm_hpa()
    scaler.begin(told())
    current, found = start, []
    for n, each in enumerate(utilizations):
        asked = scaler.decide(seen(n * 15.0, ready=current, gpu_utilization=each))
        current = int(asked.replicas[0])
        found.append(current)
    return found


def test_up_by_two_a_minute_after_a_minute() -> None:
    # What was found at 0 s holds until it is 60 s old; then two a minute.
    assert replicas([1.0] * 13, 4) == [4] * 4 + [6] * 4 + [8] * 4 + [10]


def test_down_by_one_in_two_minutes_after_five() -> None:
    assert replicas([0.1] * 37, 6) == [6] * 20 + [5] * 8 + [4] * 8 + [3]


def test_two_to_twenty() -> None:
    assert replicas([1.0] * 80, 14)[-1] == 20
    assert replicas([0.01] * 80, 4)[-1] == 2


def test_the_grid_is_not_held_to_twenty() -> None:
    grid = dcgm_hpa_grid()
    grid.begin(told())
    for now in (0.0, 60.0):
        asked = grid.decide(seen(now, grid.configurations, ready=30, gpu_utilization=1.0))
    # Half of 30 more.
    assert asked.replicas.max() == 45
