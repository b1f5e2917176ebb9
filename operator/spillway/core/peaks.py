"""How load scatters within the minute that its means are of, and how many replicas that is worth.

Demand is known, and so forecast, in means of a minute. Replicas even load out only over the seconds
that a request stays with them; what is above capacity for ten seconds leaves for the API, although
the minute as a whole had room. So the marginal rule asks the forecast with that scatter added: a
pool of quick answers needs more replicas for the same minute than one of long answers.

The scatter is read from the means themselves. Two means of T seconds that are d seconds apart share
all but d seconds at either end, so they differ by what came in these, and T/d of their difference,
over the root of two, is how far means of d seconds scatter. What falls into different seconds is
taken to be independent (white noise): a mean of w seconds then has d/w of their variance.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from spillway.core.blend import SMALL
from spillway.core.forecast import LEVELS
from spillway.core.forecasters.gain import gain
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from spillway.core.forecast import Forecast

#: T: what arrivals are means of.
_MEAN_SECONDS: Final = 60.0
#: Means that are closer share nearly everything, and rounding is magnified. Prometheus' rate() is a
#: mean between the first and the last sample in its window, so of T less a scrape interval: at 15 s
#: that makes the scatter a third too large, which cost nothing on the public traces; at 30 s it
#: would be twice what it is, so nothing is learned of means that are further apart than this.
_APART_SECONDS: Final = (5.0, 20.0)
#: Peaks shorter than this are left out: no public trace shows them, and a router that counts
#: requests in flight does not see them either until a request or two have ended.
_SHORTEST_SECONDS: Final = 10.0
_HALF_LIFE_SECONDS: Final = 1800.0
#: Scatter of a mean of one second that is assumed of a load nobody has watched: about that of
#: public traces of chat traffic at tens of requests a second. It counts as much as five minutes.
_TYPICAL: Final = 0.2
_ASSUMED_SECONDS: Final = 300.0
#: A jump beyond so many times the scatter is another load, not scatter.
_JUMP: Final = 3.0
#: Below this it could never grow again by that many times itself.
_LEAST: Final = 0.002
#: Mean absolute value of a normal variable to its standard deviation.
_DEVIATION: Final = math.sqrt(math.pi / 2)
#: A normal distribution as three points: distances in standard deviations, and their weights
#: (Gauss-Hermite; exact for polynomials to the fifth power).
_NORMAL: Final = ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6))


@dataclass(frozen=True, slots=True)
class Peaks:
    """Scatter of a load within its minutes.

    Attributes:
        density: Standard deviation, over the load, that a mean of one second would have.
        watched_seconds: How long it was watched; 0: nobody ever did.
        at: When the last mean was sampled; None before the first.
        value: That mean, requests per second.
    """

    density: float = _TYPICAL
    watched_seconds: float = 0.0
    at: float | None = None
    value: float = 0.0

    def observed(self, at: float, value: float) -> Peaks:
        """The scatter after one more mean of a minute.

        Args:
            at: When it was sampled; the same sample again teaches nothing.
            value: Requests per second.
        """
        if at == self.at:
            return self
        apart = math.inf if self.at is None else at - self.at
        fresh = replace(self, at=at, value=value)
        least, most = _APART_SECONDS
        if not least <= apart <= most:
            return fresh if not 0 < apart < least else self
        off = abs(value - self.value) / max(value, self.value, SMALL)
        off *= _DEVIATION * _MEAN_SECONDS / math.sqrt(2 * apart)
        young = apart / (_ASSUMED_SECONDS + self.watched_seconds + apart)
        share = max(gain(apart, _HALF_LIFE_SECONDS), young)
        density = self.density + share * (min(off, _JUMP * self.density) - self.density)
        watched = min(2 * _HALF_LIFE_SECONDS, self.watched_seconds + apart)
        return replace(fresh, density=max(_LEAST, density), watched_seconds=watched)

    def share(self, stay_seconds: float) -> float:
        """What replicas feel beyond the means of a minute: a standard deviation, over the load.

        0 while nobody has watched the load.

        Args:
            stay_seconds: How long a request stays with a replica: they even load out over about
                twice that, as anything does that forgets exponentially.
        """
        if self.watched_seconds <= 0:
            return 0.0
        felt = 1 / (2 * max(0.0, stay_seconds) + _SHORTEST_SECONDS) - 1 / _MEAN_SECONDS
        return self.density * math.sqrt(max(0.0, felt))


def with_peaks(forecast: Forecast, share: float) -> Forecast:
    """The forecast of what replicas feel, where it is one of means of a minute.

    The mean stays as it is, but for load below zero, which there is none.

    Args:
        forecast: As it was made.
        share: Standard deviation to be added, over the load; see `Peaks.share`.
    """
    if share <= 0:
        return forecast
    atoms = forecast.atoms()
    points = sorted(
        (max(0.0, value * (1 + distance * share)), mass * weight)
        for mass, value in atoms
        for distance, weight in _NORMAL
    )
    values = _means(points, [mass for mass, _ in atoms])
    return replace(forecast, quantiles=tuple(zip(LEVELS, values, strict=True)))


def _means(points: list[tuple[float, float]], masses: list[float]) -> list[float]:
    """Means of what each mass takes, in turn, from the points (value, mass) in rising order."""
    means = []
    rest = iter(points)
    value, left = next(rest)
    for mass in masses:
        wanted, total = mass, 0.0
        while left < wanted:
            total += value * left
            wanted -= left
            value, left = next(rest, (value, math.inf))
        total += value * wanted
        left -= wanted
        means.append(total / mass)
    return means
