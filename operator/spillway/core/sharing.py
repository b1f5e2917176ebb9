"""How the gateways of one pool share a value: each gets a part of the bound and of the allowance.

Every worker of every gateway reports once a second what it has in flight and what it has used, and
is told its part. Parts of the allowance are dealt out and never taken back within a version, and
they never sum to more than the allowance, so gateways that spend what they hold never spend more
together. Parts of the bound follow what is in flight where, so that a gateway with little traffic
holds no room that another one needs; one grows when another has been told that it shrinks.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import TYPE_CHECKING, Final

from spillway.core.values import dataclass, replace
from spillway.core.wire import Fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.core.overflow_value import OverflowValue

#: A gateway that has not reported for so many of its seconds is gone: its room is another's. It may
#: have requests in flight all the same, so this is not too short.
GONE_SECONDS: Final = 5.0
#: How long a new leader listens before it deals: what others hold of the version it took over is
#: only known when all have reported.
LISTEN_SECONDS: Final = 3.0
#: More workers than this are not kept apart; it bounds what somebody who makes names up can fill.
MOST_WORKERS: Final = 4096
_MOST: Final = 1e12


@dataclass(frozen=True, slots=True)
class Report:
    """What one worker of a gateway says.

    Attributes:
        gateway: Name of the gateway.
        worker: Name of the worker, unique in the pool.
        in_flight: Requests in flight to local replicas; None from one that only pays.
        version: Of the value whose allowance it spends; None from one that only admits.
        cap: Requests that it was told it may spend under that version.
        used: Requests of these that it has spent.
    """

    gateway: str
    worker: str
    in_flight: float | None = None
    version: int | None = None
    cap: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker is told.

    Attributes:
        in_flight: Requests in flight that its gateway may admit, all of its workers together; None
            without a bound, and for one that only pays.
        prompt_tokens: Prompt tokens in flight likewise.
        requests: Requests that this worker may spend under the value's version, used ones included.
        usd: What they may cost.
    """

    in_flight: int | None
    prompt_tokens: int | None
    requests: int = 0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class _Seen:
    gateway: str
    in_flight: float
    at: float
    part: float


@dataclass(frozen=True, slots=True)
class Sharing:
    """Who holds what; a value.

    Attributes:
        version: Whose allowance is dealt.
        listens_until: Nothing new is dealt before.
        caps: Requests dealt to each worker.
        spenders: When each worker that spends last reported.
        seen: What each worker that admits has in flight, and the part that it was told.
    """

    version: int = -1
    listens_until: float = 0.0
    caps: Mapping[str, int] = field(default_factory=dict)
    spenders: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, _Seen] = field(default_factory=dict)


def parse_report(text: str) -> Report:
    """A report as a gateway sends it.

    Raises:
        ValueError: It is none; the message names the field.
    """
    fields = Fields.parse(text)
    in_flight = fields.number("inFlight", high=_MOST) if fields.has("inFlight") else None
    gateway = fields.string("gateway", max_length=253)
    worker = fields.string("worker", max_length=300)
    # A worker that holds no value says -1.
    if not fields.has("version") or fields.values["version"] == -1:
        version = -1 if fields.has("version") else None
        return Report(gateway, worker, in_flight, version)
    return Report(
        gateway,
        worker,
        in_flight,
        fields.integer("version"),
        fields.integer("cap"),
        fields.integer("used"),
    )


def begin(now: float) -> Sharing:
    """The state of a leader that has just begun."""
    return Sharing(listens_until=now + LISTEN_SECONDS)


def share(
    sharing: Sharing, report: Report, value: OverflowValue, now: float
) -> tuple[Sharing, Share]:
    """Take a report, and the part that its worker gets: of the bounds, of the allowance, or both.

    The edge has workers that admit and workers that pay; a LiteLLM process does both.
    """
    told = Share(None, None)
    if report.in_flight is not None or report.version is None:
        sharing, told = _admitted(sharing, report, value, now)
    if report.version is None:
        return sharing, told
    sharing, cap = _dealt(sharing, report, value, now)
    allowance = value.allowance
    usd = allowance.usd * cap / allowance.requests if allowance.requests else 0.0
    return sharing, replace(told, requests=cap, usd=usd)


def _admitted(
    sharing: Sharing, report: Report, value: OverflowValue, now: float
) -> tuple[Sharing, Share]:
    """This gateway's part of the bounds; parts of all that report sum to the bounds at most.

    What is in flight stays where it is, room goes to all alike; above the bound everybody's part
    shrinks by the same factor. A part that others still hold is not given twice.
    """
    seen = {w: each for w, each in sharing.seen.items() if now - each.at <= GONE_SECONDS}
    admit = value.admit
    loads: dict[str, float] = {report.gateway: 0.0}
    parts: dict[str, float] = {}
    for worker, each in seen.items():
        if worker != report.worker:
            loads[each.gateway] = loads.get(each.gateway, 0.0) + each.in_flight
        parts[each.gateway] = max(parts.get(each.gateway, 0.0), each.part)
    loads[report.gateway] += report.in_flight or 0.0
    total, mine = math.fsum(loads.values()), loads[report.gateway]
    bound = 0.0 if admit is None else float(admit.in_flight)
    part = mine + (bound - total) / len(loads) if total <= bound else bound * mine / total
    parts.pop(report.gateway, None)
    part = max(0.0, min(part, bound - math.fsum(parts.values())))
    if report.worker in seen or len(seen) < MOST_WORKERS:
        seen[report.worker] = _Seen(report.gateway, report.in_flight or 0.0, now, part)
    sharing = replace(sharing, seen=seen)
    if admit is None:
        return sharing, Share(None, None)
    tokens = None
    if admit.prompt_tokens is not None:
        tokens = math.floor(admit.prompt_tokens * part / bound + 1e-9) if bound else 0
    return sharing, Share(math.floor(part + 1e-9), tokens)


def _dealt(
    sharing: Sharing, report: Report, value: OverflowValue, now: float
) -> tuple[Sharing, int]:
    """The worker's cap on requests: topped up to half of an equal part, as far as there is more.

    Half, so that there is something left for a worker that comes later or needs more.
    """
    if sharing.version != value.version:
        sharing = replace(sharing, version=value.version, caps={})
    spenders = {w: at for w, at in sharing.spenders.items() if now - at <= GONE_SECONDS}
    spenders[report.worker] = now
    caps = dict(sharing.caps)
    cap = caps.get(report.worker, 0)
    used = 0
    if report.version == value.version:
        # A leader that took the version over learns here what its predecessor dealt.
        cap = max(cap, min(report.cap, value.allowance.requests))
        used = min(report.used, cap)
    free = value.allowance.requests - sum(caps.values()) - (cap - caps.get(report.worker, 0))
    if now >= sharing.listens_until and free > 0 and len(caps) < MOST_WORKERS:
        wanted = math.ceil(value.allowance.requests / (2 * len(spenders)))
        cap += min(free, max(0, wanted - (cap - used)))
    caps[report.worker] = cap
    return replace(sharing, caps=caps, spenders=spenders), cap
