"""No scaling at all: as many replicas as a quantile of the load in the past needs.

*Median* is the hybrid sizing of the sources: own GPUs for the median load, the rest to the API.
*Peak* is what a team buys that must not be short: the highest minute seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.rivals.configured import Configured
from spillway.sim.rivals.routing import Router

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.sim.scaler import Asked, Seen, Told
    from spillway.sim.trace import Trace

_PERIOD_SECONDS: Final = 15.0
_STEP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class StaticConfiguration:
    """A size.

    Attributes:
        quantile: Of the past load's minutes, 0 to 1.
        margin: Multiplies it.
    """

    quantile: float
    margin: float = 1.0

    def __str__(self) -> str:
        """For tables."""
        return f"{self.margin:g} times the {self.quantile:.0%} quantile of the load"


class Static(Configured[StaticConfiguration]):
    """K sizes, a `spillway.sim.scaler.Scaler`.

    Args:
        name: For tables.
        past: The load that it is sized for, before the run.
        configurations: The sizes.
    """

    period_seconds = _PERIOD_SECONDS

    def __init__(
        self, name: str, past: Trace, configurations: Sequence[StaticConfiguration]
    ) -> None:
        self.name = name
        super().__init__(configurations)
        self._past = past
        rates = past.rates(_STEP_SECONDS)
        self._loads = [each.margin * np.quantile(rates, each.quantile) for each in self._each]
        self._replicas = np.zeros(0, dtype=np.int64)
        self._router: Router | None = None

    def only(self, configurations: Sequence[int]) -> Static:
        """Some of its configurations, by number."""
        return Static(self.name, self._past, [self._each[k] for k in configurations])

    def begin(self, told: Told) -> None:
        """Forget everything; a run begins."""
        mu = told.requests_per_second
        needed = [math.ceil(load / mu) if mu > 0 else told.max for load in self._loads]
        self._replicas = np.array([min(max(n, told.floor), told.max) for n in needed])
        self._router = Router(told, len(self._each))

    def decide(self, seen: Seen) -> Asked:
        """What is wanted from now on."""
        if self._router is None:
            msg = "begin() must come before decide()"
            raise RuntimeError(msg)
        return self._router.ask(seen, self._replicas)


_QUANTILES: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_MARGINS: Final = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5)


def median(past: Trace) -> Static:
    """Sized for the median."""
    return Static("static-median", past, [StaticConfiguration(0.5)])


def median_grid(past: Trace) -> Static:
    """Quantiles to tune."""
    return Static("static-median", past, [StaticConfiguration(q) for q in _QUANTILES])


def peak(past: Trace) -> Static:
    """Sized for the highest minute."""
    return Static("static-peak", past, [StaticConfiguration(1.0)])


def peak_grid(past: Trace) -> Static:
    """Margins to tune."""
    return Static("static-peak", past, [StaticConfiguration(1.0, m) for m in _MARGINS])
