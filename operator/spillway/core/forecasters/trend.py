"""Load goes on rising or falling for a while: Holt's method with a damped slope.

Gardner and McKenzie, "Forecasting trends in time series", Management Science 31 (1985), in
continuous time: the slope fades with a time constant, so what it adds stays bounded.
"""

from __future__ import annotations

import math
from typing import Final

from spillway.core.forecasters.gain import gain
from spillway.core.values import dataclass

#: The trend's own level must be quicker than persistence, or the slope chases its own lag.
_LEVEL_HALF_LIFE_SECONDS: Final = 60.0
_SLOPE_HALF_LIFE_SECONDS: Final = 180.0
#: A slope is believed for about ten minutes; after that load tends to stay where it is.
_DAMPING_SECONDS: Final = 600.0
#: After a gap this long the old slope says nothing.
_GAP_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class DampedTrend:
    """A level and a slope.

    Attributes:
        value: Requests per second.
        slope: Requests per second, per second.
        at: Time of the last observation.
    """

    value: float = 0.0
    slope: float = 0.0
    at: float = 0.0

    def begun(self, at: float, value: float) -> DampedTrend:
        """The state at the begin of a load; the slope of what led to it stays."""
        return DampedTrend(value, self.slope, at)

    def observed(self, at: float, value: float) -> DampedTrend:
        """The state after one more observation."""
        elapsed = at - self.at
        if elapsed > _GAP_SECONDS:
            return DampedTrend(value, 0.0, at)
        predicted = self.value + self.slope * elapsed
        level = predicted + gain(elapsed, _LEVEL_HALF_LIFE_SECONDS) * (value - predicted)
        seen = (level - self.value) / elapsed
        slope = self.slope + gain(elapsed, _SLOPE_HALF_LIFE_SECONDS) * (seen - self.slope)
        return DampedTrend(level, slope, at)

    def ahead(self, seconds: float) -> float:
        """Requests per second so many seconds after the last observation."""
        reach = _DAMPING_SECONDS * (1 - math.exp(-seconds / _DAMPING_SECONDS))
        return max(0.0, self.value + self.slope * reach)
