"""How much work will arrive by the time a new replica could serve.

A small pool of forecasters (`spillway.core.forecasters`) is weighted on line by pinball loss
(`spillway.core.blend`); the spread around their point is that of the forecasts that were really
made, and the band is one that covers what it says (`spillway.core.band`). A forecast is for the
decision window: the minutes between the moment at which a replica asked for now would serve and the
moment at which it could be gone again.

A load that stays far outside of the band is another load, not an error of the forecast: the level
begins anew with it, and what the old level was wrong by does not widen the new one's band. Unless
it happens again within hours: then that is how this load is, and every error counts.
"""

from __future__ import annotations

import math
from dataclasses import field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from spillway.core.band import BAND, LEVELS, Band, masses, residual
from spillway.core.blend import SMALL, Blend
from spillway.core.forecasters import MEMBERS, Forecaster
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BAND",
    "DEFAULT_LEAD_SECONDS",
    "LEVELS",
    "Forecast",
    "ForecastMemory",
    "forecast",
    "restore",
    "update",
]

#: One forecast is filed for checking this often, whatever the tick: observations are means of a
#: minute, so more of them would tell the same again.
FILE_EVERY_SECONDS: Final = 60.0
#: Until so many were checked, as often as this: a rough spread soon is better than a fine one late.
_FILE_FIRST_SECONDS: Final = 10.0
_FIRST: Final = 60
#: Places in the decision window at which filed forecasts are checked by turns, so that the spread
#: is that of the whole window.
_PLACES: Final = 3
#: A forecast whose hour has long passed has no observation to be compared with.
_LATE_SECONDS: Final = 60.0
#: A load is another one when it was outside of the band for this long: the observations are means
#: of a minute, and then the last one holds nothing of the time before.
_BREAK_SECONDS: Final = 60.0
#: And by this share at least: what is less the level follows by itself.
_BREAK_SHARE: Final = 0.25
#: A second break within this time, which is about what the residuals span, is a habit.
_RESTLESS_SECONDS: Final = 4 * 3600.0
#: A level younger than this says nothing of later ones.
_YOUNG_SECONDS: Final = 120.0
DEFAULT_LEAD_SECONDS: Final = 120.0

_LEVEL: Final = tuple(MEMBERS).index("level")
_MASSES: Final = masses()


@lru_cache(maxsize=16)
def _masses_of(levels: tuple[float, ...]) -> tuple[float, ...]:
    """Probability that each level stands for: from midway to its neighbours."""
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(levels)), 1.0]
    return tuple(high - low for low, high in pairwise(edges))


@dataclass(frozen=True, slots=True)
class Forecast:
    """Demand expected over the window in which a replica started now would serve.

    Attributes:
        at: When the forecast was made.
        horizon_seconds: How far ahead its middle lies.
        mean: Expected requests per second.
        quantiles: Pairs (level, requests per second), both rising: how likely which load is.
        covering: The same of which the band's two are kept at their coverage: what is promised.
            Empty where the two are the same.
    """

    at: float
    horizon_seconds: float
    mean: float
    quantiles: tuple[tuple[float, float], ...]
    covering: tuple[tuple[float, float], ...] = ()

    def quantile(self, level: float) -> float:
        """Requests per second that are promised not to be exceeded more often than the level says.

        Linear between the levels carried, flat beyond them.
        """
        pairs = self.covering or self.quantiles
        below = pairs[0]
        if level <= below[0]:
            return below[1]
        for above in pairs[1:]:
            if level <= above[0]:
                share = (level - below[0]) / (above[0] - below[0])
                return below[1] + share * (above[1] - below[1])
            below = above
        return below[1]

    def atoms(self) -> tuple[tuple[float, float], ...]:
        """How likely which load is, as a discrete distribution: pairs (probability, rate)."""
        levels, values = zip(*self.quantiles, strict=True)
        return tuple(zip(_masses_of(levels), values, strict=True))

    def shifted(self, requests_per_second: float) -> Forecast:
        """The same with a constant load added (or taken away, down to zero)."""
        if requests_per_second == 0:
            return self
        return replace(
            self,
            mean=max(0.0, self.mean + requests_per_second),
            quantiles=tuple([(p, max(0.0, v + requests_per_second)) for p, v in self.quantiles]),
            covering=tuple([(p, max(0.0, v + requests_per_second)) for p, v in self.covering]),
        )

    def at_least(self, requests_per_second: float) -> Forecast:
        """The same where so much is known to come: what lies below is lifted to it."""
        lowest = min(pairs[0][1] for pairs in (self.quantiles, self.covering) if pairs)
        if requests_per_second <= lowest:
            return self
        return replace(
            self,
            mean=sum(p * max(v, requests_per_second) for p, v in self.atoms()),
            quantiles=tuple((p, max(v, requests_per_second)) for p, v in self.quantiles),
            covering=tuple((p, max(v, requests_per_second)) for p, v in self.covering),
        )


@dataclass(frozen=True, slots=True)
class Filed:
    """A forecast that waits for its hour: what each forecaster said, the band, and its unit."""

    due: float
    points: tuple[float | None, ...]
    point: float
    low: float
    high: float
    unit: float


@dataclass(frozen=True, slots=True)
class Excursion:
    """A load far outside of the band: an outlier, or the beginning of another load.

    Attributes:
        since: When it left the band.
        above: On which side.
        residuals: Met meanwhile; they count only if the load comes back.
    """

    since: float
    above: bool
    residuals: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ForecastMemory:
    """State of the forecasters.

    Attributes:
        at: Time of the last value; None before the first.
        since: First value of the load that lasts.
        members: State of each forecaster.
        blend: What each of them is worth.
        band: How far load strays from their forecast.
        filed: Forecasts that are not due yet.
        filed_at: When the last one was filed.
        place: Where in the window the last one is checked, 0 to `_PLACES` - 1.
        excursion: Set while the load is far outside of the band.
        broke_at: When a load last gave way to another one.
    """

    at: float | None = None
    since: float = 0.0
    members: tuple[Forecaster, ...] = tuple(MEMBERS.values())
    blend: Blend = field(default_factory=Blend)
    band: Band = field(default_factory=Band)
    filed: tuple[Filed, ...] = ()
    filed_at: float = -math.inf
    place: int = 0
    excursion: Excursion | None = None
    broke_at: float = -math.inf

    @property
    def level(self) -> float:
        """The present load without its noise, requests per second; 0 before the first value."""
        return self.members[_LEVEL].ahead(0.0) or 0.0

    @property
    def weights(self) -> dict[str, float]:
        """Share of each forecaster in the forecast, by name."""
        return dict(zip(MEMBERS, self.blend.weights, strict=True))

    @property
    def coverage(self) -> float | None:
        """Recent share of observations inside the band; None before evidence."""
        return self.band.coverage


def update(
    memory: ForecastMemory,
    at: float,
    value: float,
    *,
    lead_seconds: float = DEFAULT_LEAD_SECONDS,
    hold_seconds: float = 0.0,
) -> ForecastMemory:
    """Learn one observation.

    Args:
        memory: State so far.
        at: Time of the observation. A second one of the same moment is ignored; an earlier one
            says that the clock was set back: the level begins anew.
        value: Mean requests per second over about the last minute.
        lead_seconds: Begin of the decision window, from now: forecasts are made, and so checked,
            for it.
        hold_seconds: Length of the decision window.
    """
    if memory.at is None:
        return _begun(memory, at, value)
    elapsed = at - memory.at
    if elapsed == 0:
        return memory
    if elapsed < 0:
        return _begun(replace(memory, filed_at=-math.inf), at, value)
    memory = _check(_watched(memory, at, value), at, value)
    excursion = memory.excursion
    if excursion is not None and at - excursion.since >= _BREAK_SECONDS:
        return _broken(memory, excursion, at, value)
    members = tuple([member.observed(at, value) for member in memory.members])
    memory = replace(memory, at=at, members=members, band=memory.band.scattered(at, value))
    every = FILE_EVERY_SECONDS if memory.band.measured >= _FIRST else _FILE_FIRST_SECONDS
    if at - memory.since < _YOUNG_SECONDS or at - memory.filed_at < every:
        return memory
    return _file(memory, at, lead_seconds, hold_seconds)


def forecast(
    memory: ForecastMemory, lead_seconds: float, hold_seconds: float, now: float
) -> Forecast | None:
    """Demand over [now + lead, now + lead + hold], or None before the first observation.

    The quantiles are those of the mean of a minute at any time in that window.
    """
    if memory.at is None:
        return None
    horizon = lead_seconds + hold_seconds / 2
    point = _point(memory, now - memory.at + horizon)
    values, covering = memory.band.around(point), memory.band.covering_around(point)
    return Forecast(
        at=now,
        horizon_seconds=horizon,
        mean=sum(p * v for p, v in zip(_MASSES, values, strict=True)),
        quantiles=tuple(zip(LEVELS, values, strict=True)),
        covering=tuple(zip(LEVELS, covering, strict=True)),
    )


def restore(history: Iterable[tuple[float, float]]) -> ForecastMemory:
    """State after a restart, from what the load was: season, weights and spread.

    The level begins with the first observation, as after any time that nobody watched. Each value
    is checked against the forecast made at the one before, so the spread is that of a lead as long
    as the history's step; forecasts at the lead that applies replace it one by one.

    Args:
        history: Pairs (time, mean requests per second), oldest first, about evenly spaced. What is
            no load (negative, not finite) or is not later than the one before is left out.
    """
    memory = ForecastMemory()
    for at, value in history:
        if not (math.isfinite(at) and math.isfinite(value) and value >= 0):
            continue
        if memory.at is not None and at <= memory.at:
            continue
        step = 0.0 if memory.at is None else at - memory.at
        memory = update(memory, at, value, lead_seconds=step)
    return replace(memory, at=None, filed=(), filed_at=-math.inf, excursion=None)


def _begun(memory: ForecastMemory, at: float, value: float) -> ForecastMemory:
    """A level that begins with this value; forecasts of the one before are not waited for."""
    return replace(
        memory,
        at=at,
        since=at,
        members=tuple(member.begun(at, value) for member in memory.members),
        filed=(),
        excursion=None,
    )


def _broken(
    memory: ForecastMemory, excursion: Excursion, at: float, value: float
) -> ForecastMemory:
    """Another load has begun; where that is a habit, what it makes of forecasts counts."""
    begun = replace(_begun(memory, at, value), broke_at=at)
    if at - memory.broke_at > _RESTLESS_SECONDS:
        return begun
    return replace(begun, filed=memory.filed, band=memory.band.widened(excursion.residuals))


def _watched(memory: ForecastMemory, at: float, value: float) -> ForecastMemory:
    """Note whether the load is far outside of the band; back inside, its residuals count."""
    point = _point(memory, 0.0 if memory.at is None else at - memory.at)
    low, high = memory.band.edges(point)
    above = value > max(high, (1 + _BREAK_SHARE) * point, SMALL)
    below = value < min(low, (1 - _BREAK_SHARE) * point)
    excursion = memory.excursion
    if excursion is not None and excursion.above is above and (above or below):
        return memory
    if excursion is not None:
        memory = replace(memory, band=memory.band.widened(excursion.residuals))
    elif not (above or below):
        return memory
    return replace(memory, excursion=Excursion(at, above) if above or below else None)


def _point(memory: ForecastMemory, ahead_seconds: float) -> float:
    return memory.blend.point(_points(memory, ahead_seconds))


def _points(memory: ForecastMemory, ahead_seconds: float) -> tuple[float | None, ...]:
    return tuple([member.ahead(ahead_seconds) for member in memory.members])


def _file(
    memory: ForecastMemory, at: float, lead_seconds: float, hold_seconds: float
) -> ForecastMemory:
    """Put a forecast aside for checking, at the next place of the window."""
    place = (memory.place + 1) % _PLACES
    ahead = lead_seconds + hold_seconds * (place + 0.5) / _PLACES
    points = _points(memory, ahead)
    point = memory.blend.point(points)
    low, high = memory.band.edges(point)
    filed = Filed(at + ahead, points, point, low, high, memory.band.scatter.unit)
    return replace(memory, filed=(*memory.filed, filed), filed_at=at, place=place)


def _check(memory: ForecastMemory, at: float, value: float) -> ForecastMemory:
    """Compare the forecasts that are due with what came."""
    due = [f for f in memory.filed if f.due <= at]
    if not due:
        return memory
    met: list[float] = []
    blend, band = memory.blend, memory.band
    for f in due:
        if at - f.due > _LATE_SECONDS:
            continue
        blend = blend.learned(f.points, value)
        band = band.steered(f.low, f.high, value)
        met.append(residual(f.point, value) / f.unit)
    excursion = memory.excursion
    if excursion is not None:
        excursion = replace(excursion, residuals=(*excursion.residuals, *met))
    else:
        band = band.widened(tuple(met))
    filed = tuple(f for f in memory.filed if f.due > at)
    return replace(memory, filed=filed, blend=blend, band=band, excursion=excursion)
