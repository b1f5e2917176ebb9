"""Computes the next overflow value from the load of one pool.

Two numbers carry the split. ``admit`` is a bound that a router checks against its own requests in
flight, so it acts within the same millisecond. ``fraction`` is for routers that can only weigh, and
is what this loop has to get right: it rises within one tick and falls slowly.

Missing data never spends: the previous fraction stays as long as its lease lasts, without a new
allowance and without a longer lease, and then everything stays local.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from spillway.api.inferencepool import Mode
from spillway.api.reasons import Reason
from spillway.core.admission import (
    LiveLoad,
    OverflowInputs,
    admitted_in_flight,
    admitted_prompt_tokens,
    wait_seconds,
)
from spillway.core.economics import requests_per_minute_limit
from spillway.core.overflow_value import (
    FRACTION_STEP,
    LEASE_SECONDS,
    NO_ALLOWANCE,
    Admit,
    Allowance,
    OverflowValue,
    ProviderShare,
    from_json,
    needs_rewrite,
    quantise,
    shrink,
    to_dict,
    to_json,
)
from spillway.core.values import replace

if TYPE_CHECKING:
    from spillway.api.inferencepool import Burst, Provider

__all__ = [
    "FRACTION_STEP",
    "LEASE_SECONDS",
    "NO_ALLOWANCE",
    "Admit",
    "Allowance",
    "LiveLoad",
    "OverflowInputs",
    "OverflowValue",
    "ProviderShare",
    "admitted_in_flight",
    "admitted_prompt_tokens",
    "arrivals_per_second",
    "forbidden_reason",
    "from_json",
    "needs_rewrite",
    "next_value",
    "quantise",
    "shrink",
    "target_fraction",
    "to_dict",
    "to_json",
]

#: Over which time a backlog that is already there is sent away, and room is filled: several fast
#: ticks, so that one noisy sample moves little. In a simulated spike of three times capacity
#: (tests/unit/core/test_overflow_stability.py) 140 requests were on two replicas of 16 in the mean
#: of the first minute at 10 s, 97 at 5 s and 75 at 3 s, where the share that left went up to 0.95.
BACKLOG_SECONDS: Final = 5.0
#: A provider that fails more of its attempts than this gets none of the overflow. When none of them
#: is left in the rate window it is tried again.
FAILING_SHARE: Final = 0.5
#: From all to nothing in 30 s, where the replicas have no room to spare. Chosen, not measured: a
#: fraction that drops at once when they are full comes straight back.
FALL_PER_SECOND: Final = 1 / 30


#: Replicas with less than this share of what they hold at their rate idle, whatever the arrivals
#: say: these are a mean of a minute, and when load falls they tell of load that is gone. Far below
#: what replicas hold that burst has relieved, so that burst does not stop itself.
IDLE_SHARE: Final = 0.1


def arrivals_per_second(inputs: OverflowInputs) -> float | None:
    """Arrivals upstream of the split: the fast loop's, else the slow loop's, else a lower bound.

    The lower bound is what the replicas serve when more is on them than they can take: fewer
    arrivals would not have filled them. It counts beside the slow loop's figure too, which is a
    mean of a minute and late: at the beginning of a spike it tells of the quiet before. None when
    there is nothing to go by.
    """
    live, known = inputs.live, inputs.demand_per_second
    if live is not None and live.arrivals_per_second is not None:
        return live.arrivals_per_second
    if live is None or inputs.mu is None or _backlog(inputs, live, inputs.mu) <= 0:
        return known
    return max(known or 0.0, live.replicas_serving * inputs.mu)


def forbidden_reason(inputs: OverflowInputs, allowance: Allowance) -> Reason | None:
    """Why nothing may leave, whatever the load; None when burst is allowed.

    A budget that is used up forbids burst only once no grant is left: what is already reserved
    may be spent.
    """
    spec = inputs.spec
    checks = (
        (inputs.release, Reason.RELEASED),
        (spec.mode is Mode.PAUSED, Reason.PAUSED),
        (spec.mode is Mode.ADVISE, Reason.ADVISE),
        (spec.burst is None or spec.burst.max_fraction <= 0, Reason.BURST_DISABLED),
        (not inputs.price_known or not _is_cost(inputs.p95_cost_usd), Reason.PRICE_UNKNOWN),
        (
            inputs.most_leaving_per_second is not None and inputs.most_leaving_per_second <= 0,
            Reason.RUNAWAY,
        ),
        (
            inputs.budget_left_usd is not None
            and inputs.budget_left_usd <= 0
            and allowance == NO_ALLOWANCE,
            Reason.BUDGET_EXHAUSTED,
        ),
        (
            spec.burst is not None and all(_fails(p, inputs) for p in spec.burst.providers),
            Reason.PROVIDERS_DOWN,
        ),
    )
    return next((reason for holds, reason in checks if holds), inputs.route_problem)


def target_fraction(
    inputs: OverflowInputs, previous: OverflowValue | None, now: float
) -> float | None:
    """The fraction that should leave now, 0 to spec.burst.max_fraction; None without data.

    It is what exceeds capacity, 1 - N mu / D, as far as the replicas have work, plus what works off
    the present backlog within `BACKLOG_SECONDS`. Below the previous fraction it goes down by
    `FALL_PER_SECOND` at most, or by what the replicas have room for: when new ones have come, they
    take over at once.
    """
    burst, wanted = inputs.spec.burst, _wanted_fraction(inputs)
    if burst is None or wanted is None:
        return None
    if previous is not None and _holds(previous, now):
        elapsed = 0.0 if previous.set_at is None else max(0.0, now - previous.set_at)
        wanted = max(wanted, previous.fraction - _fall_per_second(inputs) * elapsed)
    return min(max(wanted, 0.0), burst.max_fraction, _guarded_fraction(inputs))


def _guarded_fraction(inputs: OverflowInputs) -> float:
    """Share of the arrivals that the guard lets leave."""
    most, arrivals = inputs.most_leaving_per_second, arrivals_per_second(inputs)
    if most is None:
        return 1.0
    return min(1.0, most / arrivals) if arrivals is not None and arrivals > 0 else 0.0


def next_value(
    inputs: OverflowInputs,
    previous: OverflowValue | None,
    now: float,
    epoch: int,
    allowance: Allowance,
    lease_seconds: float = LEASE_SECONDS,
) -> OverflowValue:
    """The value to publish now.

    ``version`` is carried over from ``previous``; `spillway.core.fast` raises it with each grant.

    Args:
        inputs: See `OverflowInputs`.
        previous: The value published last, by this leader or another.
        now: Seconds since the Unix epoch.
        epoch: This leader's.
        allowance: What the ledger has reserved for this value.
        lease_seconds: How long the value holds.
    """
    forbidden = forbidden_reason(inputs, allowance)
    closed = OverflowValue(
        version=0 if previous is None else previous.version,
        epoch=epoch,
        until=math.floor((now + lease_seconds) * 1000) / 1000,
        fraction=0.0,
        admit=None,
        allowance=NO_ALLOWANCE,
        providers=(),
        reason=forbidden or Reason.NO_DATA,
        set_at=now,
    )
    burst = inputs.spec.burst
    if forbidden is not None or burst is None:
        return closed
    fraction = target_fraction(inputs, previous, now)
    if fraction is None:
        return _held(previous, closed, allowance, burst.max_fraction)
    reason = Reason.SHORTAGE if fraction > 0 else Reason.COVERED
    arrivals = arrivals_per_second(inputs)
    if fraction > 0 and allowance.requests <= 0:
        fraction, reason = 0.0, Reason.BUDGET_EXHAUSTED
    elif arrivals is not None and arrivals > 0:
        # Routers that only weigh can't stop at the allowance: spread it over the lease instead.
        fraction = min(fraction, allowance.requests / (arrivals * lease_seconds))
    providers = _fill(burst, inputs, arrivals, fraction)
    admitted = admitted_in_flight(inputs)
    return replace(
        closed,
        fraction=math.fsum(provider.fraction for provider in providers),
        admit=None
        if admitted is None
        else Admit(math.floor(admitted), admitted_prompt_tokens(inputs, admitted)),
        allowance=allowance,
        providers=providers,
        reason=reason,
    )


def _held(
    previous: OverflowValue | None,
    closed: OverflowValue,
    allowance: Allowance,
    max_fraction: float,
) -> OverflowValue:
    """Without data: the previous value, to the end of its lease and of what is reserved for it."""
    now = closed.set_at or 0.0
    if previous is None or not _holds(previous, now) or allowance == NO_ALLOWANCE:
        return closed
    held = min(previous.fraction, max_fraction)
    return replace(
        previous,
        epoch=closed.epoch,
        fraction=held,
        allowance=allowance,
        providers=shrink(previous.providers, held),
    )


def _holds(value: OverflowValue, now: float) -> bool:
    """Whether a value's lease runs; one that was made later than now is of another clock."""
    return value.until > now and (value.set_at is None or value.set_at <= now)


def _wanted_fraction(inputs: OverflowInputs) -> float | None:
    live, mu = inputs.live, inputs.mu
    if live is None or mu is None:
        return None
    arrivals = arrivals_per_second(inputs)
    if arrivals is None:
        # Nothing waits and nobody counts arrivals: no sign of shortage is no shortage.
        return 0.0 if live.in_flight is not None else None
    if arrivals <= 0:
        return 0.0
    capacity = live.replicas_serving * mu
    excess = max(0.0, 1 - capacity / arrivals) * _filled(inputs, live)
    return excess + _backlog(inputs, live, mu) / (BACKLOG_SECONDS * arrivals)


def _fall_per_second(inputs: OverflowInputs) -> float:
    """How fast the fraction may fall: as fast as fills the room below B* in `BACKLOG_SECONDS`.

    Room is what the replicas hold at their rate, without the queue that the TTFT target would
    bear, less what is on them.
    """
    live, arrivals = inputs.live, arrivals_per_second(inputs)
    if live is None or live.in_flight is None or inputs.concurrency is None or not arrivals:
        return FALL_PER_SECOND
    room = live.replicas_serving * inputs.concurrency - live.in_flight
    # Something left, so what arrives was more than the replicas serve: a figure below that is late,
    # and would hand all of it back at once.
    least = live.replicas_serving * (inputs.mu or 0.0)
    return max(FALL_PER_SECOND, room / (BACKLOG_SECONDS * max(arrivals, least)))


def _filled(inputs: OverflowInputs, live: LiveLoad) -> float:
    """1 where the replicas have work, down to 0 where they idle; 1 where that is not known."""
    if live.in_flight is None or not inputs.concurrency or not live.replicas_serving:
        return 1.0
    return min(1.0, live.in_flight / (IDLE_SHARE * inputs.concurrency * live.replicas_serving))


def _backlog(inputs: OverflowInputs, live: LiveLoad, mu: float) -> float:
    """Requests on the replicas beyond what they can take within the TTFT target."""
    admitted = admitted_in_flight(inputs)
    if admitted is None:
        return max(0.0, live.waiting - live.replicas_serving * wait_seconds(inputs) * mu)
    return max(0.0, (live.in_flight or 0.0) - admitted)


def _is_cost(usd: float | None) -> bool:
    return usd is not None and math.isfinite(usd) and usd >= 0


def _fill(
    burst: Burst, inputs: OverflowInputs, arrivals: float | None, fraction: float
) -> tuple[ProviderShare, ...]:
    """Providers by effective price, each up to its rate limits, ``fraction`` in all at most."""
    costs = inputs.cost_by_provider
    ordered = sorted(burst.providers, key=lambda p: costs.get(p.name, math.inf))
    left = fraction
    shares = []
    for provider in ordered:
        most = _provider_cap(provider, inputs.tokens_per_request, arrivals)
        share = 0.0 if _fails(provider, inputs) else min(left, most)
        left = max(0.0, left - share)
        shares.append(ProviderShare(provider.name, share))
    return tuple(shares)


def _fails(provider: Provider, inputs: OverflowInputs) -> bool:
    return inputs.failing_by_provider.get(provider.name, 0.0) > FAILING_SHARE


def _provider_cap(
    provider: Provider, tokens_per_request: float | None, arrivals: float | None
) -> float:
    """Share of the arrivals that the provider's rate limits allow, 0 to 1."""
    if arrivals is None or arrivals <= 0:
        return 1.0
    per_minute = requests_per_minute_limit(provider, tokens_per_request)
    return min(1.0, per_minute / 60 / arrivals)
