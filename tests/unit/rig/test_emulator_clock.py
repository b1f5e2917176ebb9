"""The emulator's times beside those of programs that read the wall clock."""

from __future__ import annotations

import pytest

from tests.e2e.rig.emulator import clock as emulated
from tests.e2e.rig.emulator.clock import Clock


class Times:
    """A wall clock and a monotonic one that are set by hand."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_700_000_000.0, 50.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady


@pytest.mark.parametrize("factor", [1.0, 20.0])
def test_what_is_told_follows_a_wall_clock_that_was_set_and_the_simulation_does_not(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    times = Times()
    monkeypatch.setattr(emulated, "time", times)
    clock = Clock(factor)
    began = clock.now()
    times.steady += 10
    times.wall += 10.3
    assert clock.now() == pytest.approx(began + 10 * factor)
    assert clock.wall(clock.now()) == pytest.approx(times.wall)
    assert clock.wall(clock.now() - 2 * factor) == pytest.approx(times.wall - 2)
