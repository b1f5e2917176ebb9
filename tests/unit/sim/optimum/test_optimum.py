"""The optimum against every plan, against random schedules, and in cases worked by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spillway.sim.optimum import Optimum, Problem, optimum
from tests.unit.sim.optimum.worlds import HOUR, RATES, STEP, Schedule, hard, played, soft


def world(steps: int, *, g: float = 3.6, attainment: float = 1.0, **more: object) -> Problem:
    regime = more.pop("regime", hard())
    return Problem.steady(
        regime,  # type: ignore[arg-type]
        steps,
        gpu_usd_per_replica_hour=g,
        attainment=attainment,
        **more,  # type: ignore[arg-type]
    )


def solved(rates: np.ndarray | list[float], problem: Problem) -> Optimum:
    return optimum(np.array(rates, dtype=np.float64), STEP, problem)


@pytest.mark.slow
@settings(max_examples=10)
@given(
    st.lists(st.sampled_from([0.0, 0.4, 1.0, 1.7, 2.5]), min_size=1, max_size=5),
    st.sampled_from([0.0, 60.0, 240.0]),
    st.sampled_from([0.0, 30.0]),
    st.sampled_from([0.0005, 0.0015, 0.01]),
    st.sampled_from([None, 1]),
)
def test_where_all_must_be_in_time_it_is_the_best_of_all_plans(
    rates: list[float], lead: float, drain: float, api_usd: float, initial: int | None
) -> None:
    problem = world(
        len(rates),
        regime=hard(api_usd=api_usd),
        lead_seconds=lead,
        drain_seconds=drain,
        initial=initial,
        max_replicas=3,
    )
    load = np.array(rates)

    def usd(plan: tuple[int, ...]) -> float:
        replicas = np.array(plan)
        freed = 1 - np.minimum(1, replicas / np.maximum(load, 1e-12))
        return played(problem, load, Schedule(replicas, freed)).usd

    least = min(usd(plan) for plan in itertools.product(range(4), repeat=len(rates)))
    found = solved(rates, problem)
    assert found.usd_lower == pytest.approx(least, abs=1e-9)
    assert found.usd_plan == pytest.approx(least, abs=1e-9)
    assert found.usd_plan == pytest.approx(found.gpu_usd + found.api_usd, abs=1e-9)


@pytest.mark.slow
@given(RATES, st.floats(0.1, 1.0), st.sampled_from([0.0, 90.0]), st.data())
def test_nothing_beats_it_at_the_same_attainment(
    rates: np.ndarray, late: float, lead: float, data: st.DataObject
) -> None:
    steps = len(rates)
    assume(rates.sum() > 0)
    problem = world(
        steps, regime=soft(late), lead_seconds=lead, drain_seconds=30.0, max_replicas=5, initial=1
    )
    each = st.lists(st.integers(0, 5), min_size=steps, max_size=steps)
    shares = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]), min_size=steps, max_size=steps)
    schedule = Schedule(np.array(data.draw(each)), np.array(data.draw(shares)))
    outcome = played(problem, rates, schedule)
    assume(outcome.left_over < 1e-9 and outcome.attainment > 0.01)
    at_par = replace(problem, attainment=min(1.0, outcome.attainment + 1e-12))
    assert solved(rates, at_par).usd_lower <= outcome.usd * (1 + 1e-9) + 1e-12


@settings(max_examples=10)
@given(RATES, st.sampled_from([0.9, 0.97]), st.floats(0.1, 1.0))
def test_the_plan_keeps_the_promise_and_costs_at_least_the_bound(
    rates: np.ndarray, attainment: float, late: float
) -> None:
    assume(rates.sum() > 0)
    problem = world(
        len(rates), regime=soft(late), attainment=attainment, lead_seconds=60.0, initial=1
    )
    found = solved(rates, problem)
    assert found.attainment >= attainment - 1e-6
    assert found.usd_lower <= found.usd_plan * (1 + 1e-9)
    # What it says of its plan is what playing it comes to.
    assert found.usd_plan == pytest.approx(
        found.gpu_usd + found.api_usd_per_second.sum() * STEP, abs=1e-9
    )
    assert found.attainment == pytest.approx(
        1 - found.failed_per_second.sum() * STEP / found.requests, abs=1e-9
    )


@pytest.mark.slow
@settings(max_examples=8)
@given(RATES, st.floats(1.0, 3.0))
def test_higher_prices_never_cost_less(rates: np.ndarray, factor: float) -> None:
    steps = len(rates)
    assume(rates.sum() > 0)
    base = {"lead_seconds": 120.0, "drain_seconds": 30.0, "attainment": 0.97, "initial": 1}
    plain = solved(rates, world(steps, regime=soft(0.5), **base))
    dear_gpu = solved(rates, world(steps, regime=soft(0.5), g=3.6 * factor, **base))
    dear_api = solved(rates, world(steps, regime=soft(0.5, api_usd=0.01 * factor), **base))
    # The search stops at a finite number of halvings.
    assert dear_gpu.usd_lower >= plain.usd_lower * (1 - 1e-3)
    assert dear_api.usd_lower >= plain.usd_lower * (1 - 1e-3)


def test_steady_load_takes_the_replicas_that_earn_their_price() -> None:
    # 2.3 requests/s, 1 a replica, $3.60/h a replica. The third one takes over 0.3 requests/s, which
    # at the API are 0.3 * 3600 * price an hour: it pays above $0.00333 a request.
    for price, replicas in ((0.0034, 3), (0.0033, 2), (0.0009, 0)):
        found = solved([2.3] * 30, world(30, regime=hard(api_usd=price)))
        assert set(found.replicas) == {replicas}
        hour = replicas * 3.6 + max(0.0, 2.3 - replicas) * HOUR * price
        assert found.usd_lower == pytest.approx(hour / 2)


def test_a_spike_shorter_than_a_boot_goes_to_the_api() -> None:
    # A minute of a replica's work is 60 requests, 60 cents at the API; a minute on a replica is
    # 6 cents, but its boot of 10 minutes another 60.
    problem = world(11, lead_seconds=600.0, initial=1)
    short, long = [1.0] * 5 + [2.0] + [1.0] * 5, [1.0] * 4 + [2.0] * 3 + [1.0] * 4
    assert set(solved(short, problem).replicas) == {1}
    assert solved(short, problem).api_usd == pytest.approx(0.60)
    assert list(solved(long, problem).replicas) == [1] * 4 + [2] * 3 + [1] * 4


@pytest.mark.parametrize(("minutes", "released"), [(5, False), (6, True)])
def test_a_night_is_worth_a_release_if_it_is_longer_than_boot_and_drain(
    minutes: int,
    released: bool,  # noqa: FBT001
) -> None:
    # 5 minutes of boot and half a minute of drain: 5.5 minutes that are billed for nothing.
    problem = world(20 + minutes, lead_seconds=300.0, drain_seconds=30.0, initial=1)
    found = solved([1.0] * 10 + [0.0] * minutes + [1.0] * 10, problem)
    assert bool(found.replicas.min() == 0) is released
    billed = 20 + (5.5 if released else minutes)
    assert found.usd_lower == pytest.approx(billed * 0.06)


def test_a_replica_that_vanishes_is_booted_anew() -> None:
    problem = world(20, lead_seconds=120.0, initial=2)
    problem.vanishing[10] = 1
    found = solved([2.0] * 20, problem)
    assert set(found.replicas) == {2}
    assert found.usd_lower == pytest.approx((2 * 20 + 2) * 0.06)


def test_while_no_gpu_is_free_the_api_takes_what_is_beyond() -> None:
    problem = world(20, lead_seconds=0.0, initial=1, floor=1)
    problem.may_start[:10] = False
    found = solved([2.0] * 20, problem)
    assert list(found.replicas) == [1] * 10 + [2] * 10
    assert found.usd_lower == pytest.approx((10 + 20) * 0.06 + 10 * 0.60)


def test_an_outage_of_the_api_is_bridged_by_replicas() -> None:
    steps = 20
    # Without it the third replica does not pay (0.2 requests/s at the API are $0.12 a minute).
    problem = world(steps, regime=hard(api_usd=0.004))
    down = replace(hard(api_usd=0.004), leave_per_second=0.0)
    regime_of_step = np.zeros(steps, dtype=np.int64)
    regime_of_step[8:12] = 1
    regimes = (problem.regimes[0], down)
    outage = replace(problem, regimes=regimes, achievable=regimes, regime_of_step=regime_of_step)
    rates = [2.2] * steps
    assert set(solved(rates, problem).replicas) == {2}
    assert list(solved(rates, outage).replicas) == [2] * 8 + [3] * 4 + [2] * 8


def test_a_rate_limit_leaves_the_rest_to_replicas() -> None:
    # Half a request/s may leave. 2.6 requests/s need the third replica then.
    free = solved([2.6] * 10, world(10, regime=hard(api_usd=0.0015)))
    short = solved([2.6] * 10, world(10, regime=hard(api_usd=0.0015, limit=0.5)))
    assert set(free.replicas) == {2}
    assert set(short.replicas) == {3}
    assert short.usd_lower > free.usd_lower


def test_requests_that_may_fail_are_those_that_would_cost_most() -> None:
    # A spike of two replicas' work, then a minute without arrivals. When as many may fail as come
    # in the spike, one replica does it all: what waits is finished in the empty minute, late.
    rates = [0.9] * 9 + [2.0, 0.0] + [0.9] * 9
    share = 120.001 / (sum(rates) * STEP)
    strict = solved(rates, world(20, attainment=1.0, lead_seconds=600.0, initial=1))
    loose = solved(rates, world(20, attainment=1 - share, lead_seconds=600.0, initial=1))
    assert strict.usd_lower == pytest.approx(20 * 0.06 + 0.60)
    assert loose.usd_lower == pytest.approx(20 * 0.06, rel=1e-3)


def test_where_the_promise_is_out_of_reach_it_says_how_much_is_kept() -> None:
    # One replica at most, no API: of 2 requests/s every second one is in time.
    closed = replace(hard(), leave_per_second=0.0)
    found = solved([2.0] * 10, world(10, regime=closed, attainment=0.95, max_replicas=1))
    assert found.attainment == pytest.approx(0.5)
    assert list(found.replicas) == [1] * 10


def test_nothing_arrives() -> None:
    found = solved([0.0] * 5, world(5, floor=1, initial=1))
    assert found.usd_lower == pytest.approx(5 * 0.06)
    assert found.gap == pytest.approx(0.0)
    assert found.attainment == 1.0


@pytest.mark.parametrize(
    ("rates", "message"),
    [([1.0] * 3, "must have the problem's 2 steps"), ([1.0, -1.0], "from 0 up")],
)
def test_a_load_that_can_not_be_is_refused(rates: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solved(rates, world(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attainment": 0.0}, "attainment"),
        ({"lead_seconds": -1.0}, "lead_seconds"),
        ({"max": 0}, "max"),
        ({"achievable": ()}, "achievable"),
        ({"floor": np.zeros(1, dtype=np.int64)}, "floor must have 2 steps"),
    ],
)
def test_a_world_that_can_not_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(world(2), **change)  # type: ignore[arg-type]
