"""The small pool of forecasters: each a frozen state that learns one observation at a time.

All speak of the same thing, the mean requests per second of the minute that ends so many seconds
ahead; `spillway.core.blend` decides how much each is worth.
"""

from __future__ import annotations

from typing import Final, Protocol, Self

from spillway.core.forecasters.persistence import Last, Level
from spillway.core.forecasters.seasonal import SeasonalRatio
from spillway.core.forecasters.trend import DampedTrend

__all__ = ["MEMBERS", "PERSISTENT", "DampedTrend", "Forecaster", "Last", "Level", "SeasonalRatio"]


class Forecaster(Protocol):
    """A forecaster's state, a value."""

    def begun(self, at: float, value: float) -> Self:
        """The state when a load begins with this observation."""
        ...

    def observed(self, at: float, value: float) -> Self:
        """The state after one more observation, later than the last."""
        ...

    def ahead(self, seconds: float) -> float | None:
        """Requests per second so many seconds after the last observation; None: no opinion yet."""
        ...


#: A quick and a slow level: which of them is better depends on the noise, and on line it shows.
_LEVEL_HALF_LIFE_SECONDS: Final = 120.0
_SLOW_HALF_LIFE_SECONDS: Final = 360.0

#: The pool, before the first observation, by name and in the order in which losses are kept.
MEMBERS: Final[dict[str, Forecaster]] = {
    "last": Last(),
    "level": Level(_LEVEL_HALF_LIFE_SECONDS),
    "slow": Level(_SLOW_HALF_LIFE_SECONDS),
    "trend": DampedTrend(),
    "seasonal": SeasonalRatio(Level(_LEVEL_HALF_LIFE_SECONDS)),
}
#: The first so many say that load stays as it is; the others take part only while they beat these.
PERSISTENT: Final = 3
