"""The optimum of a simulated world, and runs of the fluid engine against it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spillway.sim.conditions import Api, Change, Conditions
from spillway.sim.fluid import run_setting
from spillway.sim.optimum import Optimum, Problem, as_result, coarser, optimum, problem_from
from spillway.sim.scaler import BurstActuator
from spillway.sim.setting import Setting, setting_of
from tests.unit.sim.worlds import Scripted, steady, trace, world

#: An hour that rises and falls by half, with a spike; requests/s by minute.
pytestmark = pytest.mark.slow

LOAD = [30 + 15 * np.sin(minute / 9) + (25 if minute == 35 else 0) for minute in range(60)]


def setting(conditions: Conditions | None = None) -> Setting:
    return setting_of(trace(LOAD), conditions or world(), 5.0)


def solved(run: Setting, attainment: float | None = None) -> tuple[Optimum, Problem]:
    coarse = coarser(run)
    problem = problem_from(coarse, attainment)
    return optimum(coarse.rates, coarse.step_seconds, problem), problem


def schedules(admit: float) -> Scripted:
    """Too few, about enough, and two that move by the clock."""
    return Scripted(
        [
            lambda _: 2,
            lambda _: 4,
            lambda now: 4 if now % 1800 < 900 else 3,
            lambda now: 3 + int(now // 600) % 3,
        ],
        admit=admit,
    )


@pytest.mark.slow
@pytest.mark.parametrize("conditions", [world(), world(scatter=True), world(scatter=True, seed=1)])
@pytest.mark.parametrize("actuator", [BurstActuator.ADMISSION, BurstActuator.NONE])
def test_no_run_of_the_fluid_engine_beats_it_at_its_own_attainment(
    actuator: BurstActuator, conditions: Conditions
) -> None:
    run = setting(conditions)
    for result in run_setting(run, schedules(admit=150.0), actuator):
        if result.attainment < 0.5:
            continue  # a queue that is never worked off is no way to keep a promise
        best, _ = solved(run, result.attainment)
        assert best.usd_lower <= result.usd, result.configuration


def test_errors_and_limits_of_the_api_are_the_engine_s_too() -> None:
    api = Api(error_share=0.1, retries=0, billed_error_share=0.5, requests_per_minute=300)
    changes = (
        Change(at=600, until=1200, api_down=True),
        Change(at=1800, capacity_factor=0.8, api_price_factor=2.0),
        Change(at=2400, interrupted_replicas=2, schedulable=False, until=2700),
    )
    run = setting(world(api=api, changes=changes))
    for result in run_setting(run, schedules(admit=150.0), BurstActuator.ADMISSION):
        if result.attainment > 0.5:
            assert solved(run, result.attainment)[0].usd_lower <= result.usd


@pytest.mark.slow
def test_drift_that_costs_capacity_costs_money() -> None:
    plain, _ = solved(setting())
    slow, _ = solved(setting(world(changes=(Change(at=0, capacity_factor=0.8),))))
    assert slow.usd_lower > plain.usd_lower * 1.1


def test_choosing_what_leaves_is_never_dearer_than_chance() -> None:
    lengths = replace(
        trace([1.0]).lengths,
        prompt_tokens=np.array([100, 1000, 2000, 4000]),
        output_tokens=np.array([400, 100, 50, 20]),
    )
    chosen, blind = (
        solved(setting_of(trace(LOAD, lengths=lengths), world(burst_blind=blind), 5.0), 0.985)[0]
        for blind in (False, True)
    )
    assert chosen.usd_lower <= blind.usd_lower * (1 + 1e-6)


def test_the_plan_is_a_result_like_any_other() -> None:
    best, problem = solved(setting())
    plan, bound = as_result(best, problem), as_result(best, problem, lower=True)
    assert plan.usd == pytest.approx(best.usd_plan)
    assert bound.usd == pytest.approx(best.usd_lower)
    assert plan.attainment == pytest.approx(0.95, abs=1e-3)
    way = plan.timeline
    assert way is not None
    hours = 60 / 3600
    assert way.api_usd_per_hour.sum() * hours == pytest.approx(plan.api_usd)
    # Starts and drains cut off by the run's ends aside.
    assert way.gpu_usd_per_hour.sum() * hours == pytest.approx(plan.gpu_usd, rel=0.01)
    assert np.nanmin(way.attainment) >= 0
    assert plan.replica_hours == pytest.approx(plan.gpu_usd / 3.6)


def test_longer_steps_keep_the_load() -> None:
    run = setting()
    coarse = coarser(run, 60.0)
    assert coarse.steps == 60
    assert coarse.rates == pytest.approx(LOAD)
    assert coarse.initial_replicas == run.initial_replicas
    for seconds in (7.0, 1e6):
        with pytest.raises(ValueError, match=r"must (be a multiple|last 1e.06 s at least)"):
            coarser(run, seconds)


def test_more_replicas_than_needed_cost_what_they_cost() -> None:
    run = setting()
    result = run_setting(run, steady(8), BurstActuator.NONE)[0]
    best, _ = solved(run, result.attainment)
    assert result.gpu_usd > 1.5 * best.usd_lower
