"""Declared schedules: load, or replicas, that somebody knows to come at certain hours.

The API server checks what a pattern can: five fields, each number within its field's range. That a
range runs forwards (``9-17``, not ``17-9``), that a step is above zero, and that the day ever comes
(not 30 February) is only checked here, by the parser that also computes the starts: such an object
is stored and gets the condition InvalidSpec.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, Field

from spillway.api.burst import TimeZone
from spillway.api.model import Model, Rule
from spillway.api.quantities import (
    NotAcceptedError,
    PositiveDuration,
    PositiveRate,
    matching,
    text_schema,
)
from spillway.api.references import Name

#: Longest cron expression: every field may list several ranges.
_CRON_LENGTH: Final = 128
_MINUTE: Final = "[1-5]?[0-9]"
_HOUR: Final = "1?[0-9]|2[0-3]"
_DAY: Final = "[1-9]|[12][0-9]|3[01]"
_MONTH: Final = "[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
_WEEKDAY: Final = "[0-7]|SUN|MON|TUE|WED|THU|FRI|SAT"


def _field(value: str) -> str:
    """Pattern of a field: values, ranges and steps, in a list."""
    item = rf"(\*|({value})(-({value}))?)(/[0-9]{{1,2}})?"
    return rf"{item}(,{item})*"


#: crontab(5): minute, hour, day of the month, month, day of the week (0 and 7 are Sunday).
CRON_PATTERN: Final = (
    "^" + " ".join(_field(f) for f in (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)) + "$"
)
_CRON: Final = (
    'five cron fields (minute hour day month weekday), one space between, such as "0 8 * * 1-5"'
)


def _cron(value: object) -> str:
    text = matching(value, CRON_PATTERN, _CRON)
    if len(text) > _CRON_LENGTH:
        raise NotAcceptedError(_CRON, value)
    try:
        # The moment is of no matter; looking for a start finds days that never come.
        next(CronSim(text, datetime(2000, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration):
        raise NotAcceptedError(_CRON, value) from None
    return text


Cron = Annotated[str, BeforeValidator(_cron), text_schema(CRON_PATTERN, _CRON_LENGTH, _CRON)]


class Schedule(Model):
    """Load, or replicas, to be ready for at certain hours."""

    rules: ClassVar = (
        Rule(
            field="replicas",
            message="or requestsPerSecond must be set, and not both",
            cel="has(self.replicas) != has(self.requestsPerSecond)",
            holds=lambda s: (s.replicas is None) != (s.requests_per_second is None),
        ),
    )

    name: Name
    """Name of the schedule, unique in the pool."""
    cron: Cron
    """When it begins: five cron fields (minute hour day month weekday)."""
    time_zone: TimeZone = "UTC"
    """IANA time zone of the cron fields."""
    duration: PositiveDuration
    """How long it lasts from each begin."""
    replicas: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Serving replicas at least, whatever they cost."""
    requests_per_second: PositiveRate | None = None
    """Arrivals per second that are expected at least; how they are served follows from the policy.
    """
