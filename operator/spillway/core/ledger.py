"""What a pool has spent and may still spend at paid APIs, as a value.

A grant is reserved here *before* the overflow value that carries it is published, at the 95th
percentile of a request's cost; reservations count as spent. What gateways report turns reservations
into spend. The unused part of an expired reservation comes back only when a gateway has reported
after it: without a report it is charged in full.

The ledger only ever errs to the dear side, with one exception that it records and can't prevent: a
gateway that spends beyond its grant. Then nothing is left until the period ends.
"""

from __future__ import annotations

import math
from decimal import ROUND_DOWN, ROUND_HALF_UP, ROUND_UP, Decimal
from typing import TYPE_CHECKING, Final

from spillway.core.ledger_value import PeriodSpend, PoolLedger, Reservation, from_json, to_json
from spillway.core.overflow_value import LEASE_SECONDS, NO_ALLOWANCE, Allowance
from spillway.core.periods import PERIODS, Period, period_end, period_start
from spillway.core.values import replace

if TYPE_CHECKING:
    from spillway.api.inferencepool import Budget

__all__ = [
    "LATE_COUNT_SECONDS",
    "UNREPORTED_SECONDS",
    "Period",
    "PeriodSpend",
    "PoolLedger",
    "Reservation",
    "extend",
    "from_json",
    "is_over",
    "left",
    "limits",
    "reserve",
    "settle",
    "skip_versions",
    "to_json",
]

#: A request that left just before its grant expired is counted when it ends; two minutes are room
#: for a long answer. One that ends later still is charged, beyond its reservation.
LATE_COUNT_SECONDS: Final = 120.0
#: Without any report for so long after a grant expired, it is charged in full: several restarts of
#: a gateway or of Prometheus fit in.
UNREPORTED_SECONDS: Final = 600.0
_MICRO: Final = Decimal("0.000001")
#: Beyond every budget the CRD accepts (nine digits); a counter above it is no count of dollars.
_MAX_TOTAL: Final = 1e11
_MAX_SPENT: Final = Decimal(10**12 - 1)
_ZERO: Final = Decimal(0)


def limits(budget: Budget) -> dict[Period, Decimal]:
    """The bounded periods of a budget, in US dollars."""
    bounds = {
        Period.HOUR: budget.per_hour,
        Period.DAY: budget.per_day,
        Period.MONTH: budget.per_month,
    }
    return {period: bound for period, bound in bounds.items() if bound is not None}


def left(ledger: PoolLedger, budget: Budget, now: float) -> Decimal | None:
    """US dollars that the tightest period has left; None when no period is bounded.

    Raises:
        ValueError: The budget's time zone is not known.
    """
    current = _current(ledger, budget.time_zone, now)
    rests = [bound - current.committed(period) for period, bound in limits(budget).items()]
    return max(_ZERO, min(rests)) if rests else None


def runs_out_at(
    ledger: PoolLedger, budget: Budget, usd_per_hour: float, now: float
) -> float | None:
    """When the first period's budget is spent at this rate; None if each lasts to its end.

    Args:
        ledger: What is spent.
        budget: What may be.
        usd_per_hour: Present rate, above 0.
        now: Seconds since the epoch.

    Raises:
        ValueError: The budget's time zone is not known.
    """
    current = _current(ledger, budget.time_zone, now)
    ends = []
    for period, bound in limits(budget).items():
        rest = max(_ZERO, bound - current.committed(period))
        out_at = now + float(rest) / usd_per_hour * 3600
        if out_at < period_end(period, budget.time_zone, now):
            ends.append(out_at)
    return min(ends, default=None)


def reserve(
    ledger: PoolLedger,
    usd: float | Decimal,
    requests: int,
    budget: Budget,
    now: float,
    lease_seconds: float = LEASE_SECONDS,
) -> tuple[PoolLedger, Allowance]:
    """Reserves what budget and ledger allow of ``usd`` for ``requests``; the price a request stays.

    Nothing is reserved when the budget does not allow a single request.

    Raises:
        ValueError: An amount is negative or not finite, or the time zone is not known.
    """
    wanted = Decimal(usd)
    if not wanted.is_finite() or wanted < 0 or requests < 0:
        msg = f"usd and requests: must be finite and not negative, got {usd} and {requests}"
        raise ValueError(msg)
    current = _current(ledger, budget.time_zone, now)
    # Absurd metrics make arrivals and prices that nobody has.
    if requests == 0 or wanted / requests > _MAX_SPENT:
        return current, NO_ALLOWANCE
    rate = (wanted / requests).quantize(_MICRO, ROUND_UP)
    bound = left(current, budget, now)
    rest = _MAX_SPENT if bound is None else bound
    if rate > 0:
        requests = min(requests, int((rest / rate).to_integral_value(ROUND_DOWN)))
    if requests == 0:
        return current, NO_ALLOWANCE
    reservation = Reservation(
        id=current.next_id,
        requests=requests,
        usd=rate * requests,
        charged=_ZERO,
        granted_at=now,
        until=now + lease_seconds,
        requests_before=current.reported_requests,
    )
    granted = replace(
        current,
        reservations=(*current.reservations, reservation),
        next_id=current.next_id + 1,
        usd_per_request=rate,
    )
    return granted, Allowance(requests, float(reservation.usd))


def extend(ledger: PoolLedger, grant: Reservation, until: float) -> PoolLedger:
    """The ledger with a longer lease for a grant: no more dollars, only more time."""
    longer = replace(grant, until=max(grant.until, until))
    return replace(
        ledger,
        reservations=tuple(longer if r.id == grant.id else r for r in ledger.reservations),
    )


def skip_versions(ledger: PoolLedger, version: int) -> PoolLedger:
    """The ledger with its next grant above ``version``, for a ledger that was lost or is older.

    Consumers count their use from zero when the version changes, so none may come twice.
    """
    return ledger if ledger.next_id > version else replace(ledger, next_id=version + 1)


def is_over(ledger: PoolLedger, now: float) -> bool:
    """Whether nothing in it counts any more: no reservation, and every period has ended."""
    return not ledger.reservations and all(
        period_start(period, ledger.time_zone, now) > entry.start
        for period, entry in ledger.spent.items()
    )


def settle(
    ledger: PoolLedger,
    reported_requests_total: float | None,
    reported_usd_total: float | None,
    now: float,
) -> PoolLedger:
    """Turns reservations into spend by what the gateways counted, and closes expired ones.

    Args:
        ledger: Before.
        reported_requests_total: Requests sent to the cloud since the counters began; None when no
            gateway reports.
        reported_usd_total: What they cost; None where the gateway does not count it. Then each
            request costs what the latest reservation put aside for one.
        now: When the counters were sampled; the present time when nothing is reported.
    """
    current = _current(ledger, ledger.time_zone, now)
    if not _is_total(reported_requests_total):
        return _close_unreported(current, now)
    usd_total = None
    if _is_total(reported_usd_total) and reported_usd_total is not None:
        # To the nearest: totals are cumulative, so the error stays below a micro-dollar for ever.
        usd_total = Decimal(reported_usd_total).quantize(_MICRO, ROUND_HALF_UP)
    delta = _spent_since(current, reported_requests_total or 0.0, usd_total)
    if delta is None:
        # First report, or the counters began anew: what earlier grants spent can't be known.
        blind = tuple(replace(r, requests_before=None) for r in current.reservations)
        current = replace(current, reservations=blind)
    else:
        # What was charged in full during an outage may be in this report: not twice.
        current = _charge(current, max(_ZERO, delta - current.unreported))
    current = replace(
        current,
        reported_requests=reported_requests_total,
        reported_usd=usd_total,
        reported_at=now,
        unreported=_ZERO,
    )
    return _close_reported(current, now)


def _spent_since(ledger: PoolLedger, requests: float, usd: Decimal | None) -> Decimal | None:
    """US dollars spent since the last report; None when that can't be told."""
    if ledger.reported_requests is None or requests < ledger.reported_requests:
        return None
    if usd is not None and ledger.reported_usd is not None:
        return usd - ledger.reported_usd if usd >= ledger.reported_usd else None
    count = Decimal(requests) - Decimal(ledger.reported_requests)
    return (count * ledger.usd_per_request).quantize(_MICRO, ROUND_UP)


def _charge(ledger: PoolLedger, usd: Decimal) -> PoolLedger:
    """Charges an amount, first to the reservations that close first.

    So what was really spent of a reservation is never charged to one that outlasts it, and what
    consumers can still spend of the later one stays reserved.
    """
    rest = usd
    reservations = list(ledger.reservations)
    for index in sorted(range(len(reservations)), key=lambda i: reservations[i].until):
        reservation = reservations[index]
        part = min(rest, reservation.open)
        rest -= part
        reservations[index] = replace(reservation, charged=reservation.charged + part)
    return _spend(replace(ledger, reservations=tuple(reservations)), usd)


def _spend(ledger: PoolLedger, usd: Decimal) -> PoolLedger:
    spent = {
        period: PeriodSpend(entry.start, min(_MAX_SPENT, entry.usd + usd))
        for period, entry in ledger.spent.items()
    }
    return replace(ledger, spent=spent)


def _close_reported(ledger: PoolLedger, now: float) -> PoolLedger:
    over = [r for r in ledger.reservations if r.until + LATE_COUNT_SECONDS <= now]
    kept = tuple(r for r in ledger.reservations if r.until + LATE_COUNT_SECONDS > now)
    blind = sum((r.open for r in over if r.requests_before is None), _ZERO)
    return _spend(replace(ledger, reservations=kept), blind)


def _close_unreported(ledger: PoolLedger, now: float) -> PoolLedger:
    over = [r for r in ledger.reservations if r.until + UNREPORTED_SECONDS <= now]
    if not over:
        return ledger
    kept = tuple(r for r in ledger.reservations if r.until + UNREPORTED_SECONDS > now)
    usd = sum((r.open for r in over), _ZERO)
    closed = replace(ledger, reservations=kept, unreported=ledger.unreported + usd)
    return _spend(closed, usd)


def _current(ledger: PoolLedger, time_zone: str, now: float) -> PoolLedger:
    """The ledger in the periods of ``now``.

    A period only ever moves forward, so a clock that jumps back frees nothing. A new time zone
    takes the spend of the running periods along.
    """
    starts = {period: period_start(period, time_zone, now) for period in PERIODS}
    if time_zone != ledger.time_zone:
        moved = {p: PeriodSpend(starts[p], entry.usd) for p, entry in ledger.spent.items()}
        return replace(ledger, time_zone=time_zone, spent=moved)
    if all(starts[period] <= entry.start for period, entry in ledger.spent.items()):
        return ledger
    rolled = {
        period: PeriodSpend(starts[period], _ZERO) if starts[period] > entry.start else entry
        for period, entry in ledger.spent.items()
    }
    return replace(ledger, spent=rolled)


def _is_total(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and 0 <= value <= _MAX_TOTAL
