"""Load changes as it changed on the days before at this time: one ratio of a daily profile.

The forecast is the present level times profile(then) / profile(now), so that a day which is busier
as a whole is forecast busier, and only the shape of the day is taken from the past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.core.forecasters.persistence import Level

_DAY_SECONDS: Final = 86_400.0
#: Finer bins hold the noise of one day, coarser ones blur its ramps.
BIN_SECONDS: Final = 900.0
BINS: Final = int(_DAY_SECONDS / BIN_SECONDS)
#: Half of the profile is yesterday's: workdays follow workdays, and a change is met within days.
_NEW_DAY: Final = 0.5
#: Bins of today that wait before they enter the profile. Between now and the horizon all of it must
#: be of the same days, or today's level would look like a step in the day's shape.
_WAITING: Final = 8
#: A ratio of two small numbers is noise: more than a doubling or halving is not believed.
_MOST_RATIO: Final = 2.0


@dataclass(frozen=True, slots=True)
class SeasonalRatio:
    """A daily profile and the level that it is put on.

    Attributes:
        level: Persistence's level.
        profile: Requests per second by bin of the UTC day; None for bins that were not seen.
        waiting: Latest finished bins (number since the epoch, mean), oldest first.
        bin: Number of the bin under way.
        total: Sum of the observations in it.
        count: How many there were.
    """

    level: Level
    profile: tuple[float | None, ...] = (None,) * BINS
    waiting: tuple[tuple[int, float], ...] = ()
    bin: int = -1
    total: float = 0.0
    count: int = 0

    def begun(self, at: float, value: float) -> SeasonalRatio:
        """The state at the begin of a load; what is known of the days stays."""
        return self._counted(self.level.begun(at, value), at, value)

    def observed(self, at: float, value: float) -> SeasonalRatio:
        """The state after one more observation."""
        return self._counted(self.level.observed(at, value), at, value)

    def ahead(self, seconds: float) -> float | None:
        """Requests per second so many seconds after the last observation.

        None while no earlier day was seen at this time and at that.
        """
        now, then = self._at(self.level.at), self._at(self.level.at + seconds)
        if now is None or then is None or now <= 0:
            return None
        ratio = min(_MOST_RATIO, max(1 / _MOST_RATIO, then / now))
        return self.level.value * ratio

    def _at(self, at: float) -> float | None:
        """The profile at a time, linear between the middles of the bins."""
        position = at / BIN_SECONDS - 0.5
        low = int(position // 1)
        before, after = self.profile[low % BINS], self.profile[(low + 1) % BINS]
        if before is None or after is None:
            return None
        return before + (position - low) * (after - before)

    def _counted(self, level: Level, at: float, value: float) -> SeasonalRatio:
        number = int(at // BIN_SECONDS)
        if number == self.bin:
            return SeasonalRatio(
                level, self.profile, self.waiting, number, self.total + value, self.count + 1
            )
        profile, waiting = self.profile, self.waiting
        if self.count:
            waiting = (*waiting, (self.bin, self.total / self.count))
        kept = [item for item in waiting if number - _WAITING <= item[0] < number]
        due = [item for item in waiting if item[0] < number - _WAITING]
        if due:
            days = list(profile)
            for when, mean in due:
                old = days[when % BINS]
                days[when % BINS] = mean if old is None else old + _NEW_DAY * (mean - old)
            profile = tuple(days)
        return SeasonalRatio(level, profile, tuple(kept), number, value, 1)
