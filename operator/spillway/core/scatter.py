"""How restless a load is now: the unit in which its forecasts' errors are counted.

The same error is much on a calm night and nothing on a busy morning. So residuals are kept in units
of the load's present scatter, how far a minute's mean is off that of the minute before, and a band
is as many of these wide as the residuals say: locally weighted conformal prediction (Lei, G'Sell,
Rinaldo, Tibshirani and Wasserman, "Distribution-free predictive inference for regression", JASA
2018, section 5.2). A single jump counts for little: what follows a step is as calm as before it.
"""

from __future__ import annotations

import math
from typing import Final

from spillway.core.blend import SMALL
from spillway.core.forecasters.gain import gain
from spillway.core.values import dataclass

#: Restlessness comes and goes within hours. With the halves that bench/bench_forecast.py names, 600
#: to 3600 s differ by half a percent of the loss.
_HALF_LIFE_SECONDS: Final = 1800.0
#: What no calm makes disappear: a load that stood still for an hour may move again.
_LEAST: Final = 0.03
#: About that of public traces of chat and coding traffic at 10 to 60 requests a second; what is
#: assumed of a load that nobody has watched.
TYPICAL: Final = 0.04
_TYPICAL_UNIT: Final = math.hypot(TYPICAL, _LEAST)
#: The assumption counts as much as five minutes of watching.
_ASSUMED_SECONDS: Final = 300.0
#: Observations are means of a minute: two that are as far apart have no request in common.
_APART_SECONDS: Final = 60.0
#: Two that are further apart tell of the load's course, not of its scatter.
_MOST_APART_SECONDS: Final = 90.0
#: A jump beyond so many times the scatter is one, not scatter.
_JUMP: Final = 3.0
#: Below this a scatter could never grow again by that many times itself.
_LEAST_MEAN: Final = 0.002


@dataclass(frozen=True, slots=True)
class Scatter:
    """Mean distance of a minute from the one before, over the larger of the two.

    Attributes:
        mean: The present one, 0 to 1.
        watched_seconds: How long it was watched, up to twice the half-life.
        recent: Pairs (time, requests per second) of about the last minute, oldest first.
    """

    mean: float = TYPICAL
    watched_seconds: float = 0.0
    recent: tuple[tuple[float, float], ...] = ()

    @property
    def unit(self) -> float:
        """What residuals are counted in; 1 for a load of typical scatter."""
        return math.hypot(self.mean, _LEAST) / _TYPICAL_UNIT

    def observed(self, at: float, value: float) -> Scatter:
        """The scatter after one more observation, later than the last.

        Args:
            at: Its time.
            value: Mean requests per second over about the last minute.
        """
        kept = tuple(pair for pair in self.recent if 0 < at - pair[0] <= _MOST_APART_SECONDS)
        before = next((v for t, v in reversed(kept) if at - t >= _APART_SECONDS), None)
        recent = (*kept, (at, value))
        if before is None:
            return Scatter(self.mean, self.watched_seconds, recent)
        elapsed = at - kept[-1][0]
        off = abs(value - before) / max(value, before, SMALL)
        young = elapsed / (_ASSUMED_SECONDS + self.watched_seconds + elapsed)
        share = max(gain(elapsed, _HALF_LIFE_SECONDS), young)
        mean = self.mean + share * (min(off, _JUMP * self.mean, 1.0) - self.mean)
        watched = min(2 * _HALF_LIFE_SECONDS, self.watched_seconds + elapsed)
        return Scatter(max(_LEAST_MEAN, mean), watched, recent)
