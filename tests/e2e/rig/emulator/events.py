"""What happened, with wall-clock times, for tests that measure delays."""

from __future__ import annotations

from collections import deque
from typing import Any


class EventLog:
    """The latest events, oldest first."""

    MOST = 5000

    def __init__(self) -> None:
        self._events: deque[dict[str, Any]] = deque(maxlen=self.MOST)

    def add(
        self, wall_time: float, kind: str, pool: str, pod: str | None = None, **more: Any
    ) -> None:
        """Note an event."""
        self._events.append({"time": wall_time, "kind": kind, "pool": pool, "pod": pod, **more})

    def all(self) -> list[dict[str, Any]]:
        """A copy."""
        return list(self._events)
