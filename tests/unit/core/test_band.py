"""How far load strays from its forecast: what residuals justify, and what is promised."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.core.band import BAND, LEVELS, RESIDUALS_KEPT, Band
from spillway.core.economics import replicas_by_marginal_rule
from spillway.core.forecast import Forecast, ForecastMemory, forecast, update

TICK = 15.0
LEAD = 195.0
HOLD = LEAD + TICK
CALM = 100.0
SURGE_SECONDS = 180.0
AFTER_SECONDS = 480.0
HIGH = LEVELS.index(BAND[1])


def after_surges(begins: list[float], times: float, seed: int) -> tuple[ForecastMemory, float]:
    """A calm load that grew so many times for three minutes at each begin, and some time beyond."""
    rng = random.Random(seed)  # noqa: S311 - a load, no secret
    memory, at = ForecastMemory(), 0.0
    while at <= max(begins) + SURGE_SECONDS + AFTER_SECONDS:
        surges = any(begin <= at < begin + SURGE_SECONDS for begin in begins)
        value = CALM * (times if surges else 1.0) * rng.gauss(1.0, 0.04)
        memory = update(memory, at, value, lead_seconds=LEAD, hold_seconds=HOLD)
        at += TICK
    return memory, at - TICK


def made(memory: ForecastMemory, now: float) -> Forecast:
    found = forecast(memory, LEAD, HOLD, now)
    assert found is not None
    return found


def asked(found: Forecast, api_over_gpu: float) -> int:
    return replicas_by_marginal_rule(found, 10.0, 1.0, api_over_gpu, 10_000)


@pytest.mark.parametrize("api_over_gpu", [7.0, 13.5, 27.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_a_surge_no_replicas_are_asked_for_another(api_over_gpu: float, seed: int) -> None:
    # Two hours apart, so that the second is a habit and its errors count.
    memory, now = after_surges([1800.0, 9000.0], 3.0, seed)
    far = sum(residual > 1 for residual in memory.band.residuals) / len(memory.band.residuals)
    assert 0 < far < 0.03, "the surge is among the residuals, a few in a hundred"
    assert asked(made(memory, now), api_over_gpu) <= 14, "12 serve the calm load and its noise"


def test_what_is_promised_does_follow_the_surge() -> None:
    memory, now = after_surges([1800.0, 9000.0], 3.0, 1)
    found = made(memory, now)
    assert found.quantile(0.95) > 1.5 * dict(found.quantiles)[0.95]


residuals = st.lists(st.floats(-1, 3), min_size=1, max_size=20)
observed = st.lists(st.tuples(residuals, st.floats(0, 4)), min_size=1, max_size=30)


@given(observed)
def test_the_distribution_gives_no_load_more_weight_than_residuals_have(
    steps: list[tuple[list[float], float]],
) -> None:
    band = Band()
    for met, actual in steps:
        band = band.steered(0.9, 1.1, actual).widened(tuple(met))
    count = len(band.residuals)
    assert count <= RESIDUALS_KEPT
    for level, value in zip(LEVELS, band.spread, strict=True):
        # One more: a level falls between two of them.
        assert sum(r > value + 1e-9 for r in band.residuals) <= (1 - level) * (count - 1) + 1 + 1e-6
        assert sum(r < value - 1e-9 for r in band.residuals) <= level * (count - 1) + 1 + 1e-6


@given(st.integers(1, 60))
def test_misses_in_a_row_widen_what_is_promised_and_nothing_else(misses: int) -> None:
    rng = random.Random(misses)  # noqa: S311 - errors, no secret
    band = Band().widened(tuple(rng.gauss(0.0, 0.1) for _ in range(RESIDUALS_KEPT)))
    missed = band
    for _ in range(misses):
        missed = missed.steered(0.9, 1.1, 2.0)
    same = band.residuals[:1]
    assert missed.widened(same).covering[HIGH] > band.widened(same).covering[HIGH]
    assert missed.widened(same).spread == band.widened(same).spread
