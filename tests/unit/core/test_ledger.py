"""The ledger by hand: what is reserved, charged, credited, and when periods begin."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from spillway.api.inferencepool import Budget
from spillway.core.ledger import (
    LATE_COUNT_SECONDS,
    UNREPORTED_SECONDS,
    Period,
    PoolLedger,
    extend,
    from_json,
    left,
    reserve,
    runs_out_at,
    settle,
    skip_versions,
    to_json,
)
from spillway.core.overflow import LEASE_SECONDS, NO_ALLOWANCE, Allowance
from spillway.core.periods import period_end, period_start

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC).timestamp()
CLOSED = NOW + LEASE_SECONDS + LATE_COUNT_SECONDS


def budget(**periods: str) -> Budget:
    return Budget.model_validate(periods or {"perDay": "10"})


def ledger(*, reported: bool = True) -> PoolLedger:
    empty = PoolLedger.empty("UTC", NOW)
    return settle(empty, 0.0, 0.0, NOW - 1) if reported else empty


def spent(of: PoolLedger) -> Decimal:
    return of.spent[Period.DAY].usd


def test_a_reservation_counts_as_spent() -> None:
    after, allowance = reserve(ledger(), 4.0, 100, budget(), NOW)
    assert allowance == Allowance(100, 4.0)
    assert left(after, budget(), NOW) == 6
    assert after.spent_by_period()[Period.DAY] == 4


def test_a_grant_is_cut_to_what_the_tightest_period_has_left() -> None:
    tight = budget(perHour="1", perDay="10", perMonth="0.50")
    after, allowance = reserve(ledger(), 4.0, 100, tight, NOW)
    assert allowance == Allowance(12, 0.48)
    again, nothing = reserve(after, 4.0, 100, tight, NOW)
    assert nothing == NO_ALLOWANCE
    assert again is after


def test_without_bounds_everything_is_granted_and_still_counted() -> None:
    after, allowance = reserve(ledger(), 4.0, 100, Budget(), NOW)
    assert allowance == Allowance(100, 4.0)
    assert left(after, Budget(), NOW) is None
    assert after.outstanding == 4


@pytest.mark.parametrize("usd", [1e12, 1e18, 1e300])
@pytest.mark.parametrize("requests", [1, 10**6, 10**14])
def test_no_more_is_reserved_than_the_ledger_holds(usd: float, requests: int) -> None:
    book, allowance = reserve(PoolLedger.empty("UTC", NOW), usd, requests, Budget(), NOW)
    assert allowance.usd < 1e12
    assert from_json(to_json(book)) == book


@pytest.mark.parametrize(
    ("usd", "requests"), [(-1.0, 1), (float("nan"), 1), (float("inf"), 1), (1.0, -1)]
)
def test_a_senseless_amount_is_refused(usd: float, requests: int) -> None:
    with pytest.raises(ValueError, match="usd and requests: must be finite and not negative"):
        reserve(ledger(), usd, requests, budget(), NOW)


def test_a_report_turns_a_reservation_into_spend_and_credits_the_rest_when_it_is_over() -> None:
    granted, _ = reserve(ledger(), 4.0, 100, budget(), NOW)
    used = settle(granted, 30.0, 1.2, NOW + 30)
    assert [spent(used), used.outstanding] == [Decimal("1.2"), Decimal("2.8")]
    still = settle(used, 30.0, 1.2, CLOSED - 1)
    assert left(still, budget(), NOW) == 6
    over = settle(still, 30.0, 1.2, CLOSED)
    assert [spent(over), over.outstanding] == [Decimal("1.2"), Decimal(0)]


def test_a_gateway_that_counts_no_dollars_is_charged_at_the_reserved_price() -> None:
    granted, _ = reserve(
        settle(ledger(reported=False), 5.0, None, NOW - 1), 4.0, 100, budget(), NOW
    )
    assert spent(settle(granted, 35.0, None, NOW + 30)) == Decimal("1.2")


def test_without_a_report_a_grant_is_charged_in_full() -> None:
    granted, _ = reserve(ledger(), 4.0, 100, budget(), NOW)
    waiting = settle(granted, None, None, NOW + UNREPORTED_SECONDS)
    assert [spent(waiting), waiting.outstanding] == [Decimal(0), Decimal(4)]
    charged = settle(granted, None, None, NOW + LEASE_SECONDS + UNREPORTED_SECONDS)
    assert [spent(charged), charged.outstanding] == [Decimal(4), Decimal(0)]
    # The report that comes at last contains it: not charged twice, and nothing comes back.
    assert spent(settle(charged, 30.0, 1.2, NOW + 900)) == 4


@pytest.mark.parametrize("total", [float("nan"), float("inf"), -1.0])
def test_a_senseless_report_is_no_report(total: float) -> None:
    granted, _ = reserve(ledger(), 4.0, 100, budget(), NOW)
    assert settle(granted, total, 1.0, CLOSED + 60) == granted


def test_what_was_granted_before_the_first_report_is_never_credited() -> None:
    granted, _ = reserve(ledger(reported=False), 4.0, 100, budget(), NOW)
    first = settle(granted, 500.0, 20.0, NOW + 30)
    assert spent(first) == 0
    assert spent(settle(first, 500.0, 20.0, CLOSED)) == 4


def test_counters_that_begin_anew_credit_nothing() -> None:
    granted, _ = reserve(ledger(), 4.0, 100, budget(), NOW)
    used = settle(granted, 30.0, 1.2, NOW + 20)
    assert spent(settle(settle(used, 2.0, 0.1, NOW + 30), 2.0, 0.1, CLOSED)) == 4


def test_spend_beyond_the_grant_is_recorded_and_stops_further_grants() -> None:
    granted, _ = reserve(ledger(), 4.0, 100, budget(), NOW)
    over = settle(granted, 900.0, 36.0, NOW + 30)
    assert spent(over) == 36
    assert left(over, budget(), NOW) == 0
    assert reserve(over, 1.0, 10, budget(), NOW)[1] == NO_ALLOWANCE


def test_a_longer_lease_reserves_nothing_more() -> None:
    granted, _ = reserve(ledger(), 4.0, 100, budget(), NOW)
    grant = granted.reservations[0]
    longer = extend(granted, grant, NOW + 100)
    assert longer.outstanding == 4
    assert longer.live_grant(NOW + 99) is not None
    assert granted.live_grant(NOW + 99) is None


def test_versions_never_come_twice() -> None:
    granted, _ = reserve(skip_versions(ledger(), 41), 1.0, 1, budget(), NOW)
    assert granted.reservations[0].id == 42
    assert skip_versions(granted, 7) is granted


def test_a_clock_that_jumps_back_frees_nothing() -> None:
    granted, _ = reserve(ledger(), 10.0, 100, budget(), NOW)
    for back in (1.0, 3600.0, 86_400.0, 40 * 86_400.0):
        assert left(granted, budget(), NOW - back) == 0
        assert left(settle(granted, None, None, NOW - back), budget(), NOW) == 0


def test_a_change_of_time_zone_frees_nothing() -> None:
    granted, _ = reserve(ledger(), 10.0, 100, budget(), NOW)
    assert left(granted, budget(perDay="10", timeZone="Pacific/Kiritimati"), NOW) == 0


def test_a_new_day_starts_from_zero_but_for_what_is_outstanding() -> None:
    granted, _ = reserve(ledger(), 4.0, 100, budget(perDay="10", perMonth="11"), NOW)
    used = settle(granted, 50.0, 2.0, NOW + 30)
    tomorrow = NOW + 86_400
    assert left(used, budget(perDay="10"), tomorrow) == 8
    assert left(used, budget(perDay="10", perMonth="11"), tomorrow) == 7


@pytest.mark.parametrize(
    ("period", "zone", "now", "start"),
    [
        (Period.DAY, "Europe/Berlin", "2026-03-29T21:00:00+00:00", "2026-03-28T23:00:00+00:00"),
        (Period.DAY, "Europe/Berlin", "2026-10-25T22:59:59+00:00", "2026-10-24T22:00:00+00:00"),
        (Period.DAY, "Europe/Berlin", "2026-10-25T23:00:00+00:00", "2026-10-25T23:00:00+00:00"),
        # Cairo skips midnight itself when summer begins.
        (Period.DAY, "Africa/Cairo", "2026-04-24T10:00:00+00:00", "2026-04-23T22:00:00+00:00"),
        (Period.DAY, "Asia/Kolkata", "2026-11-21T18:30:00+00:00", "2026-11-21T18:30:00+00:00"),
        (Period.MONTH, "Europe/Berlin", "2026-10-31T22:30:00+00:00", "2026-09-30T22:00:00+00:00"),
        (Period.MONTH, "Europe/Berlin", "2026-10-31T23:00:00+00:00", "2026-10-31T23:00:00+00:00"),
        (Period.MONTH, "UTC", "2028-02-29T23:59:59+00:00", "2028-02-01T00:00:00+00:00"),
        (
            Period.HOUR,
            "Australia/Lord_Howe",
            "2026-04-04T15:15:00+00:00",
            "2026-04-04T15:00:00+00:00",
        ),
    ],
)
def test_periods_begin_at_local_midnight(period: Period, zone: str, now: str, start: str) -> None:
    at = datetime.fromisoformat(now).timestamp()
    assert period_start(period, zone, at) == datetime.fromisoformat(start).timestamp()


def test_an_unknown_time_zone_is_named() -> None:
    with pytest.raises(ValueError, match=r"must be an IANA name .* got 'Mars/Olympus'"):
        PoolLedger.empty("Mars/Olympus", NOW)
    with pytest.raises(ValueError, match=r"must be an IANA name .* got '\.\./passwd'"):
        period_start(Period.DAY, "../passwd", NOW)


def test_the_ledger_survives_as_text() -> None:
    granted, _ = reserve(ledger(), 4.0, 100, budget(), NOW)
    used = settle(granted, 30.5, 1.25, NOW + 30)
    assert from_json(to_json(used)) == used


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": 2}, "form: must be an integer from 1 to 1, got 2"),
        ({"timeZone": "Mars/Olympus"}, "must be an IANA name"),
        ({"spent": {}}, "spent.hour: must be an object"),
        ({"unreported": "-1"}, "unreported: must be a decimal string"),
        ({"unreported": "1e9"}, "unreported: must be a decimal string"),
        ({"nextId": 0}, "nextId: must be an integer from 1"),
        ({"reservations": [{"id": 1}]}, r"reservations\[0\].requests: must be"),
    ],
)
def test_stored_text_that_is_no_ledger_is_refused(change: dict[str, Any], message: str) -> None:
    stored = json.loads(to_json(ledger()))
    with pytest.raises(ValueError, match=message):
        from_json(json.dumps({**stored, **change}))


@pytest.mark.parametrize(
    ("period", "zone", "at", "end"),
    [
        ("hour", "UTC", "2026-11-21T12:30:00+00:00", "2026-11-21T13:00:00+00:00"),
        ("day", "Europe/Berlin", "2026-11-21T12:30:00+00:00", "2026-11-22T00:00:00+01:00"),
        ("day", "Europe/Berlin", "2026-10-25T00:30:00+02:00", "2026-10-26T00:00:00+01:00"),
        ("month", "UTC", "2026-12-03T12:30:00+00:00", "2027-01-01T00:00:00+00:00"),
        ("month", "Europe/Berlin", "2026-10-03T12:30:00+00:00", "2026-11-01T00:00:00+01:00"),
    ],
)
def test_periods_end_where_the_next_begins(period: str, zone: str, at: str, end: str) -> None:
    moment = datetime.fromisoformat(at).timestamp()
    found = period_end(Period(period), zone, moment)
    assert found == datetime.fromisoformat(end).timestamp()
    assert period_start(Period(period), zone, found) == found


def test_the_end_of_a_budget_is_foretold_at_the_present_rate() -> None:
    after, _ = reserve(ledger(), 4.0, 100, budget(), NOW)
    # $6 are left of the day, which ends in 11.5 h.
    assert runs_out_at(after, budget(), 2.0, NOW) == NOW + 3 * 3600
    assert runs_out_at(after, budget(), 0.5, NOW) is None, "the day ends before the budget"


def test_of_several_periods_the_first_to_run_out_is_told() -> None:
    periods = budget(perHour="1", perDay="3")
    assert runs_out_at(ledger(), periods, 1.5, NOW) == NOW + 2 * 3600
    assert runs_out_at(ledger(), periods, 4.0, NOW) == NOW + 900
