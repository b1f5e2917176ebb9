"""Runaways: a loop, not a user, seems to make the load.

Two signs, both against the pool's own past and both above an absolute ceiling. *Surge*: tokens a
minute (or the spend on the API) far beyond what load has been and is known to stray by. *Context
loop*: tokens grow and requests do not, as when an agent feeds its own context back to itself. The
past is a half hour's mean that does not learn from what is suspected, nor soon from an outage,
after which load comes back all at once.

While suspected, burst is frozen or stopped and scale-up is capped; the suspicion goes by itself
after a while of usual load, or by annotation, which also makes the present load the usual one.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from spillway.api.guard import GuardMode
from spillway.core.forecasters.gain import gain
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from spillway.api.guard import Guard

#: The past follows ramps of a day: over it, load of three public traces was 1.8 times as much at
#: most for two minutes (bench/bench_guard.py).
_HALF_LIFE_SECONDS: Final = 1800.0
#: Less than this share of the past is an outage until it has lasted for half a day.
_OUTAGE_SHARE: Final = 0.25
_OUTAGE_HALF_LIFE_SECONDS: Final = 43_200.0
#: How many times the past is far beyond it.
SURGE: Final = 2.5
#: Load that is known to stray further is given more room, up to this: beyond it even the most
#: restless load is suspected.
_MOST_ROOM: Final = 3.5
#: Tokens by which a context loop gives itself away, and growth of requests that explains none.
CONTEXT_SURGE: Final = 2.0
_SAME_REQUESTS: Final = 1.25
#: Where the spend is above its ceiling, less of a surge will do.
_SPEND_SURGE: Final = 1.5
#: A loop that makes load a surge sends more than half of it; in a crowd nobody sends so much.
_ONE_AMONG_MANY: Final = 0.3
#: Load is as usual again below this.
_USUAL: Final = 1.5
#: How long a sign must last: the longest of a minute's outliers is two windows of a minute.
LASTING_SECONDS: Final = 120.0
#: Before a past of this length nothing is suspected: a service that begins grows without bound.
_YOUNG_SECONDS: Final = 3600.0
#: No observation speaks of more time than this.
_MOST_ELAPSED: Final = 60.0
#: Replicas while suspected, as a multiple of those before: room for the users beside the loop.
ROOM: Final = 1.5


class Sign(StrEnum):
    """What a suspicion rests on."""

    SURGE = "surge"
    SPEND = "spend"
    CONTEXT_LOOP = "context loop"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the guard looks at.

    Attributes:
        tokens_per_minute: Prompt and output tokens that arrive.
        requests_per_second: Arrivals.
        usd_per_hour: Spend on the API; None if not known.
        replicas: Serving replicas asked for.
        stray: By which share load exceeds its forecast at the 95 % quantile.
        talker: Who sends most, where a gateway says so; "" if not known.
        talker_share: Of all tokens; None if not known.
    """

    tokens_per_minute: float
    requests_per_second: float
    usd_per_hour: float | None = None
    replicas: int = 0
    stray: float = 0.0
    talker: str = ""
    talker_share: float | None = None


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Absolute bounds; None where there is none.

    Attributes:
        tokens_per_minute: Below it nothing is suspected.
        usd_per_hour: Spend on the API above which a smaller surge is suspected.
    """

    tokens_per_minute: float
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A runaway that is suspected.

    Attributes:
        since: When the sign began.
        sign: What it rests on.
        evidence: For a person; does not change while it lasts.
        replicas: Serving replicas before.
        usd_per_hour: Spend on the API before.
        usual_since: When load came back to what is usual; None while it is not.
    """

    since: float
    sign: Sign
    evidence: str
    replicas: int
    usd_per_hour: float
    usual_since: float | None = None

    @property
    def most_replicas(self) -> int:
        """Serving replicas that may be asked for while suspected."""
        return int(ROOM * self.replicas) + 1

    def most_leaving_per_second(
        self, mode: GuardMode, bearable_usd_per_hour: float, usd_per_request: float | None
    ) -> float:
        """Requests a second that may leave while suspected, in dollars: the loop's are dear.

        Args:
            mode: Of the pool's guard.
            bearable_usd_per_hour: Spend that is bearable for as long as it lasts, even if there
                was none before.
            usd_per_request: What one costs now; None where it is not known.
        """
        if mode is GuardMode.STOP or usd_per_request is None:
            return 0.0
        most = max(self.usd_per_hour, bearable_usd_per_hour) / 3600
        return most / usd_per_request if usd_per_request > 0 else math.inf


@dataclass(frozen=True, slots=True)
class GuardMemory:
    """The pool's past, and what is suspected.

    Attributes:
        at: Last observation; None before the first.
        begun_at: First observation.
        tokens_per_minute: Past mean.
        requests_per_second: Past mean.
        replicas: At the last observation without a sign.
        usd_per_hour: Likewise.
        sign: What is seen now, if anything.
        sign_since: Since when, without a break.
        suspicion: Set while a runaway is suspected.
    """

    at: float | None = None
    begun_at: float = 0.0
    tokens_per_minute: float = 0.0
    requests_per_second: float = 0.0
    replicas: int = 0
    usd_per_hour: float = 0.0
    sign: Sign | None = None
    sign_since: float = 0.0
    suspicion: Suspicion | None = None

    @property
    def mature(self) -> bool:
        """Whether the past is long enough to hold load against it."""
        return self.at is not None and self.at - self.begun_at >= _YOUNG_SECONDS


def observe(
    memory: GuardMemory,
    guard: Guard,
    traffic: Traffic,
    ceiling: Ceiling,
    now: float,
    *,
    released_at: float | None = None,
) -> GuardMemory:
    """The memory with one observation.

    Args:
        memory: State so far.
        guard: Of the pool's spec.
        traffic: What was seen. Without data there is no call: what is suspected stays.
        ceiling: Absolute bounds.
        now: Seconds since the epoch.
        released_at: Time in the release annotation: suspicions from before it are dropped.
    """
    if guard.mode is GuardMode.OFF:
        return GuardMemory()
    if memory.at is None:
        return _begun(replace(memory, begun_at=now), traffic, now)
    if _dropped(memory, released_at, now):
        return _begun(replace(memory, suspicion=None), traffic, now)
    if memory.suspicion is not None:
        return _released(replace(memory, at=now), memory.suspicion, guard, traffic, ceiling, now)
    sign = _sign(memory, traffic, ceiling, now)
    if sign is None:
        return _learned(memory, traffic, now)
    since = memory.sign_since if memory.sign is not None else now
    memory = replace(memory, at=now, sign=sign, sign_since=min(since, now))
    lasting = now - memory.sign_since >= LASTING_SECONDS
    return replace(memory, suspicion=_suspected(memory, sign, traffic)) if lasting else memory


def remembered(
    *,
    tokens_per_minute: float,
    requests_per_second: float,
    suspicion: Suspicion | None,
    now: float,
) -> GuardMemory:
    """Memory after a restart; a past that was long enough before is so now."""
    if tokens_per_minute <= 0:
        return GuardMemory(suspicion=suspicion)
    return GuardMemory(
        at=now,
        begun_at=now - _YOUNG_SECONDS,
        tokens_per_minute=tokens_per_minute,
        requests_per_second=requests_per_second,
        suspicion=suspicion,
    )


def _dropped(memory: GuardMemory, released_at: float | None, now: float) -> bool:
    """Whether somebody has released what is suspected now."""
    suspicion = memory.suspicion
    return (
        suspicion is not None and released_at is not None and suspicion.since <= released_at <= now
    )


def _sign(memory: GuardMemory, traffic: Traffic, ceiling: Ceiling, now: float) -> Sign | None:
    past = memory.tokens_per_minute
    if now - memory.begun_at < _YOUNG_SECONDS or past <= 0:
        return None
    if traffic.tokens_per_minute <= ceiling.tokens_per_minute or _is_crowd(traffic):
        return None
    times = traffic.tokens_per_minute / past
    if times >= max(SURGE, min(1 + traffic.stray, _MOST_ROOM)):
        return Sign.SURGE
    same = traffic.requests_per_second <= _SAME_REQUESTS * memory.requests_per_second
    if same and times >= CONTEXT_SURGE:
        return Sign.CONTEXT_LOOP
    spend, most = traffic.usd_per_hour, ceiling.usd_per_hour
    if spend is not None and most is not None and spend > most and times >= _SPEND_SURGE:
        return Sign.SPEND
    return None


def _is_crowd(traffic: Traffic) -> bool:
    """Whether the load is known to come from many, as that of a launch does."""
    return traffic.talker_share is not None and traffic.talker_share < _ONE_AMONG_MANY


def _suspected(memory: GuardMemory, sign: Sign, traffic: Traffic) -> Suspicion:
    tokens = traffic.tokens_per_minute / memory.tokens_per_minute
    requests = traffic.requests_per_second / max(memory.requests_per_second, 1e-9)
    evidence = (
        f"{sign}: {traffic.tokens_per_minute:.3g} tokens a minute, {tokens:.1f} times the usual, "
        f"with {requests:.1f} times the usual requests"
    )
    if traffic.usd_per_hour:
        evidence += f", ${traffic.usd_per_hour:.2f}/h at the API"
    if traffic.talker:
        evidence += f"; most of it from {traffic.talker}"
    return Suspicion(
        since=memory.sign_since,
        sign=sign,
        evidence=evidence,
        replicas=memory.replicas,
        usd_per_hour=memory.usd_per_hour,
    )


def _released(
    memory: GuardMemory,
    suspicion: Suspicion,
    guard: Guard,
    traffic: Traffic,
    ceiling: Ceiling,
    now: float,
) -> GuardMemory:
    """The memory while suspected: released once load has been usual for long enough."""
    usual = traffic.tokens_per_minute <= max(
        _USUAL * memory.tokens_per_minute, ceiling.tokens_per_minute
    )
    since = suspicion.usual_since
    since = (now if since is None or since > now else since) if usual else None
    if since is not None and now - since >= guard.release_after:
        return _learned(replace(memory, suspicion=None), traffic, now)
    return replace(memory, suspicion=replace(suspicion, usual_since=since))


def _begun(memory: GuardMemory, traffic: Traffic, now: float) -> GuardMemory:
    """The present load as the usual one."""
    return replace(
        memory,
        at=now,
        tokens_per_minute=traffic.tokens_per_minute,
        requests_per_second=traffic.requests_per_second,
        replicas=traffic.replicas,
        usd_per_hour=traffic.usd_per_hour or 0.0,
        sign=None,
    )


def _learned(memory: GuardMemory, traffic: Traffic, now: float) -> GuardMemory:
    elapsed = min(_MOST_ELAPSED, max(0.0, now - (now if memory.at is None else memory.at)))
    outage = traffic.tokens_per_minute < _OUTAGE_SHARE * memory.tokens_per_minute
    share = gain(elapsed, _OUTAGE_HALF_LIFE_SECONDS if outage else _HALF_LIFE_SECONDS)
    tokens, requests = memory.tokens_per_minute, memory.requests_per_second
    return replace(
        memory,
        at=now,
        tokens_per_minute=tokens + share * (traffic.tokens_per_minute - tokens),
        requests_per_second=requests + share * (traffic.requests_per_second - requests),
        replicas=traffic.replicas,
        usd_per_hour=traffic.usd_per_hour or 0.0,
        sign=None,
    )
