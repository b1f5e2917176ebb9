"""How much each forecaster is worth: weights by pinball loss on the pool's own recent past.

Forecasters that say more than "it stays" take part only while they beat those that say no more
than that, so a steady pool is never extrapolated and a season is used only where there is one.
The weights are a power of the inverse loss, an exponentially weighted average in the logarithm
of the loss (Cesa-Bianchi and Lugosi, "Prediction, Learning, and Games", chapter 2, with the losses
discounted).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.core.forecasters import MEMBERS, PERSISTENT
from spillway.core.forecasters.gain import gain
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Losses are compared over about three hours of forecasts that came due, one a minute. With the
#: halves that bench/bench_forecast.py names, 30 to 240 differ by 1 %.
_LOSS_HALF_LIFE: Final = 180.0
#: A season repeats once a day, so it must have been better over about six hours as well: by minutes
#: it is ahead by chance.
_LONG_HALF_LIFE: Final = 360.0
#: From here on the half-lives decide what counts.
_MOST_CHECKED: Final = 1000
#: By how much the others must be better to take part: over noise either may be ahead by chance.
_MARGIN: Final = 0.95
#: 5 % more loss is half of the weight. With the same halves 8 to 32 differ by 1 %.
_POWER: Final = 16.0
#: Loss of a forecast that was right.
_LEAST_LOSS: Final = 1e-6
#: Below this load (requests per second) a relative error is a ratio of noise.
SMALL: Final = 0.01

_NAMES: Final = tuple(MEMBERS)
_SEASONAL: Final = _NAMES.index("seasonal")
#: Until there is evidence.
_AT_FIRST: Final = tuple(1.0 if name == "level" else 0.0 for name in _NAMES)


@dataclass(frozen=True, slots=True)
class Blend:
    """What the forecasters were wrong by, and the weights that follow.

    Attributes:
        losses: Relative pinball loss of each, recent mean; None before evidence.
        long_losses: The same over hours.
        weights: Share of each in the forecast; they sum up to 1.
        checked: Forecasts that came due, as far as they still count.
    """

    losses: tuple[float | None, ...] = (None,) * len(_NAMES)
    long_losses: tuple[float | None, ...] = (None,) * len(_NAMES)
    weights: tuple[float, ...] = _AT_FIRST
    checked: int = 0

    def point(self, points: Sequence[float | None]) -> float:
        """The forecast that follows from the forecasters' own; the first always has one."""
        total = share = 0.0
        for weight, value in zip(self.weights, points, strict=True):
            if weight > 0 and value is not None:
                total += weight * value
                share += weight
        return total / share if share > 0 else points[0] or 0.0

    def learned(self, points: Sequence[float | None], actual: float) -> Blend:
        """The blend after a forecast came due."""
        found = [None if point is None else pinball(point, actual) for point in points]
        checked = min(self.checked + 1, _MOST_CHECKED)
        losses = _averaged(self.losses, found, _LOSS_HALF_LIFE, checked)
        long_losses = _averaged(self.long_losses, found, _LONG_HALF_LIFE, checked)
        return Blend(losses, long_losses, _weights(losses, long_losses), checked)


def pinball(point: float, actual: float) -> float:
    """Relative pinball loss of a point as the median (Koenker and Bassett 1978)."""
    return abs(actual - point) / max(actual, point, SMALL) / 2


def _averaged(
    means: tuple[float | None, ...], values: list[float | None], half_life: float, count: int
) -> tuple[float | None, ...]:
    """The means with one more value each; of a few values they are plain means."""
    share = max(gain(1.0, half_life), 1 / count)
    return tuple(
        mean if value is None else value if mean is None else mean + share * (value - mean)
        for mean, value in zip(means, values, strict=True)
    )


def _relative(losses: tuple[float | None, ...]) -> list[float | None]:
    """Losses as multiples of the best persistence's; all None before evidence."""
    known = [loss for loss in losses[:PERSISTENT] if loss is not None]
    if not known:
        return [None] * len(losses)
    best = max(min(known), _LEAST_LOSS)
    return [None if loss is None else max(loss, _LEAST_LOSS) / best for loss in losses]


def _weights(
    losses: tuple[float | None, ...], long_losses: tuple[float | None, ...]
) -> tuple[float, ...]:
    relative = _relative(losses)
    lasting = _relative(long_losses)[_SEASONAL]
    if lasting is None or lasting >= _MARGIN:
        relative[_SEASONAL] = None
    raw = [
        0.0 if r is None or (number >= PERSISTENT and r >= _MARGIN) else r**-_POWER
        for number, r in enumerate(relative)
    ]
    total = sum(raw)
    return tuple(weight / total for weight in raw) if total > 0 else _AT_FIRST
