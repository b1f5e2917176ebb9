"""Bounds how fast Spillway writes, so that a thousand pools can't flood the API server."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class TokenBucket:
    """A token bucket on the monotonic clock.

    Args:
        per_second: Tokens that come back each second; must be positive.
        burst: Tokens that the bucket holds; at least 1.
        clock: Monotonic seconds.
    """

    def __init__(
        self, per_second: float, burst: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if per_second <= 0 or burst < 1:
            msg = (
                "a token bucket needs per_second > 0 and burst >= 1, "
                f"got per_second={per_second}, burst={burst}"
            )
            raise ValueError(msg)
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now

    @property
    def full(self) -> bool:
        """Whether it holds all it can: it is then as good as a new one."""
        self._refill()
        return self._tokens >= self._burst

    def try_take(self) -> bool:
        """Take a token if there is one."""
        self._refill()
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    async def take(self) -> float:
        """Take a token, waiting for it in the order of arrival; returns the seconds waited.

        The token is booked before the wait, so the balance may go below zero: whoever comes later
        waits longer, and nobody overtakes.
        """
        self._refill()
        self._tokens -= 1.0
        wait = max(0.0, -self._tokens / self._per_second)
        if wait:
            await asyncio.sleep(wait)
        return wait
