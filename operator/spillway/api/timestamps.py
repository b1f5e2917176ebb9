"""RFC 3339 times as Kubernetes writes them, and seconds since the Unix epoch inside.

The one place that knows how times are written: status, annotations, Leases, events, ledgers.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Final, Literal

_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


_TIMESPECS: Final = {0: "seconds", 3: "milliseconds", 6: "microseconds"}


def format_time(seconds: float, digits: Literal[0, 3, 6] = 0) -> str:
    """``2026-11-21T08:00:00Z``; what is finer than the digits is cut off.

    Args:
        seconds: Since the Unix epoch.
        digits: Of the parts of a second: 0 as in metav1.Time, 6 as in metav1.MicroTime.

    Raises:
        ValueError: Not a time between the years 1 and 9999.
    """
    try:
        moment = datetime.fromtimestamp(seconds if digits else math.floor(seconds), UTC)
    except (OverflowError, OSError, ValueError) as error:
        msg = f"must be seconds since 1970 within the years 1 to 9999, got {seconds!r}"
        raise ValueError(msg) from error
    return moment.replace(tzinfo=None).isoformat(timespec=_TIMESPECS[digits]) + "Z"


def parse_time(text: str) -> float:
    """Seconds since the Unix epoch of an RFC 3339 time, with any offset and fraction.

    Raises:
        ValueError: The text is not such a time; the message says what is accepted.
    """
    msg = f'must be an RFC 3339 time such as "2026-11-21T08:00:00Z", got {text!r}'
    if _RFC3339.fullmatch(text) is None:
        raise ValueError(msg)
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(msg) from error
