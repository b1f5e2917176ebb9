"""At which load or price a decision would be another: how `explain` says "what would change it"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.core.economics import share_used
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from spillway.core.forecast import Forecast

#: Loads and prices from a sixteenth to sixteen times the present ones are looked at: beyond that,
#: the shape of the forecast says nothing.
_REACH: Final = 16.0
#: Halvings of that range's logarithm: 16^2 over 2^10 leaves half a per cent.
_HALVINGS: Final = 10


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where the policy would ask for another number, all else as it is.

    Attributes:
        add_above: Mean requests per second ahead, above which it is one more replica; None where no
            load within reach asks for it.
        remove_below: Below this one less; None likewise, and where there is none to remove.
        api_add_above: US dollars an hour that the API charges for a replica's work, above which it
            is one more; None where no price within reach asks for it, or none is compared.
        api_remove_below: Below this one less; None likewise.
    """

    add_above: float | None
    remove_below: float | None
    api_add_above: float | None = None
    api_remove_below: float | None = None


def by_marginal_rule(
    forecast: Forecast, replicas: int, mu: float, g: float, a: float
) -> Thresholds:
    """Where the marginal rule would ask for ``replicas`` + 1 or ``replicas`` - 1.

    Args:
        forecast: Its shape stays; its level is what is looked for.
        replicas: Serving replicas asked for.
        mu: Requests per second that one replica serves; above 0.
        g: US dollars an hour of a replica.
        a: US dollars an hour that the API charges for mu requests per second.
    """

    def pays(replica: int) -> Callable[[float], bool]:
        # A load of s times the forecast on replicas of mu is the forecast on replicas of mu / s.
        return lambda scale: a * share_used(forecast, mu / scale, replica) > g

    def price(replica: int) -> float | None:
        used = share_used(forecast, mu, replica) if replica > 0 else 0.0
        return g / used if used > 0 and a / _REACH <= g / used <= a * _REACH else None

    found = _thresholds(forecast.mean, pays, replicas)
    return replace(found, api_add_above=price(replicas + 1), api_remove_below=price(replicas))


def by_quantile(forecast: Forecast, replicas: int, mu: float, quantile: float) -> Thresholds:
    """Where sizing for a quantile of the forecast would ask for one replica more or less."""
    load = forecast.quantile(quantile)

    def needed(replica: int) -> Callable[[float], bool]:
        return lambda scale: load * scale > (replica - 1) * mu

    return _thresholds(forecast.mean, needed, replicas)


def _thresholds(
    mean: float, wanted: Callable[[int], Callable[[float], bool]], replicas: int
) -> Thresholds:
    add = _scale(wanted(replicas + 1))
    remove = _scale(wanted(replicas)) if replicas > 0 else None
    return Thresholds(
        None if add is None else mean * add, None if remove is None else mean * remove
    )


def _scale(wanted: Callable[[float], bool]) -> float | None:
    """The least scale of the load at which a replica is wanted; None where it is beyond reach."""
    low, high = 1 / _REACH, _REACH
    if wanted(low) or not wanted(high):
        return None
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        if wanted(middle):
            high = middle
        else:
            low = middle
    return high
