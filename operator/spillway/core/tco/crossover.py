"""From which volume on own GPUs are cheaper than an API.

At a steady rate D own GPUs cost  max(1, ceil(D / m)) g + F  an hour (m is what a replica serves at
the planned utilisation, F spare replicas, storage, network and labour), the API  c D 3600.  With
a = 3600 c m, what the API charges for a full replica's work, k replicas are not dearer from

    D_k = (k g + F) / (3600 c)

on, which lies within what k replicas serve once k (a - g) >= F. Replicas come whole, so just above
k m another one is paid for and hardly used: there the API may be cheaper again, until k is large.
Hence two volumes: the first at which own GPUs are not dearer, and the one from which they never
are. With burst neither matters: a replica is added when it pays, whatever the others do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from spillway.core.economics import SECONDS_PER_HOUR
from spillway.core.tco.costs import HOURS_PER_MONTH, PLANNED_UTILIZATION
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.core.tco.costs import ApiTerms, OwnTerms
    from spillway.core.tokenmix import TokenMix

#: What prices have done within a year: spot at half, a scarce GPU at twice, an API cut by three
#: quarters.
FACTORS: Final = (0.25, 0.5, 1.0, 1.5, 2.0)
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Crossover:
    """Steady volumes in requests per second; None where own GPUs are dearer at any volume.

    Attributes:
        first: The lowest at which own GPUs are not dearer.
        always: From here on they never are.
    """

    first: float | None
    always: float | None


def crossover(
    own: OwnTerms, api: ApiTerms, mix: TokenMix, utilization: float = PLANNED_UTILIZATION
) -> Crossover:
    """The volumes of the module's formula."""
    g, served = own.usd_per_replica_hour, own.rps_per_replica * utilization
    fixed = own.fixed_per_month / HOURS_PER_MONTH
    per_rps = api.usd_per_attempt(mix) * SECONDS_PER_HOUR
    gain = per_rps * served - g
    if gain <= 0:
        return Crossover(None, None)
    first = max(1, math.ceil(fixed / gain - _ROUNDING))
    # With k replicas just above (k - 1) m:  k g + F <= a (k - 1).
    steady = max(1, math.ceil((fixed + per_rps * served) / gain - _ROUNDING))
    before = ((steady - 1) * g + fixed) / per_rps
    return Crossover(
        first=(first * g + fixed) / per_rps,
        always=min(before, (steady - 1) * served) if steady > 1 else 0.0,
    )


def sensitivity(
    own: OwnTerms,
    api: ApiTerms,
    mix: TokenMix,
    factors: Sequence[float] = FACTORS,
    utilization: float = PLANNED_UTILIZATION,
) -> tuple[tuple[float | None, ...], ...]:
    """First crossover at each pair of price changes: rows GPU price, columns API price.

    Args:
        own: At factor 1.
        api: At factor 1; its waiting does not get dearer with its tokens.
        mix: The mean request.
        factors: On either price.
        utilization: Planned.
    """

    def at(gpu_factor: float, api_factor: float) -> float | None:
        cached = api.cached_input_per_million
        return crossover(
            replace(own, usd_per_replica_hour=own.usd_per_replica_hour * gpu_factor),
            replace(
                api,
                input_per_million=api.input_per_million * api_factor,
                output_per_million=api.output_per_million * api_factor,
                cached_input_per_million=None if cached is None else cached * api_factor,
            ),
            mix,
            utilization,
        ).first

    return tuple(tuple(at(gpu, price) for price in factors) for gpu in factors)
