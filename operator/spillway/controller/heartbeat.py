"""Measures how late the event loop is: what probes, gateways and the lease's renewals wait.

A beat is due at fixed moments. A loop that is busy for a second makes one beat late, and those that
fell due meanwhile too: each is counted with its own lateness. So a quantile of the lag is one over
time, and not over the moments at which the loop happened to be free.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

BEAT_SECONDS: Final = 0.1
#: Beats that one long stop may stand for: beyond a minute there is nothing more to learn.
_MOST_MISSED: Final = 600


async def run(
    observe: Callable[[float], None],
    *,
    period_seconds: float = BEAT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Beat until cancelled.

    Args:
        observe: Called with the lateness of each beat, in seconds.
        period_seconds: Time between two beats.
        clock: Monotonic seconds.
    """
    due = clock() + period_seconds
    while True:
        await asyncio.sleep(max(0.0, due - clock()))
        due = note(observe, due, clock(), period_seconds)


def note(observe: Callable[[float], None], due: float, now: float, period_seconds: float) -> float:
    """Tell the lateness of every beat that was due by now; returns when the next one is."""
    for _ in range(_MOST_MISSED):
        if due > now:
            return due
        observe(now - due)
        due += period_seconds
    return now + period_seconds
