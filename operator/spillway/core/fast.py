"""One step of the fast loop for one pool: reserve first, then the value that may spend it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from spillway.core.ledger import extend, left, reserve, skip_versions
from spillway.core.overflow import (
    LEASE_SECONDS,
    NO_ALLOWANCE,
    Allowance,
    admitted_in_flight,
    arrivals_per_second,
    forbidden_reason,
    next_value,
    target_fraction,
)
from spillway.core.reporting import REPORTING
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from spillway.api.inferencepool import Burst
    from spillway.core.ledger import PoolLedger, Reservation
    from spillway.core.overflow import OverflowInputs, OverflowValue

#: A grant holds twice what is expected to leave within a lease, so that renewing it at half leaves
#: a full lease's worth in hand.
GRANT_MARGIN: Final = 2.0
#: A router with its own admission sends away the peaks of arrivals before this loop sees them: a
#: hard bound on requests in flight sent away 1 to 7 % in the reference simulator.
STANDBY_FRACTION: Final = 0.07
#: Below this share of what the replicas can take, such peaks don't reach the bound.
STANDBY_LOAD: Final = 0.5


@dataclass(frozen=True, slots=True)
class FastOutcome:
    """What one step came to.

    Attributes:
        value: To be published, after the ledger is stored.
        ledger: To be kept.
        ledger_changed: Whether the ledger must be stored before ``value`` is published.
    """

    value: OverflowValue
    ledger: PoolLedger
    ledger_changed: bool


def fast_step(
    inputs: OverflowInputs,
    previous: OverflowValue | None,
    ledger: PoolLedger,
    now: float,
    epoch: int,
    lease_seconds: float = LEASE_SECONDS,
) -> FastOutcome:
    """The next overflow value and the ledger that covers it.

    A grant is renewed when less than half of it is left, or of its lease. Where gateways report
    that enough of it is unused, it only gets a longer lease: that costs no further reservation.
    Without data no new grant is made and the old one gets no longer lease.

    The value never outlives its grant, and its allowance is the grant's, so that consumers can't
    spend what the ledger does not hold. ``inputs.budget_left_usd`` is taken from the ledger where
    it is None.
    """
    before = ledger
    burst = inputs.spec.burst
    if previous is not None:
        ledger = skip_versions(ledger, _highest_foreign(previous, ledger))
    if burst is not None and inputs.budget_left_usd is None:
        rest = left(ledger, burst.budget, now)
        inputs = replace(inputs, budget_left_usd=None if rest is None else float(rest))
    grant = ledger.live_grant(now)
    fraction = target_fraction(inputs, previous, now)
    if burst is not None and fraction is not None and _may_grant(inputs, grant):
        needed = _expected_requests(inputs, burst, fraction, lease_seconds)
        ledger = _renewed(inputs, burst, ledger, needed, now, lease_seconds)
        grant = ledger.live_grant(now)
    value = next_value(inputs, previous, now, epoch, _allowance(grant), lease_seconds)
    if grant is not None and value.allowance != NO_ALLOWANCE:
        until = min(value.until, math.floor(grant.until * 1000) / 1000)
        value = replace(value, version=grant.id, until=until)
    return FastOutcome(value, ledger, ledger_changed=ledger is not before)


def _highest_foreign(previous: OverflowValue, ledger: PoolLedger) -> int:
    """The version that the next grant must exceed."""
    return max(previous.version, max((r.id for r in ledger.reservations), default=0))


def _allowance(grant: Reservation | None) -> Allowance:
    return NO_ALLOWANCE if grant is None else Allowance(grant.requests, float(grant.usd))


def _may_grant(inputs: OverflowInputs, grant: Reservation | None) -> bool:
    return forbidden_reason(inputs, _allowance(grant)) is None


def _expected_requests(
    inputs: OverflowInputs, burst: Burst, fraction: float, lease_seconds: float
) -> int:
    """Requests that will leave within a lease if nothing changes."""
    if burst.driver in REPORTING and _near_admission(inputs):
        fraction = max(fraction, min(STANDBY_FRACTION, burst.max_fraction))
    arrivals = arrivals_per_second(inputs) or 0.0
    if inputs.most_leaving_per_second is not None:
        return math.ceil(min(fraction * arrivals, inputs.most_leaving_per_second) * lease_seconds)
    return math.ceil(fraction * arrivals * lease_seconds)


def _near_admission(inputs: OverflowInputs) -> bool:
    admitted = admitted_in_flight(inputs)
    if inputs.live is None or inputs.live.in_flight is None or admitted is None:
        return False
    return inputs.live.in_flight >= STANDBY_LOAD * admitted


def _renewed(
    inputs: OverflowInputs,
    burst: Burst,
    ledger: PoolLedger,
    needed: int,
    now: float,
    lease_seconds: float,
) -> PoolLedger:
    """The ledger with a grant for ``needed`` requests a lease, or as it was."""
    if needed <= 0:
        return ledger
    grant = ledger.live_grant(now)
    unused = 0.0
    if grant is not None:
        half_left = grant.until - now < lease_seconds / 2
        reported = ledger.unused_requests(grant)
        # Where nobody reports, the grant counts as used in proportion to time.
        time_left = min(1.0, (grant.until - now) / lease_seconds)
        unused = grant.requests * time_left if reported is None else reported
        if unused >= needed and not half_left:
            return ledger
        if unused >= needed and reported is not None:
            return extend(ledger, grant, now + lease_seconds)
    # While a runaway is suspected what is needed is all that may leave.
    suspected = inputs.most_leaving_per_second is not None
    wanted = needed if suspected else math.ceil(needed * GRANT_MARGIN)
    usd = wanted * (inputs.p95_cost_usd or 0.0)
    granted, allowance = reserve(ledger, usd, wanted, burst.budget, now, lease_seconds)
    # A consumer drops what is left of the old grant when it sees a new one: a remnant of the
    # budget that is smaller than that would be a loss.
    return granted if allowance.requests > unused else ledger
