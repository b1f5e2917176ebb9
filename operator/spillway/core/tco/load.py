"""An offered load as planning needs it: how often which rate, and what a request is made of."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from spillway.core.forecast import Forecast
from spillway.core.retries import attempts_per_request
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.core.tokenmix import TokenMix

#: Rates of equal share that a distribution is cut into: a step of half a percent of the time.
LEVELS: Final = 200
#: p95 over p50 of the rate where only the p95 was measured. An assumption: over days, public traces
#: of conversation and mixed traffic have 1.4, of coding 4.6 (means of 5 and 10 minutes).
ASSUMED_P95_OVER_P50: Final = 2.0
_Z95: Final = NormalDist().inv_cdf(0.95)


class NotPlannableError(ValueError):
    """Figures that no plan can be made of; the message names the figure and what is accepted."""


@dataclass(frozen=True, slots=True)
class Load:
    """A distribution of request rates, and the mean request.

    Attributes:
        rates: Attempts per second, each for an equal share of the time, rising: requests, and what
            `with_retries` adds.
        mix: The mean request.
    """

    rates: tuple[float, ...]
    mix: TokenMix

    @property
    def mean(self) -> float:
        """Mean requests per second."""
        return math.fsum(self.rates) / len(self.rates)

    def quantile(self, level: float) -> float:
        """Requests per second that are not exceeded for this share of the time."""
        return self.forecast.quantile(level)

    @property
    def forecast(self) -> Forecast:
        """The distribution as the marginal rule takes it."""
        count = len(self.rates)
        levels = tuple(((i + 0.5) / count, rate) for i, rate in enumerate(self.rates))
        return Forecast(0.0, 0.0, self.mean, levels)

    def scaled(self, factor: float) -> Load:
        """The same shape at ``factor`` times the rate."""
        return Load(tuple(rate * factor for rate in self.rates), self.mix)


def from_p95(p95_rps: float, mix: TokenMix, *, p95_over_p50: float = ASSUMED_P95_OVER_P50) -> Load:
    """A load of which the 95th percentile was measured: lognormal, as request rates about are.

    Args:
        p95_rps: Requests per second at the 95th percentile of time.
        mix: The mean request.
        p95_over_p50: How far the 95th percentile is above the median; at least 1.

    Raises:
        NotPlannableError: A figure is out of range.
    """
    require("requests per second at p95", p95_rps, above=0)
    require("p95 over p50", p95_over_p50, least=1, most=1000)
    sigma = math.log(p95_over_p50) / _Z95
    median = p95_rps / p95_over_p50
    normal = NormalDist()
    rates = (median * math.exp(sigma * normal.inv_cdf((i + 0.5) / LEVELS)) for i in range(LEVELS))
    return Load(tuple(rates), mix)


def from_rates(rates: Sequence[float], mix: TokenMix) -> Load:
    """A load whose rate was recorded at equal intervals.

    Raises:
        NotPlannableError: Nothing arrives in it.
    """
    ordered = sorted(rates)
    if not ordered or ordered[-1] <= 0:
        msg = "the load must have a request in it"
        raise NotPlannableError(msg)
    # Means of equal parts keep the mean, whatever the number of intervals.
    parts = min(LEVELS, len(ordered))
    edges = [round(i * len(ordered) / parts) for i in range(parts + 1)]
    cut = (ordered[a:b] for a, b in pairwise(edges))
    return Load(tuple(math.fsum(part) / len(part) for part in cut), mix)


def with_retries(load: Load, error_share: float, retries: int) -> Load:
    """The load with failed attempts tried again: each is a request like any other.

    Raises:
        NotPlannableError: ``error_share`` is no share below 1.
    """
    require("retry rate", error_share, least=0, below=1)
    return load.scaled(attempts_per_request(error_share, [retries]))


def require(
    name: str,
    value: float,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> None:
    """Refuse a figure that is out of range.

    Raises:
        NotPlannableError: Naming the figure and what is accepted.
    """
    broken = (
        not math.isfinite(value)
        or (above is not None and value <= above)
        or (least is not None and value < least)
        or (below is not None and value >= below)
        or (most is not None and value > most)
    )
    if broken:
        bounds = (("above", above), ("at least", least), ("below", below), ("at most", most))
        words = [f"{word} {bound:g}" for word, bound in bounds if bound is not None]
        msg = f"{name} must be {' and '.join(words) or 'a number'}, got {value:g}"
        raise NotPlannableError(msg)
