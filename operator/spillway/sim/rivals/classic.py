"""The classic threshold policy: double when busy, remove one when idle.

Double when GPU utilisation has been above 60 % for 60 s; remove one when it has been below 30 % for
ten minutes; never fewer than two. After each change the time counts anew.

Nothing is said about replicas that are still starting. To double every minute of a start-up of
several would be a caricature, so high utilisation begins to count when they are there, as in
Spillway's own policy Utilization.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.rivals.configured import Configured
from spillway.sim.rivals.routing import Router

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spillway.sim.scaler import Asked, Seen, Told

    Floats = NDArray[np.float64]

_PERIOD_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class ClassicConfiguration:
    """Thresholds.

    Attributes:
        high: Utilisation above which it doubles, 0 to 1.
        low: Utilisation below which it removes one, 0 to 1.
        high_seconds: How long it must be high.
        low_seconds: How long it must be low.
        floor: Fewest replicas.
    """

    high: float = 0.6
    low: float = 0.3
    high_seconds: float = 60.0
    low_seconds: float = 600.0
    floor: int = 2

    def __str__(self) -> str:
        """For tables."""
        return (
            f"double above {self.high:.0%} for {self.high_seconds:g} s, "
            f"remove one below {self.low:.0%} for {self.low_seconds:g} s"
        )


class Classic(Configured[ClassicConfiguration]):
    """K of them, a `spillway.sim.scaler.Scaler`."""

    name = "classic"
    period_seconds = _PERIOD_SECONDS

    def __init__(self, configurations: Sequence[ClassicConfiguration]) -> None:
        super().__init__(configurations)
        self._high = np.array([each.high for each in self._each])
        self._low = np.array([each.low for each in self._each])
        self._high_seconds = np.array([each.high_seconds for each in self._each])
        self._low_seconds = np.array([each.low_seconds for each in self._each])
        self._floor = self._max = np.zeros(0)
        self._high_since = self._low_since = np.zeros(0)
        self._router: Router | None = None

    def only(self, configurations: Sequence[int]) -> Classic:
        """Some of its configurations, by number."""
        return Classic([self._each[k] for k in configurations])

    def begin(self, told: Told) -> None:
        """Forget everything; a run begins."""
        self._max = np.full(len(self._each), float(told.max))
        floors = np.array([float(max(told.floor, each.floor)) for each in self._each])
        self._floor = np.minimum(floors, self._max)
        self._high_since = np.full(len(self._each), np.nan)
        self._low_since = np.full(len(self._each), np.nan)
        self._router = Router(told, len(self._each))

    def decide(self, seen: Seen) -> Asked:
        """What is wanted from now on."""
        if self._router is None:
            msg = "begin() must come before decide()"
            raise RuntimeError(msg)
        # NaN (nobody reports) compares as neither high nor low.
        high, low = seen.gpu_utilization > self._high, seen.gpu_utilization < self._low
        self._high_since = _since(self._high_since, high & (seen.unready == 0), seen.now)
        self._low_since = _since(self._low_since, low, seen.now)
        double = seen.now - self._high_since >= self._high_seconds
        fewer = seen.now - self._low_since >= self._low_seconds
        current = seen.requested.astype(np.float64)
        wanted = np.where(double, 2 * current, np.where(fewer, current - 1, current))
        self._high_since = np.where(double, np.nan, self._high_since)
        self._low_since = np.where(fewer, np.nan, self._low_since)
        replicas = np.minimum(np.maximum(wanted, self._floor), self._max)
        return self._router.ask(seen, replicas.astype(np.int64))


def _since(before: Floats, holds: NDArray[np.bool_], now: float) -> Floats:
    """When a state began that holds now; NaN where it does not."""
    return np.where(holds, np.where(np.isnan(before), now, before), np.nan)


_HIGHS: Final = (0.6, 0.7, 0.8, 0.9, 0.95)
_LOWS: Final = (0.3, 0.5, 0.6, 0.7, 0.8)
_HIGH_SECONDS: Final = (60.0, 180.0)
_LOW_SECONDS: Final = (60.0, 300.0, 600.0)


def classic() -> Classic:
    """As published."""
    return Classic([ClassicConfiguration()])


def classic_grid() -> Classic:
    """Thresholds and times to tune."""
    return Classic(
        [
            ClassicConfiguration(high, low, high_seconds, low_seconds)
            for high, low, high_seconds, low_seconds in product(
                _HIGHS, _LOWS, _HIGH_SECONDS, _LOW_SECONDS
            )
            if low < high
        ]
    )
