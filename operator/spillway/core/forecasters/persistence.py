"""Load stays as it is: the last minute's mean, or a smoother level."""

from __future__ import annotations

from spillway.core.forecasters.gain import gain
from spillway.core.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class Last:
    """The last observation, carried forward.

    Attributes:
        value: Requests per second.
    """

    value: float = 0.0

    def begun(self, at: float, value: float) -> Last:
        """The state when a load begins with this observation."""
        return self.observed(at, value)

    def observed(self, at: float, value: float) -> Last:  # noqa: ARG002 - as all of them
        """The state after one more observation."""
        return Last(value)

    def ahead(self, seconds: float) -> float:  # noqa: ARG002 - it stays
        """Requests per second so many seconds after the last observation."""
        return self.value


@dataclass(frozen=True, slots=True)
class Level:
    """An exponentially weighted mean of the observations.

    Attributes:
        half_life_seconds: Age at which an observation counts half.
        value: Requests per second.
        at: Time of the last observation.
        since: Time of the first one of the load that lasts.
    """

    half_life_seconds: float
    value: float = 0.0
    at: float = 0.0
    since: float = 0.0

    def begun(self, at: float, value: float) -> Level:
        """The state when a load begins with this observation."""
        return replace(self, value=value, at=at, since=at)

    def observed(self, at: float, value: float) -> Level:
        """The state after one more observation.

        A level can't remember more than it has seen: a young one is the mean since it began.
        """
        elapsed = at - self.at
        share = max(gain(elapsed, self.half_life_seconds), elapsed / (at - self.since))
        level = self.value + share * (value - self.value)
        return Level(self.half_life_seconds, level, at, self.since)

    def ahead(self, seconds: float) -> float:  # noqa: ARG002 - it stays
        """Requests per second so many seconds after the last observation."""
        return self.value
