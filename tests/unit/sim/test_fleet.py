"""Replicas created, started, drained, billed, by hand: 5 s steps, 60 s to start, 30 s to drain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spillway.sim.conditions import Change, LeadTime
from spillway.sim.fleet import Fleet
from spillway.sim.setting import setting_of
from tests.unit.sim.worlds import trace, world


def fleet_of(worlds: int = 1, **changes: Any) -> Fleet:
    """Two replicas, ready."""
    conditions = world(floor=2, **changes)
    return Fleet(setting_of(trace([1.0] * 20), conditions, 5.0), worlds)


def ask(fleet: Fleet, step: int, *replicas: int, schedulable: bool = True) -> None:
    fleet.ask(np.array(replicas), step, schedulable=schedulable)


def counts(fleet: Fleet) -> tuple[int, int, int, int, int]:
    return (
        int(fleet.ready[0]),
        int(fleet.starting[0]),
        int(fleet.pending[0]),
        int(fleet.draining[0]),
        int(fleet.billed[0]),
    )


def through(fleet: Fleet, first: int, last: int, *, schedulable: bool = True) -> None:
    for step in range(first, last + 1):
        fleet.begin_step(step, schedulable=schedulable)


def test_a_replica_is_billed_from_its_creation_and_serves_after_its_lead() -> None:
    fleet = fleet_of()
    ask(fleet, 0, 5)
    assert counts(fleet) == (2, 3, 0, 0, 5)
    through(fleet, 1, 11)
    assert counts(fleet) == (2, 3, 0, 0, 5)
    through(fleet, 12, 12)
    assert counts(fleet) == (5, 0, 0, 0, 5)


def test_a_removed_replica_serves_no_more_and_is_billed_until_it_has_drained() -> None:
    fleet = fleet_of()
    ask(fleet, 0, 5)
    through(fleet, 1, 12)
    ask(fleet, 12, 3)
    assert counts(fleet) == (3, 0, 0, 2, 5)
    through(fleet, 13, 17)
    assert counts(fleet) == (3, 0, 0, 2, 5)
    through(fleet, 18, 18)
    assert counts(fleet) == (3, 0, 0, 0, 3)


def test_replicas_that_start_go_before_ready_ones_the_latest_first() -> None:
    fleet = fleet_of()
    ask(fleet, 0, 3)
    through(fleet, 1, 3)
    ask(fleet, 3, 5)
    ask(fleet, 3, 3)
    assert counts(fleet) == (2, 1, 0, 0, 3)
    through(fleet, 4, 12)
    assert counts(fleet) == (3, 0, 0, 0, 3)  # The one from step 0 was kept.


def test_a_pending_replica_costs_nothing_and_starts_when_it_finds_a_gpu() -> None:
    fleet = fleet_of()
    ask(fleet, 0, 4, schedulable=False)
    assert counts(fleet) == (2, 0, 2, 0, 2)
    through(fleet, 1, 5, schedulable=False)
    assert counts(fleet) == (2, 0, 2, 0, 2)
    through(fleet, 6, 6)
    assert counts(fleet) == (2, 2, 0, 0, 4)
    through(fleet, 7, 18)
    assert counts(fleet) == (4, 0, 0, 0, 4)


def test_what_is_interrupted_is_created_anew() -> None:
    fleet = fleet_of()
    assert fleet.interrupt(0, 5, schedulable=True).tolist() == [2]
    assert counts(fleet) == (0, 2, 0, 0, 2)
    assert fleet.requested.tolist() == [2]


def test_floor_and_max_hold_and_each_world_has_its_own() -> None:
    fleet = fleet_of(worlds=3, max=10)
    ask(fleet, 0, 0, 7, 99)
    assert fleet.requested.tolist() == [2, 7, 10]
    assert fleet.actions.tolist() == [0, 1, 1]
    assert fleet.billed.tolist() == [2, 7, 10]


def test_leads_scatter_about_their_median_the_same_for_everybody() -> None:
    conditions = world(lead=LeadTime(180.0, 0.15))
    first, second = (
        setting_of(trace([1.0] * 600), conditions, 5.0).start_steps * 5.0 for _ in range(2)
    )
    assert (first == second).all()
    assert np.median(first) == 185.0  # 180 s, rounded up to steps.
    assert np.quantile(first, 0.95) == pytest.approx(180 * np.exp(1.645 * 0.15), rel=0.03)


def test_an_interruption_is_in_the_setting_once() -> None:
    setting = setting_of(
        trace([1.0] * 20), world(changes=(Change(at=101.0, interrupted_replicas=3),)), 5.0
    )
    assert setting.interrupted.sum() == setting.interrupted[21] == 3
