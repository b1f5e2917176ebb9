"""The emulator's time: real time, or a multiple of it."""

from __future__ import annotations

import time


class Clock:
    """Simulated seconds since the epoch. With factor 1 they are the wall clock's.

    It runs on the monotonic clock, so a step of the wall clock does not disturb the simulation;
    what is told in wall-clock time follows the wall clock as it is now, as others' logs do.
    """

    def __init__(self, factor: float = 1.0) -> None:
        if factor <= 0:
            msg = f"the time factor must be above 0, got {factor}"
            raise ValueError(msg)
        self.factor = factor
        self._wall_start = time.time()
        self._monotonic_start = time.monotonic()

    def now(self) -> float:
        """Simulated time."""
        elapsed = time.monotonic() - self._monotonic_start
        return self._wall_start + elapsed * self.factor

    def wall(self, simulated: float) -> float:
        """The wall-clock moment at which ``simulated`` is reached, by the wall clock of now."""
        return time.time() + (simulated - self.now()) / self.factor
