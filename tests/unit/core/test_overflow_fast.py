"""The fast step: grants before values, renewals, exhaustion, restart."""

from __future__ import annotations

import dataclasses
from typing import Any

from spillway.api.reasons import Reason
from spillway.core.fast import FastOutcome, fast_step
from spillway.core.ledger import PoolLedger, from_json, settle, to_json
from spillway.core.overflow import NO_ALLOWANCE, Allowance, OverflowInputs
from tests.unit.core.bursting import NOW, inputs, live, spec


def short(**burst: Any) -> OverflowInputs:
    """20 requests arrive a second, 10 can be served, a request costs a cent at the API."""
    return inputs(
        live=live(arrivals=20.0),
        budget_left_usd=None,
        spec=spec(**{"budget": {"perDay": "100"}, **burst}),
    )


def ledger() -> PoolLedger:
    return settle(PoolLedger.empty("UTC", NOW), 0.0, 0.0, NOW - 1)


def step(
    of: OverflowInputs,
    after: FastOutcome | None = None,
    at: float = 0.0,
    spent: float | None = None,
) -> FastOutcome:
    """One step ``at`` seconds after NOW, ``spent`` requests reported just before."""
    book = after.ledger if after else ledger()
    if spent is not None:
        book = settle(book, spent, spent * 0.01, NOW + at)
    return fast_step(of, after.value if after else None, book, NOW + at, 1)


def test_the_ledger_holds_the_grant_that_the_value_carries() -> None:
    # 10 a second for 45 s, twice: 900 requests of one cent.
    first = step(short())
    assert first.ledger_changed
    assert first.value.allowance == Allowance(900, 9.0)
    assert first.ledger.outstanding == 9
    assert first.value.version == first.ledger.reservations[0].id == 1


def test_a_grant_is_kept_until_half_of_it_is_used() -> None:
    first = step(short())
    second = step(short(), first, at=5, spent=50)
    assert not second.ledger_changed
    assert second.value.version == 1
    # The value never outlives its grant.
    assert second.value.until == first.value.until
    third = step(short(), second, at=20, spent=500)
    assert third.ledger_changed
    assert third.value.version == 2
    assert third.value.until == NOW + 65


def test_an_unused_grant_only_gets_a_longer_lease() -> None:
    first = step(short())
    longer = step(short(), first, at=30, spent=100)
    assert longer.ledger_changed
    assert longer.value.version == 1
    assert longer.value.until == NOW + 75
    assert longer.ledger.outstanding == 8


def test_without_reports_a_grant_is_renewed_at_half_of_its_lease() -> None:
    first = step(short())
    assert step(short(), first, at=20).value.version == 1
    assert step(short(), first, at=23).value.version == 2


def test_more_shortage_is_granted_at_once() -> None:
    first = step(short())
    more = dataclasses.replace(short(), live=live(arrivals=100.0))
    second = step(more, first, at=1)
    assert second.value.fraction > 0.85
    assert second.value.version == 2


def test_a_used_up_budget_stops_burst_with_its_reason() -> None:
    tight = short(budget={"perDay": "0.90"})
    first = step(tight)
    # 90 of 900 requests: two a second of 20 over the lease.
    assert first.value.allowance == Allowance(90, 0.9)
    assert first.value.fraction == 0.1
    gone = step(tight, first, at=46)
    assert (gone.value.fraction, gone.value.allowance) == (0.0, NO_ALLOWANCE)
    assert gone.value.reason is Reason.BUDGET_EXHAUSTED
    assert not gone.ledger_changed


def test_absurd_arrivals_are_granted_no_more_than_the_ledger_holds() -> None:
    absurd = inputs(live=live(arrivals=1e18), budget_left_usd=None, spec=spec())
    assert absurd.p95_cost_usd == 0.01
    granted = step(absurd)
    assert granted.value.allowance.usd <= 1e12 - 1
    assert granted.value.allowance.requests > 1e13
    assert granted.ledger == from_json(to_json(granted.ledger))


def test_a_remnant_of_the_budget_does_not_replace_a_larger_grant() -> None:
    tight = short(budget={"perDay": "9.50"})
    first = step(tight)
    late = step(tight, first, at=23)
    assert late.value.version == 1
    assert late.value.allowance == Allowance(900, 9.0)


def test_without_data_nothing_is_granted_and_no_lease_gets_longer() -> None:
    first = step(short())
    blind = dataclasses.replace(short(), live=None)
    held = step(blind, first, at=40)
    assert not held.ledger_changed
    assert (held.value.fraction, held.value.until) == (first.value.fraction, first.value.until)
    over = step(blind, held, at=46)
    assert (over.value.fraction, over.value.reason) == (0.0, Reason.NO_DATA)


def test_no_shortage_grants_nothing() -> None:
    calm = step(inputs(budget_left_usd=None))
    assert not calm.ledger_changed
    assert calm.value.allowance == NO_ALLOWANCE


def test_a_router_with_its_own_admission_gets_a_standby_grant_near_its_bound() -> None:
    edge = spec(driver="EdgeEnvoy")
    near = step(inputs(spec=edge, live=live((15.0, 15.0))))
    # 7 % of four a second over 45 s, rounded up, twice.
    assert near.value.allowance.requests == 26
    assert near.value.fraction == 0.0
    assert step(inputs(spec=edge, live=live((5.0, 5.0)))).value.allowance == NO_ALLOWANCE


def test_a_restart_goes_on_with_the_grant_that_it_finds() -> None:
    first = step(short())
    restored = from_json(to_json(first.ledger))
    again = fast_step(short(), first.value, restored, NOW + 5, 2)
    assert not again.ledger_changed
    assert (again.value.version, again.value.epoch) == (1, 2)
    assert again.value.allowance == first.value.allowance


def test_a_lost_ledger_never_reuses_a_version() -> None:
    first = step(short())
    old = dataclasses.replace(first.value, version=41)
    again = fast_step(short(), old, ledger(), NOW + 5, 2)
    assert again.value.version == 42
    blind = fast_step(dataclasses.replace(short(), live=None), old, ledger(), NOW + 5, 2)
    assert blind.value.allowance == NO_ALLOWANCE


def test_release_takes_everything_back_at_once() -> None:
    first = step(short())
    gone = step(dataclasses.replace(short(), release=True), first, at=1)
    assert (gone.value.fraction, gone.value.allowance) == (0.0, NO_ALLOWANCE)
    assert gone.value.reason is Reason.RELEASED
