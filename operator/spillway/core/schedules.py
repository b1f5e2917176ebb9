"""Declared schedules as floors: what somebody knows is not forecast from what was seen.

A schedule counts from one lead time before it begins, so that its replicas serve when it does,
until it ends. Where several count, the largest does. `requestsPerSecond` is a floor to demand,
and the policy decides how to serve it; `replicas` is a limit of the chain (`core/limits.py`).
"""

from __future__ import annotations

import math
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from cronsim import CronSim, CronSimError

from spillway.core.periods import zone
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.api.schedules import Schedule


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What the schedules that count now ask for at least.

    Attributes:
        replicas: Serving replicas; 0 for none.
        requests_per_second: Arrivals; 0 for none.
        name: The schedule that asks for so many replicas; "" for none.
    """

    replicas: int = 0
    requests_per_second: float = 0.0
    name: str = ""


def scheduled(schedules: Sequence[Schedule], now: float, ahead_seconds: float) -> Scheduled:
    """What the schedules ask for at any time in [now, now + ahead].

    Args:
        schedules: Of the pool's spec.
        now: Seconds since the epoch.
        ahead_seconds: How long a replica takes from being asked for to serving.
    """
    replicas, rate, name = 0, 0.0, ""
    for schedule in schedules:
        if not lasts(schedule, now, now + ahead_seconds):
            continue
        rate = max(rate, schedule.requests_per_second or 0.0)
        if (schedule.replicas or 0) > replicas:
            replicas, name = schedule.replicas or 0, schedule.name
    return Scheduled(replicas, rate, name)


def lasts(schedule: Schedule, begin: float, end: float) -> bool:
    """Whether the schedule is in force at any time in [begin, end], seconds since the epoch."""
    # Starts are at full minutes: later than this moment means later than the minute it lies in.
    minute = math.floor((begin - schedule.duration) / 60) * 60
    start = _first_start(schedule.cron, schedule.time_zone, minute)
    return start is not None and start <= end


#: Several ticks fall into one minute, and pools share schedules.
@lru_cache(maxsize=4096)
def _first_start(cron: str, time_zone: str, after: int) -> float | None:
    """First start later than ``after``; None where none comes.

    Daylight saving time as in Debian's cron (cronsim): a job at a time that is skipped runs right
    after it, one at a time that comes twice runs once, and hourly ones follow the clock.
    """
    moment = datetime.fromtimestamp(after, zone(time_zone))
    try:
        return next(CronSim(cron, moment)).timestamp()
    except (CronSimError, StopIteration):
        return None
