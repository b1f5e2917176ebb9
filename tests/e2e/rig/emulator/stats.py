"""What a client saw: arrivals and latency attainment, over a window and overall."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.rig.emulator.settings import LatencyTargets


class RateWindow:
    """Events per second over the last ``seconds``."""

    def __init__(self, seconds: float, start: float) -> None:
        self._seconds = seconds
        self._start = start
        self._times: deque[float] = deque()

    def add(self, time: float) -> None:
        """Count one event."""
        self._times.append(time)
        self._trim(time)

    def per_second(self, now: float) -> float:
        """Mean rate over the window, or since the start if that is shorter."""
        self._trim(now)
        span = min(self._seconds, now - self._start)
        return len(self._times) / span if span > 0 else 0.0

    def _trim(self, now: float) -> None:
        while self._times and self._times[0] <= now - self._seconds:
            self._times.popleft()


@dataclass
class _Met:
    """Requests that ended, and how many met which target."""

    requests: int = 0
    ttft: int = 0
    tpot: int = 0
    both: int = 0

    def add(self, sign: int, *, ttft: bool, tpot: bool) -> None:
        self.requests += sign
        self.ttft += sign * ttft
        self.tpot += sign * tpot
        self.both += sign * (ttft and tpot)

    def shares(self) -> dict[str, float | int | None]:
        """Shares of all requests; None while there are none."""
        total = self.requests
        return {
            "requests": total,
            "ttft": self.ttft / total if total else None,
            "tpot": self.tpot / total if total else None,
            "both": self.both / total if total else None,
        }


class Attainment:
    """Share of requests within the latency targets; a failed request met none."""

    WINDOW_SECONDS = 60.0

    def __init__(self, targets: LatencyTargets) -> None:
        self._targets = targets
        self._overall = _Met()
        self._recent = _Met()
        self._window: deque[tuple[float, bool, bool]] = deque()

    def record(self, now: float, ttft: float | None, tpot: float | None) -> None:
        """Count a request that ended; a one-token answer (no TPOT) meets the TPOT target."""
        met_ttft = ttft is not None and ttft <= self._targets.ttft_seconds
        met_tpot = ttft is not None and (tpot is None or tpot <= self._targets.tpot_seconds)
        self._window.append((now, met_ttft, met_tpot))
        self._overall.add(1, ttft=met_ttft, tpot=met_tpot)
        self._recent.add(1, ttft=met_ttft, tpot=met_tpot)
        self._trim(now)

    def summary(self, now: float) -> dict[str, dict[str, float | int | None]]:
        """Shares over the last minute and overall."""
        self._trim(now)
        return {"last_minute": self._recent.shares(), "overall": self._overall.shares()}

    def _trim(self, now: float) -> None:
        while self._window and self._window[0][0] <= now - self.WINDOW_SECONDS:
            _, ttft, tpot = self._window.popleft()
            self._recent.add(-1, ttft=ttft, tpot=tpot)
