"""What a pool's ledger holds, and its text, to be kept between runs of the operator.

`spillway.core.ledger` says what may happen to it.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from spillway.core.periods import PERIODS, Period, period_start, zone
from spillway.core.values import dataclass
from spillway.core.wire import Fields

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The form of the stored text; a reader of a later form must still read this one.
_FORM: Final = 1
#: A grant every half lease until it is closed, ten minutes after its lease, is below 40 of them.
_MAX_RESERVATIONS: Final = 256
_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Reservation:
    """One grant that may still be spent, or whose spend may still be reported.

    Attributes:
        id: The version of the overflow value that carries the grant.
        requests: Requests granted.
        usd: US dollars granted.
        charged: Of these, already reported as spent.
        granted_at: When it was granted.
        until: When the value that carries it expires.
        requests_before: Requests reported in total when it was granted; None when nothing had been
            reported, so that no later report can tell what it did not use.
    """

    id: int
    requests: int
    usd: Decimal
    charged: Decimal
    granted_at: float
    until: float
    requests_before: float | None

    @property
    def open(self) -> Decimal:
        """US dollars that may still be spent or reported."""
        return self.usd - self.charged


@dataclass(frozen=True, slots=True)
class PeriodSpend:
    """Spend of one period.

    Attributes:
        start: When the period began.
        usd: US dollars charged in it.
    """

    start: float
    usd: Decimal


@dataclass(frozen=True, slots=True)
class PoolLedger:
    """One pool's ledger; see the module.

    Attributes:
        time_zone: IANA name of the zone in which days and months begin.
        spent: By period.
        reservations: Oldest first.
        next_id: Identifier of the next reservation.
        usd_per_request: Rate of the latest reservation, for gateways that count no dollars.
        reported_requests: Total at the last report; None before the first.
        reported_usd: Total at the last report; None where no gateway counts dollars.
        reported_at: Time of the last report.
        unreported: US dollars charged in full since the last report; the next one may contain them.
    """

    time_zone: str
    spent: Mapping[Period, PeriodSpend]
    reservations: tuple[Reservation, ...] = ()
    next_id: int = 1
    usd_per_request: Decimal = _ZERO
    reported_requests: float | None = None
    reported_usd: Decimal | None = None
    reported_at: float | None = None
    unreported: Decimal = _ZERO

    @staticmethod
    def empty(time_zone: str, now: float) -> PoolLedger:
        """A ledger that has seen nothing.

        Raises:
            ValueError: The time zone is not known.
        """
        spent = {p: PeriodSpend(period_start(p, time_zone, now), _ZERO) for p in PERIODS}
        return PoolLedger(time_zone, spent)

    @property
    def outstanding(self) -> Decimal:
        """US dollars reserved and not yet reported."""
        return sum((reservation.open for reservation in self.reservations), _ZERO)

    def committed(self, period: Period) -> Decimal:
        """US dollars spent in a period, reservations included."""
        return self.spent[period].usd + self.outstanding

    def spent_by_period(self) -> dict[Period, Decimal]:
        """US dollars spent in each period, reservations included."""
        return {period: self.committed(period) for period in PERIODS}

    def live_grant(self, now: float) -> Reservation | None:
        """The latest grant, while it lasts; one made later than now is of another clock."""
        if not self.reservations:
            return None
        latest = self.reservations[-1]
        return latest if latest.granted_at <= now < latest.until else None

    def unused_requests(self, grant: Reservation) -> float | None:
        """Requests left of the latest grant; None when nothing was reported since it was made."""
        if (
            grant.requests_before is None
            or self.reported_requests is None
            or self.reported_at is None
            or self.reported_at <= grant.granted_at
        ):
            return None
        return max(0.0, grant.requests - (self.reported_requests - grant.requests_before))


def to_json(ledger: PoolLedger) -> str:
    """The ledger as compact JSON; money as decimal strings."""
    document = {
        "form": _FORM,
        "timeZone": ledger.time_zone,
        "spent": {
            period.value: {"start": entry.start, "usd": f"{entry.usd:f}"}
            for period, entry in ledger.spent.items()
        },
        "reservations": [
            {
                "id": r.id,
                "requests": r.requests,
                "usd": f"{r.usd:f}",
                "charged": f"{r.charged:f}",
                "grantedAt": r.granted_at,
                "until": r.until,
                "requestsBefore": r.requests_before,
            }
            for r in ledger.reservations
        ],
        "nextId": ledger.next_id,
        "usdPerRequest": f"{ledger.usd_per_request:f}",
        "reportedRequests": ledger.reported_requests,
        "reportedUsd": None if ledger.reported_usd is None else f"{ledger.reported_usd:f}",
        "reportedAt": ledger.reported_at,
        "unreported": f"{ledger.unreported:f}",
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> PoolLedger:
    """The ledger of a stored text.

    Raises:
        ValueError: The text is not a ledger; the message names the field.
    """
    fields = Fields.parse(text)
    fields.integer("form", low=_FORM, high=_FORM)
    time_zone = fields.string("timeZone", max_length=64)
    zone(time_zone)
    spent = fields.object("spent")
    return PoolLedger(
        time_zone=time_zone,
        spent={period: _period_spend(spent, period) for period in PERIODS},
        reservations=tuple(
            _reservation(item) for item in fields.objects("reservations", _MAX_RESERVATIONS)
        ),
        next_id=fields.integer("nextId", low=1),
        usd_per_request=fields.decimal("usdPerRequest"),
        reported_requests=_optional(fields, "reportedRequests"),
        reported_usd=fields.decimal("reportedUsd") if fields.has("reportedUsd") else None,
        reported_at=_optional(fields, "reportedAt"),
        unreported=fields.decimal("unreported"),
    )


def _period_spend(spent: Fields, period: Period) -> PeriodSpend:
    entry = spent.object(period.value)
    return PeriodSpend(entry.number("start"), entry.decimal("usd"))


def _reservation(item: Fields) -> Reservation:
    reservation = Reservation(
        id=item.integer("id", low=1),
        requests=item.integer("requests"),
        usd=item.decimal("usd"),
        charged=item.decimal("charged"),
        granted_at=item.number("grantedAt"),
        until=item.number("until"),
        requests_before=_optional(item, "requestsBefore"),
    )
    if reservation.charged > reservation.usd:
        msg = (
            f"{item.path}charged: must be at most usd, {reservation.usd}, got {reservation.charged}"
        )
        raise ValueError(msg)
    return reservation


def _optional(fields: Fields, name: str) -> float | None:
    return fields.number(name) if fields.has(name) else None
