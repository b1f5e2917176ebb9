"""Several scalers as one, so that a single pass over the trace runs them all side by side.

A step of the fluid engine costs nearly the same for one world as for ten.
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from spillway.sim.scaler import Asked, Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.sim.scaler import Scaler, Told


class Together:
    """Scalers with one period; their configurations in a row, a `spillway.sim.scaler.Scaler`.

    Args:
        scalers: At least one.

    Raises:
        ValueError: None, or their periods differ.
    """

    name = "together"

    def __init__(self, scalers: Sequence[Scaler]) -> None:
        if len({scaler.period_seconds for scaler in scalers}) != 1:
            msg = "scalers that run together must have one period"
            raise ValueError(msg)
        self._scalers = tuple(scalers)
        self.period_seconds = scalers[0].period_seconds
        ends = np.cumsum([scaler.configurations for scaler in scalers]).tolist()
        self._parts = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        self.configurations: int = ends[-1]

    def describe(self, configuration: int) -> str:
        """The parameters of one configuration, for tables."""
        scaler, own = self._owner(configuration)
        return scaler.describe(own)

    def named(self, configuration: int) -> str:
        """The name of the scaler that a configuration is of."""
        return self._owner(configuration)[0].name

    def begin(self, told: Told) -> None:
        """Forget everything; a run begins."""
        for scaler in self._scalers:
            scaler.begin(told)

    def decide(self, seen: Seen) -> Asked:
        """What is wanted from now on; the reason is the first scaler's."""
        if len(self._scalers) == 1:
            return self._scalers[0].decide(seen)
        asked = [
            scaler.decide(_part(seen, part))
            for scaler, part in zip(self._scalers, self._parts, strict=True)
        ]
        return Asked(
            np.concatenate([each.replicas for each in asked]),
            np.concatenate([each.fraction for each in asked]),
            np.concatenate([each.admit_in_flight for each in asked]),
            asked[0].reason,
        )

    def _owner(self, configuration: int) -> tuple[Scaler, int]:
        for scaler, part in zip(self._scalers, self._parts, strict=True):
            if configuration < part.stop:
                return scaler, configuration - part.start
        msg = f"configuration must be below {self.configurations}, got {configuration}"
        raise IndexError(msg)


_values_of = attrgetter(*(each.name for each in fields(Seen)))


def _part(seen: Seen, part: slice) -> Seen:
    """What one scaler's worlds show."""
    values: tuple[Any, ...] = _values_of(seen)
    shown: list[Any] = [v[part] if isinstance(v, np.ndarray) else v for v in values]
    return Seen(*shown)
