"""Lets others have the event loop while one goes through a thousand pools.

Work is counted by time and not by pools: a pool of two replicas takes a tenth of what one of forty
does, and what probes, gateways and the lease's renewals wait for is time.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: A tenth of the lag that 99 of 100 callers may see at most (0.1 s): others have slices too.
SLICE_SECONDS: Final = 0.01


class Pace:
    """One walk over many; make a new one for each.

    Args:
        slice_seconds: How long it may go on without a pause.
        clock: Seconds that grow.
    """

    def __init__(
        self,
        slice_seconds: float = SLICE_SECONDS,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._slice_seconds = slice_seconds
        self._clock = clock
        self._began = clock()

    async def pause(self) -> None:
        """Give the loop away where the slice is used up; call it between two pools."""
        if self._clock() - self._began >= self._slice_seconds:
            await asyncio.sleep(0)
            self._began = self._clock()
