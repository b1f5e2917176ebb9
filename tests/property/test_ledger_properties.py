"""The ledger over any sequence of grants, reports, silences, restarts and clock jumps."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spillway.api.inferencepool import Budget
from spillway.core.ledger import (
    PeriodSpend,
    PoolLedger,
    Reservation,
    extend,
    from_json,
    left,
    limits,
    reserve,
    settle,
    to_json,
)
from spillway.core.periods import PERIODS, Period, period_start

#: The evening before clocks go back in Berlin, a few days before a month ends.
START = 1_792_875_600.0
BUDGET = Budget.model_validate(
    {"perHour": "2", "perDay": "5", "perMonth": "9", "timeZone": "Europe/Berlin"}
)


class Spending(RuleBasedStateMachine):
    """A consumer that never exceeds a grant, and a ledger that may miss its reports."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.ledger = settle(PoolLedger.empty(BUDGET.time_zone, START), 0.0, 0.0, START)
        #: What the consumer may still spend of each grant, by its id.
        self.unspent: dict[int, Decimal] = {}
        self.really_spent = Decimal(0)

    @rule(usd=st.floats(0.01, 4), requests=st.integers(1, 400))
    def grant(self, usd: float, requests: int) -> None:
        before = left(self.ledger, BUDGET, self.now)
        after, allowance = reserve(self.ledger, usd, requests, BUDGET, self.now)
        if allowance.requests:
            grant = after.reservations[-1]
            self.unspent[grant.id] = grant.usd
            assert before is not None
            assert grant.usd <= before
        self.ledger = after

    @rule(share=st.floats(0, 1))
    def spend(self, share: float) -> None:
        live = {r.id for r in self.ledger.reservations if r.until > self.now}
        for grant in live & self.unspent.keys():
            part = (self.unspent[grant] * Decimal(share)).quantize(Decimal("0.000001"))
            part = min(part, self.unspent[grant])
            self.unspent[grant] -= part
            self.really_spent += part

    @rule()
    def report(self) -> None:
        total = float(self.really_spent)
        self.ledger = settle(self.ledger, total * 100, total, self.now)

    @rule()
    def silence(self) -> None:
        self.ledger = settle(self.ledger, None, None, self.now)

    @rule()
    def prolong(self) -> None:
        grant = self.ledger.live_grant(self.now)
        if grant is not None:
            self.ledger = extend(self.ledger, grant, self.now + 45)
            assert self.ledger.outstanding >= 0

    @rule(seconds=st.sampled_from([1.0, 20.0, 46.0, 170.0, 700.0, 3600.0, 30_000.0, 700_000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([1.0, 60.0, 4000.0, 90_000.0]))
    def clock_jumps_back(self, seconds: float) -> None:
        before = left(self.ledger, BUDGET, self.now)
        after = left(self.ledger, BUDGET, self.now - seconds)
        assert before is not None
        assert after is not None
        assert after <= before
        self.now -= seconds

    @rule()
    def restart(self) -> None:
        restored = from_json(to_json(self.ledger))
        assert restored == self.ledger
        self.ledger = restored

    @invariant()
    def no_period_exceeds_its_budget(self) -> None:
        for period, bound in limits(BUDGET).items():
            assert self.ledger.committed(period) <= bound

    @invariant()
    def what_may_still_be_spent_is_held(self) -> None:
        """Nothing that a consumer can still spend has been given back."""
        for reservation in self.ledger.reservations:
            assert 0 <= reservation.charged <= reservation.usd
        live = [r.id for r in self.ledger.reservations if r.until > self.now]
        open_to_spend = sum((self.unspent.get(i, Decimal(0)) for i in live), Decimal(0))
        assert open_to_spend <= self.ledger.outstanding


Spending.TestCase.settings = settings(stateful_step_count=40)
TestSpending = Spending.TestCase


moments = st.floats(0, 4_000_000_000)
zones = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/Sao_Paulo",
        "Africa/Cairo",
        "Asia/Kolkata",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "America/St_Johns",
    ]
)


@given(st.sampled_from(PERIODS), zones, moments)
def test_a_period_contains_its_moment_and_begins_where_it_begins(
    period: Period, zone: str, now: float
) -> None:
    start = period_start(period, zone, now)
    longest = {Period.HOUR: 3600, Period.DAY: 26 * 3600, Period.MONTH: 31 * 86_400 + 3600}
    assert start <= now < start + longest[period]
    assert period_start(period, zone, start) == start


ledgers = st.builds(
    PoolLedger,
    time_zone=zones,
    spent=st.fixed_dictionaries(
        {
            period: st.builds(PeriodSpend, moments, st.decimals(0, 1000, places=6))
            for period in PERIODS
        }
    ),
    reservations=st.lists(
        st.builds(
            Reservation,
            id=st.integers(1, 1000),
            requests=st.integers(0, 1000),
            usd=st.decimals(10, 1000, places=6),
            charged=st.decimals(0, 10, places=6),
            granted_at=moments,
            until=moments,
            requests_before=st.none() | moments,
        ),
        max_size=4,
    ).map(tuple),
    next_id=st.integers(1, 10**9),
    usd_per_request=st.decimals(0, 10, places=6),
    reported_requests=st.none() | moments,
    reported_usd=st.none() | st.decimals(0, 1000, places=6),
    reported_at=st.none() | moments,
    unreported=st.decimals(0, 1000, places=6),
)


@given(ledgers)
def test_any_ledger_survives_as_text(ledger: PoolLedger) -> None:
    assert from_json(to_json(ledger)) == ledger


@given(st.text())
def test_any_text_is_refused_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        from_json(text)
