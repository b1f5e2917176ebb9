"""How restless a load is: what counts, and what does not."""

from __future__ import annotations

import pytest

from spillway.core.scatter import TYPICAL, Scatter

TICK = 15.0


def after(values: list[float], every: float = TICK) -> Scatter:
    scatter = Scatter()
    for tick, value in enumerate(values):
        scatter = scatter.observed(tick * every, value)
    return scatter


def minutes(*values: float) -> list[float]:
    """Each value held for a minute."""
    return [value for value in values for _ in range(4)]


def test_a_load_that_nobody_has_watched_is_of_typical_scatter() -> None:
    assert Scatter().unit == 1
    assert after([10.0, 30.0]).unit == 1, "two observations of one minute say nothing yet"


def test_a_still_load_is_counted_in_a_smaller_unit_that_never_vanishes() -> None:
    still = after([10.0] * 2000)
    assert still.mean < 0.003
    assert still.unit == pytest.approx(0.6, abs=0.01)


def test_a_restless_load_is_counted_in_its_own_scatter() -> None:
    # Every minute is 20 % off the one before.
    restless = after(minutes(*[10.0, 8.0] * 120))
    assert restless.mean == pytest.approx(0.2, rel=0.05)
    assert restless.unit > 3 * Scatter().unit


def test_a_single_jump_is_no_scatter() -> None:
    calm = after([10.0] * 960)
    jumped = after([10.0] * 960 + [100.0] * 8)
    assert jumped.mean < 2 * calm.mean
    assert jumped.mean < TYPICAL / 4


def test_the_course_of_a_load_seen_every_five_minutes_is_no_scatter() -> None:
    assert after([10.0, 20.0] * 50, every=300.0).mean == TYPICAL


@pytest.mark.parametrize("values", [[0.0] * 100, minutes(*[0.0, 5.0] * 40), [1e9, 0.0] * 40])
def test_whatever_comes_the_unit_is_a_unit(values: list[float]) -> None:
    scatter = after(values)
    assert 0 < scatter.mean <= 1
    assert 0.5 < scatter.unit <= 20.1
    assert len(scatter.recent) <= 7


def test_a_clock_set_back_begins_its_minute_anew() -> None:
    scatter = after([10.0] * 100)
    back = scatter.observed(3.0, 50.0)
    assert back.recent == ((3.0, 50.0),)
    assert back.mean == scatter.mean
