"""How far load strays from its forecast: relative residuals, their quantiles, and a band.

The residuals are those of forecasts that were really made, at the lead that really applied, so they
hold what no model knows; they are counted in units of the load's present scatter
(`spillway.core.scatter`). They serve two ends:

- *How likely is which load?* Whoever weighs costs asks this, and the residuals answer as they are:
  three of 240 are a hundredth, however far out they lie.
- *What is not exceeded more often than promised?* Which of the residuals' quantiles stand for 5 %
  and 95 % is not taken for granted here but steered by the misses of each side: adaptive conformal
  inference (Gibbs and Candes, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS
  2021), which keeps the long-run coverage whatever the load does.

A steered level is no probability: a surge that is missed a few times in a row moves it among the
surge's own residuals, and it takes an hour or more to come back. That is the price of a promise
(Gibbs and Candes give coverage, and nothing about the level of any single hour).
"""

from __future__ import annotations

import math
from dataclasses import field
from itertools import pairwise
from statistics import NormalDist
from typing import Final

from spillway.core.blend import SMALL
from spillway.core.forecasters.gain import gain
from spillway.core.scatter import Scatter
from spillway.core.values import dataclass, replace

#: Levels of the quantiles that a forecast carries.
LEVELS: Final = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 0.99)
#: Nominal coverage of the band from the 5 % to the 95 % quantile.
BAND: Final = (0.05, 0.95)
_LOW: Final = LEVELS.index(BAND[0])
_HIGH: Final = LEVELS.index(BAND[1])
#: Four hours at one a minute.
RESIDUALS_KEPT: Final = 240
#: Step of the adaptive levels for a forecast that came due, times the square root of how many did:
#: large while little is known (Angelopoulos, Barber and Bates, "Online conformal prediction with
#: decaying step sizes", ICML 2024), 0.013 once the residuals are full, so that it never stops. With
#: the halves that bench/bench_forecast.py names, 0.005 to 0.02 cover alike.
_STEP: Final = 0.2
#: How far the adaptive levels may go. Below 0 and above 1 the band is wider than all residuals.
_WIDEST: Final = 0.2
_NARROWEST: Final = 0.25
#: Fewer residuals than this are of an hour or so, most of them of the same swing: no reason for a
#: band that is narrower than they say.
_GROWN: Final = 120
#: A level of so much beyond the residuals is as far from the outermost as that is from the median.
_DOUBLING: Final = 0.25
#: From nothing, any load is infinitely more: a residual never counts as more than this.
_LARGEST_RESIDUAL: Final = 3.0
#: Forecasts over which `Band.coverage` is a mean: about half a day.
_COVERAGE_HALF_LIFE: Final = 360.0
#: Until residuals are measured: a normal spread, about twice the error that 'last value' has five
#: minutes ahead on a public trace of chat traffic (6 % on average).
_SEEDS: Final = tuple(NormalDist(0.0, 0.12).inv_cdf((i + 0.5) / 20) for i in range(20))


def _quantile(ordered: list[float], level: float) -> float:
    """Linear between the order statistics; beyond them by the distance from the median."""
    last = len(ordered) - 1
    middle = ordered[last // 2]
    if level < 0:
        return ordered[0] + level / _DOUBLING * (middle - ordered[0])
    if level > 1:
        return ordered[last] + (level - 1) / _DOUBLING * (ordered[last] - middle)
    position = level * last
    low = int(position)
    high = min(low + 1, last)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def _spread(ordered: list[float], low: float, high: float) -> tuple[float, ...]:
    """Residual at each of `LEVELS`, where ``low`` and ``high`` stand for the band's two."""
    below, above = (0.5 - low) / (0.5 - BAND[0]), (high - 0.5) / (BAND[1] - 0.5)
    return tuple(
        [
            _quantile(ordered, 0.5 + (level - 0.5) * (below if level < 0.5 else above))
            for level in LEVELS
        ]
    )


_SEED_SPREAD: Final = _spread(sorted(_SEEDS), *BAND)


@dataclass(frozen=True, slots=True)
class Band:
    """Residuals and what follows from them.

    Attributes:
        residuals: Latest relative residuals in units of the scatter, oldest first.
        seeds: How many of the oldest are no measurements; each measurement replaces one.
        low: Level of the residuals that stands for 5 %.
        high: Level of the residuals that stands for 95 %.
        spread: Residual at each of `LEVELS`, in units of the scatter.
        covering: The same where the levels are steered, so that the band covers what it says.
        coverage: Recent share of observations inside the band; None before evidence.
        scatter: Of the load at present.
    """

    residuals: tuple[float, ...] = _SEEDS
    seeds: int = len(_SEEDS)
    low: float = BAND[0]
    high: float = BAND[1]
    spread: tuple[float, ...] = _SEED_SPREAD
    covering: tuple[float, ...] = _SEED_SPREAD
    coverage: float | None = None
    scatter: Scatter = field(default_factory=Scatter)

    @property
    def measured(self) -> int:
        """Residuals that are measurements."""
        return len(self.residuals) - self.seeds

    def around(self, point: float) -> tuple[float, ...]:
        """Requests per second at each of `LEVELS`, as likely as residuals were."""
        return self._around(point, self.spread)

    def covering_around(self, point: float) -> tuple[float, ...]:
        """The same where the levels are steered: what is promised not to be exceeded."""
        return self._around(point, self.covering)

    def _around(self, point: float, spread: tuple[float, ...]) -> tuple[float, ...]:
        """Load is never negative."""
        unit = self.scatter.unit
        return tuple([max(0.0, point * (1 + unit * residual)) for residual in spread])

    def edges(self, point: float) -> tuple[float, float]:
        """The band of a forecast, requests per second."""
        unit = self.scatter.unit
        low, high = self.covering[_LOW], self.covering[_HIGH]
        return max(0.0, point * (1 + unit * low)), max(0.0, point * (1 + unit * high))

    @property
    def stray(self) -> float:
        """By which share load exceeds its forecast at the upper edge."""
        return self.scatter.unit * self.covering[_HIGH]

    def scattered(self, at: float, value: float) -> Band:
        """The band with the scatter after one more observation; see `Scatter.observed`."""
        return replace(self, scatter=self.scatter.observed(at, value))

    def steered(self, low: float, high: float, actual: float) -> Band:
        """The band after one more observation: a miss widens its side, a hit narrows both a bit.

        Args:
            low: Lower edge that was forecast.
            high: Upper edge that was forecast.
            actual: What came.
        """
        under, over = actual < low, actual > high
        step = _STEP / math.sqrt(max(1, self.measured))
        inside = 0.0 if under or over else 1.0
        before = inside if self.coverage is None else self.coverage
        most = _NARROWEST if self.measured >= _GROWN else BAND[0]
        return replace(
            self,
            low=_clamped(self.low + step * (BAND[0] - under), most),
            high=1 - _clamped(1 - self.high + step * (BAND[0] - over), most),
            coverage=before + gain(1.0, _COVERAGE_HALF_LIFE) * (inside - before),
        )

    def widened(self, residuals: tuple[float, ...]) -> Band:
        """The band with more residuals, and the levels as they are steered now."""
        if not residuals:
            return self
        used = min(self.seeds, len(residuals))
        kept = (*self.residuals[used:], *residuals)[-RESIDUALS_KEPT:]
        ordered = sorted(kept)
        return replace(
            self,
            residuals=kept,
            seeds=self.seeds - used,
            spread=_spread(ordered, *BAND),
            covering=_spread(ordered, self.low, self.high),
        )


def residual(point: float, actual: float) -> float:
    """By which share of the forecast the load was more, at most `_LARGEST_RESIDUAL`."""
    if max(point, actual) < SMALL:
        return 0.0
    return min(_LARGEST_RESIDUAL, max(-1.0, (actual - point) / max(point, SMALL)))


def _clamped(level: float, most: float) -> float:
    return min(most, max(-_WIDEST, level))


def masses() -> tuple[float, ...]:
    """Probability that each level stands for: from midway to its neighbours."""
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(LEVELS)), 1.0]
    return tuple(b - a for a, b in pairwise(edges))
