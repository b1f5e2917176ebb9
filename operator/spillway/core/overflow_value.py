"""The overflow value: what may leave for a paid API now, for how long and for how much.

One value a pool, with a lease. Consumers (routers, gateways) keep the last value until ``until``
and then stay local, so neither a dead operator nor an expired value spends. This module holds the
value and its text; `spillway.core.overflow` computes the next one.
"""

from __future__ import annotations

import json
import math
from dataclasses import field
from typing import Any, Final

from spillway.api.reasons import Reason
from spillway.api.timestamps import format_time
from spillway.core.values import dataclass, replace
from spillway.core.wire import Fields, shown

#: Longer than a failover: a lease of 15 s that is lost, found and followed by the first tick took
#: 16 to 18 s, and an API server's restart is inside it too. Shorter than a budget can bear: after a
#: crash nothing is spent beyond the allowance of this time.
LEASE_SECONDS: Final = 45.0
#: A change of the fraction below one point is not worth a write to the API server.
FRACTION_STEP: Final = 0.01
#: Nor is a change of the admitted requests in flight below this share.
ADMIT_TOLERANCE: Final = 0.05
#: As many as the CRD accepts in spec.burst.providers.
_MAX_PROVIDERS: Final = 8


@dataclass(frozen=True, slots=True)
class Admit:
    """What the serving replicas can take; requests beyond it leave at once.

    Attributes:
        in_flight: Requests in flight to local replicas.
        prompt_tokens: Prompt tokens in flight to local replicas; None for no bound.
    """

    in_flight: int
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a consumer may spend under one version of the value; it stops at either bound.

    Attributes:
        requests: Requests that may leave.
        usd: US dollars that they may cost.
    """

    requests: int = 0
    usd: float = 0.0


#: Reasons that say no more than whether the fraction is above 0.
_BY_FRACTION: Final = frozenset({Reason.SHORTAGE, Reason.COVERED})
#: Nothing may leave.
NO_ALLOWANCE: Final = Allowance()


@dataclass(frozen=True, slots=True)
class ProviderShare:
    """One provider's part of the overflow.

    Attributes:
        name: Provider, as the spec names it.
        fraction: Share of all arrivals that goes there, 0 to 1.
    """

    name: str
    fraction: float


@dataclass(frozen=True, slots=True)
class OverflowValue:
    """What the pool's router is told.

    Attributes:
        version: Rises with each new grant; a consumer counts its use of ``allowance`` from zero
            when it changes.
        epoch: Of the leader that made the value; the highest wins.
        until: When the value expires and everything stays local.
        fraction: Share of arrivals that should leave, for routers that can only weigh, 0 to 1.
        admit: What the replicas can take, for routers that see their own load; None when unknown
            or when nothing may leave.
        allowance: Bound on spend.
        providers: In order of preference; their fractions sum to ``fraction``.
        reason: Why the fraction is what it is.
        set_at: When ``fraction`` was computed; None for a value read back from text. It is not
            published.
    """

    version: int
    epoch: int
    until: float
    fraction: float
    admit: Admit | None
    allowance: Allowance
    providers: tuple[ProviderShare, ...]
    reason: Reason
    set_at: float | None = field(default=None, compare=False)

    @property
    def idle(self) -> bool:
        """Whether the value means the same as an expired one: everything stays local."""
        return self.fraction <= 0 and self.allowance == NO_ALLOWANCE

    def lapsed(self, now: float) -> bool:
        """Whether consumers have let go of a value that sent requests away."""
        return self.until <= now and not self.idle


def to_dict(value: OverflowValue) -> dict[str, Any]:
    """The value as JSON-ready objects, keys as consumers read them."""
    admit: dict[str, Any] | None = None
    if value.admit is not None:
        admit = {"inFlight": value.admit.in_flight, "promptTokens": value.admit.prompt_tokens}
    return {
        "version": value.version,
        "epoch": value.epoch,
        "until": format_time(value.until, digits=3),
        "fraction": value.fraction,
        "admit": admit,
        "allowance": {"requests": value.allowance.requests, "usd": value.allowance.usd},
        "providers": [{"name": p.name, "fraction": p.fraction} for p in value.providers],
        "reason": value.reason.value,
    }


def to_json(value: OverflowValue) -> str:
    """The value as compact JSON."""
    return json.dumps(to_dict(value), separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> OverflowValue:
    """The value of a JSON text; unknown fields are ignored.

    Raises:
        ValueError: The text is not an overflow value; the message names the field.
    """
    fields = Fields.parse(text)
    admit = None
    if fields.has("admit"):
        inner = fields.object("admit")
        tokens = inner.integer("promptTokens") if inner.has("promptTokens") else None
        admit = Admit(inner.integer("inFlight"), tokens)
    allowance = fields.object("allowance")
    return OverflowValue(
        version=fields.integer("version"),
        epoch=fields.integer("epoch"),
        until=fields.time("until"),
        fraction=fields.number("fraction", high=1.0),
        admit=admit,
        allowance=Allowance(allowance.integer("requests"), allowance.number("usd")),
        providers=tuple(
            ProviderShare(item.string("name", max_length=63), item.number("fraction", high=1.0))
            for item in fields.objects("providers", _MAX_PROVIDERS)
        ),
        reason=_reason(fields.string("reason", max_length=64)),
    )


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError as error:
        msg = f"reason: must be a reason that Spillway gives, got {shown(text)}"
        raise ValueError(msg) from error


def quantise(value: OverflowValue) -> OverflowValue:
    """The value in steps of `FRACTION_STEP` and micro-dollars, rounded down, for the annotation.

    Down, so that the published value never exceeds a bound that the exact one keeps.
    """
    fraction = math.floor(value.fraction / FRACTION_STEP + 1e-9) * FRACTION_STEP
    fraction = min(round(fraction, 9), value.fraction)
    usd = min(math.floor(value.allowance.usd * 1e6) / 1e6, value.allowance.usd)
    return replace(
        value,
        until=math.floor(value.until * 1000) / 1000,
        fraction=fraction,
        allowance=Allowance(value.allowance.requests, usd),
        providers=shrink(value.providers, fraction),
    )


def shrink(providers: tuple[ProviderShare, ...], fraction: float) -> tuple[ProviderShare, ...]:
    """The same providers in the same order, with ``fraction`` in all, the first ones kept full."""
    left = fraction
    shares = []
    for provider in providers:
        share = min(provider.fraction, left)
        left = max(0.0, left - share)
        shares.append(ProviderShare(provider.name, share))
    return tuple(shares)


def needs_rewrite(
    published: OverflowValue | None,
    value: OverflowValue,
    now: float,
    lease_seconds: float = LEASE_SECONDS,
) -> bool:
    """Whether the annotation must be written: a real change, or half of its life is gone.

    A value that lets nothing leave needs no renewal: when it expires, it means the same. So pools
    that do not burst cost no writes.
    """
    if published is None:
        return not (value.idle and value.reason is Reason.BURST_DISABLED)
    return _really_changed(published, value) or (
        not value.idle and published.until - now < lease_seconds / 2
    )


def _really_changed(published: OverflowValue, value: OverflowValue) -> bool:
    old, new = published, value
    return (
        old.version != new.version
        or old.epoch != new.epoch
        or quantise(old).allowance != quantise(new).allowance
        or _moved(old.fraction, new.fraction)
        or (old.reason is not new.reason and {old.reason, new.reason} != _BY_FRACTION)
        or [p.name for p in old.providers] != [p.name for p in new.providers]
        or any(
            _moved(a.fraction, b.fraction)
            for a, b in zip(old.providers, new.providers, strict=True)
        )
        or _admit_changed(old.admit, new.admit)
    )


def _moved(old: float, new: float) -> bool:
    """Whether a fraction went a whole step, or to nothing.

    Exact fractions are compared: one at the edge between two steps would be written at every tick.
    """
    return abs(old - new) >= FRACTION_STEP * (1 - 1e-9) or new <= 0 < old


def _admit_changed(old: Admit | None, new: Admit | None) -> bool:
    if old is None or new is None:
        return old is not new
    if (old.prompt_tokens is None) != (new.prompt_tokens is None):
        return True
    pairs = ((old.in_flight, new.in_flight), (old.prompt_tokens or 0, new.prompt_tokens or 0))
    # Zero means that no replica serves: any move to or from it counts.
    return any((a == 0) != (b == 0) or abs(a - b) > ADMIT_TOLERANCE * max(a, b) for a, b in pairs)
