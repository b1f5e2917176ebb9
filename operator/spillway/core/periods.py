"""Budget periods: when the hour, day or month that contains a moment began."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo


class Period(StrEnum):
    """A span of time that a budget bounds."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


PERIODS: Final = tuple(Period)


def period_start(period: Period, time_zone: str, now: float) -> float:
    """When the period that contains ``now`` began, in seconds since the Unix epoch.

    Days and months begin at local midnight, so a day may have 23 or 25 hours. Hours are the full
    hours of UTC, which a change to daylight saving time neither repeats nor cuts short.

    Raises:
        ValueError: The time zone is not known.
    """
    if period is Period.HOUR:
        return now // 3600 * 3600
    return _local_start(period, time_zone, now // 60 * 60)


#: Every pool asks several times a tick. Days of all time zones begin at full minutes; of a minute
#: that is past nobody asks again.
@lru_cache(maxsize=256)
def _local_start(period: Period, time_zone: str, minute: float) -> float:
    """When the day or month that contains the minute began; see `period_start`."""
    local = datetime.fromtimestamp(minute, UTC).astimezone(zone(time_zone))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return (midnight.replace(day=1) if period is Period.MONTH else midnight).timestamp()


def period_end(period: Period, time_zone: str, now: float) -> float:
    """When the period that contains ``now`` ends, in seconds since the Unix epoch.

    Raises:
        ValueError: The time zone is not known.
    """
    if period is Period.HOUR:
        return period_start(period, time_zone, now) + 3600
    begin = datetime.fromtimestamp(period_start(period, time_zone, now), UTC)
    local = begin.astimezone(zone(time_zone))
    if period is Period.DAY:
        return _midnight_after(local)
    return _midnight_after(local.replace(day=monthrange(local.year, local.month)[1]))


def local_time(at: float, time_zone: str) -> str:
    """A moment as somebody of the time zone says it: ``16:40 on 2026-11-21 (Europe/Berlin)``.

    Raises:
        ValueError: The time zone is not known.
    """
    local = datetime.fromtimestamp(at, UTC).astimezone(zone(time_zone))
    return f"{local:%H:%M} on {local:%Y-%m-%d} ({time_zone})"


def zone(name: str) -> ZoneInfo:
    """The IANA time zone of a name.

    Raises:
        ValueError: There is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        msg = f'time zone: must be an IANA name such as "Europe/Berlin", got {name!a}'
        raise ValueError(msg) from error


def _midnight_after(local: datetime) -> float:
    following = (local.replace(tzinfo=None) + timedelta(days=1)).date()
    return datetime.combine(following, time(), local.tzinfo).timestamp()
