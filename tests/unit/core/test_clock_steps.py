"""A wall clock that is set, by an hour either way: nothing goes, nothing is spent, all goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.core.drain import observe_idle
from spillway.core.fast import fast_step
from spillway.core.forecast import ForecastMemory, forecast, update
from spillway.core.history import appended, within
from spillway.core.ledger import PoolLedger, reserve
from spillway.core.plan import DRAINED_COST, PlanMemory, plan
from spillway.core.samples import is_fresh
from tests.unit.core import bursting, planning, pools

if TYPE_CHECKING:
    from spillway.core.actions import IdleScrapes
    from spillway.core.overflow import OverflowValue

HOUR = 3600.0
BOTH_WAYS = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
POLICIES = pytest.mark.parametrize("policy", ["Cost", "Latency", "Utilization"])


def settled(policy: str, rps: float, **changes: Any) -> pools.Pool:
    """A pool that has run for 20 minutes at this load."""
    pool = pools.Pool(spec=pools.spec(policy=policy, **changes), rps=rps, replicas=4)
    busy = min(1.0, rps / 40)
    pool.load_changes = {"gpu_utilization": busy}
    pool.run(1200)
    return pool


@BOTH_WAYS
@POLICIES
def test_nothing_goes_for_a_whole_window_after_the_clock_was_set(policy: str, step: float) -> None:
    pool = settled(policy, rps=20.0, utilization={"scaleDownAfter": "10m"})
    before = pool.replicas
    pool.rps, pool.load_changes = 0.5, {"gpu_utilization": 0.01}
    pool.step()
    pool.now += step
    assert [decision.desired for decision in pool.run(60)] == [before] * 4


@POLICIES
def test_more_is_asked_for_soon_after_the_clock_was_set_back(policy: str) -> None:
    pool = settled(policy, rps=20.0)
    before = pool.replicas
    pool.now -= HOUR
    pool.rps, pool.load_changes = 80.0, {"gpu_utilization": 0.95, "waiting": 30.0}
    assert max(decision.desired for decision in pool.run(300)) > before


def test_samples_of_before_the_clock_was_set_back_are_not_believed() -> None:
    now = 1_000_000.0
    assert is_fresh(now - 59, now)
    assert is_fresh(now + 59, now), "clocks of two machines differ a little"
    assert not is_fresh(now + HOUR, now)


def test_a_history_begins_anew_when_the_clock_was_set_back() -> None:
    history = appended(appended((), 1000.0, 3, 600), 1015.0, 3, 600)
    assert within(history, 15, 1015.0) == [3, 3]
    again = appended(history, 500.0, 2, 600)
    assert again == ((500.0, 2),)
    assert within(again, 15, 500.0) is None, "not all of the window was watched"


def test_a_forecast_goes_on_when_the_clock_was_set_back() -> None:
    memory = ForecastMemory()
    for tick in range(40):
        memory = update(memory, 10_000.0 + 15 * tick, 10.0)
    memory = update(memory, 7_000.0, 10.0)
    for tick in range(1, 60):
        memory = update(memory, 7_000.0 + 15 * tick, 30.0)
    found = forecast(memory, 0, 0, 7_900.0)
    assert found is not None
    assert found.mean > 25


def test_a_drain_ends_although_the_clock_was_set_back() -> None:
    now = planning.NOW
    seen: dict[str, IdleScrapes] = {}
    for number in range(3):
        pod = planning.draining("a", load=planning.load(0, at=now + number), in_endpoints=False)
        seen = observe_idle([pod], seen, now + number)
    assert seen["a"].count == 3
    now -= HOUR
    for number in range(3):
        pod = planning.draining("a", load=planning.load(0, at=now + number), in_endpoints=False)
        seen = observe_idle([pod], seen, now + number)
    assert seen["a"].count == 3, "counted anew, by samples of the new time"


# Drain deadlines


class Drain:
    """A busy replica that drains, with 600 s until its deadline, planned tick by tick."""

    def __init__(self) -> None:
        self.now = planning.NOW
        self.deadline = self.now + 600
        self.memory = PlanMemory()

    def goes(self, after: float) -> bool:
        """Whether it goes at the tick that comes ``after`` so many seconds."""
        self.now += after
        busy = planning.load(7, at=self.now)
        pods = (
            planning.pod("a", load=busy),
            planning.draining(
                "d", load=busy, drain_deadline=self.deadline, deletion_cost=DRAINED_COST
            ),
        )
        facts = planning.pool(planning.target(*pods))
        actions, self.memory = plan(
            facts, {"a": 1}, 0, hold=False, memory=self.memory, now=self.now
        )
        return planning.replicas(actions) == {"a": 1}


def test_a_replica_with_requests_does_not_go_because_the_clock_was_set_forward() -> None:
    drain = Drain()
    assert [drain.goes(15) for _ in range(10)] == [False] * 10
    assert not drain.goes(24 * HOUR)
    # 150 s and one step of at most 90 s have passed: 360 s are left.
    left = [drain.goes(15) for _ in range(24)]
    assert left == [False] * 23 + [True]


def test_a_deadline_that_was_set_just_before_the_clock_is_no_exception() -> None:
    drain = Drain()
    _, drain.memory = plan(
        planning.pool(planning.target(planning.pod("a"), planning.pod("d"))),
        {"a": 1},
        0,
        hold=False,
        memory=drain.memory,
        now=drain.now,
    )
    assert not drain.goes(HOUR)
    assert [drain.goes(15) for _ in range(34)] == [False] * 33 + [True]


def test_after_a_restart_the_annotation_alone_counts() -> None:
    drain = Drain()
    assert not drain.goes(15)
    drain.memory = PlanMemory()
    assert drain.goes(585)


def test_another_deadline_begins_anew() -> None:
    drain = Drain()
    assert not drain.goes(15)
    drain.deadline = drain.now + 60
    assert [drain.goes(30) for _ in range(2)] == [False, True]


def test_without_a_step_of_the_clock_it_goes_at_its_deadline() -> None:
    drain = Drain()
    assert [drain.goes(15) for _ in range(40)] == [False] * 39 + [True]


# Overflow


def bursts(now: float) -> tuple[OverflowValue, PoolLedger]:
    """A value that sends half away, with its grant."""
    of = at(now, arrivals=20.0)
    outcome = fast_step(of, None, PoolLedger.empty("UTC", now), now, epoch=1)
    assert outcome.value.fraction > 0
    return outcome.value, outcome.ledger


def at(now: float, arrivals: float) -> Any:
    live = bursting.live((20.0, 20.0), arrivals=arrivals)
    return bursting.inputs(live=replace(live, at=now), budget_left_usd=None)


@BOTH_WAYS
def test_without_data_nothing_leaves_after_the_clock_was_set(step: float) -> None:
    value, ledger = bursts(bursting.NOW)
    now = bursting.NOW + step
    outcome = fast_step(bursting.inputs(live=None), value, ledger, now, epoch=1)
    assert (outcome.value.fraction, outcome.value.reason) == (0.0, Reason.NO_DATA)


@BOTH_WAYS
def test_a_shortage_that_is_over_ends_although_the_clock_was_set(step: float) -> None:
    value, ledger = bursts(bursting.NOW)
    now = bursting.NOW + step
    for _ in range(40):
        outcome = fast_step(at(now, arrivals=1.0), value, ledger, now, epoch=1)
        value, ledger = outcome.value, outcome.ledger
        now += 1
    assert value.fraction == 0


@BOTH_WAYS
def test_a_value_is_never_longer_than_a_lease_from_now(step: float) -> None:
    value, ledger = bursts(bursting.NOW)
    now = bursting.NOW + step
    outcome = fast_step(at(now, arrivals=20.0), value, ledger, now, epoch=1)
    assert now < outcome.value.until <= now + 45
    assert outcome.value.fraction > 0, "burst goes on, on a grant of the new time"


def test_the_clock_frees_no_budget_that_was_reserved() -> None:
    spec = bursting.spec(budget={"perDay": "10"})
    assert spec.burst is not None
    ledger = reserve(
        PoolLedger.empty("UTC", bursting.NOW), 4.0, 10, spec.burst.budget, bursting.NOW
    )
    _, allowance = reserve(ledger[0], 100.0, 100, spec.burst.budget, bursting.NOW - HOUR)
    assert allowance.usd <= 6


def test_a_request_that_the_engine_deferred_keeps_a_replica_from_being_idle() -> None:
    now, deferred = planning.NOW, replace(planning.load(0), waiting_all=1.0)
    seen: dict[str, IdleScrapes] = {}
    for number in range(5):
        load = replace(deferred, sampled_at=now + number)
        pod = planning.draining("a", load=load, in_endpoints=False)
        seen = observe_idle([pod], seen, now + number)
    assert seen["a"].count == 0
    idle = planning.pod("b", load=deferred)
    actions = planning.planned(planning.pool(planning.target(planning.pod("a"), idle)), 1, 1)
    assert [(c.pod.name, c.role) for c in actions.roles] == [("b", Role.DRAINING)], (
        "drained before it becomes warm, not demoted at once"
    )


def test_an_unknown_queue_is_not_an_empty_one() -> None:
    pod = planning.draining(
        "a", load=replace(planning.load(0), waiting_all=None), in_endpoints=False
    )
    assert observe_idle([pod], {}, planning.NOW)["a"].count == 0
