"""How many warm replicas a pool keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.core.economics import SECONDS_PER_HOUR
from spillway.core.facts import TargetKind

if TYPE_CHECKING:
    from spillway.core.situation import Situation

#: Increases are counted over a day, so that a daily peak counts once however long ago.
WATCHED_SECONDS: Final = 24 * SECONDS_PER_HOUR
#: Rates from less than an hour of watching would be guesses.
_LEAST_SECONDS: Final = SECONDS_PER_HOUR


def warm_replicas(situation: Situation, desired: int) -> int:
    """Warm replicas to keep beside ``desired`` serving ones, within spec.replicas.max.

    ``auto`` is break-even for one replica: holding it costs g an hour; each increase without it
    sends a replica's work to the API for a lead time, so it is kept while

        increases per hour * lead time * a > g

    Without usable burst nothing carries that work and the latency promise has no price: it is 1.
    """
    kinds = [target.kind for target in situation.facts.targets.values() if target.exists]
    if not kinds or all(kind is TargetKind.OTHER for kind in kinds):
        return 0
    size = situation.spec.warm_pool.size
    wanted = size if isinstance(size, int) else _break_even(situation)
    return max(0, min(wanted, situation.spec.replicas.max - desired))


def _break_even(situation: Situation) -> int:
    g = situation.economics.gpu_per_replica_hour
    a = situation.economics.api_per_replica_hour
    if not situation.burst_usable or g is None or a is None:
        return 1
    memory, now = situation.memory, situation.now
    started_at = now if memory.started_at is None else memory.started_at
    watched = min(WATCHED_SECONDS, max(_LEAST_SECONDS, now - started_at))
    increases = sum(at > now - WATCHED_SECONDS for at in memory.increases)
    cold_hours_per_hour = increases / watched * situation.lead_seconds
    return 1 if cold_hours_per_hour * a > g else 0
