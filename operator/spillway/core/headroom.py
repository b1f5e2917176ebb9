"""How much shorter than the target the mean step must be: a correction fitted to simulations.

`spillway.core.throughput` guesses the headroom from variances. Requests are fewer, lumpier and
better routed than variances say, so the guess is multiplied by

    exp(quadratic in ln b/(1-b), ln O, ln p, ln d, ln N, sigma_p, sigma_o, ln ln 1/(1-a), ln guess)

with coefficients that ``tools/gen_headroom.py`` fits to runs of the engine request by request, and
keeps in `spillway.core.headroom_table`. Beyond what was simulated the nearest that was counts.
"""

from __future__ import annotations

import math
from operator import mul
from typing import Final

from spillway.core import headroom_table as table
from spillway.core.values import dataclass

#: Smallest share of the mean-value line's rate that the correction may come to; below it a request
#: is nothing like what was simulated.
LEAST_SHARE: Final = 0.05
#: A guess of nothing has no logarithm.
_LEAST_GUESS: Final = 1e-3
_MOST_CORRECTION: Final = 3.0
_LARGEST_ATTAINMENT: Final = 0.99
_LEAST_ATTAINMENT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Point:
    """What the headroom depends on, times in units of the target.

    Attributes:
        base: c0, below 1.
        output_tokens: O, mean.
        prefill: w_p, mean time to compute a prompt.
        token: w_d, mean time that an output token adds to a step.
        pooling: N, over how many replicas the router evens out the arrivals.
        prefill_cv: Standard deviation of the time to compute a prompt over its mean.
        output_cv: The same of the output tokens.
        attainment: Share of the requests that must meet the target.
        guess: Headroom by the formula.
    """

    base: float
    output_tokens: float
    prefill: float
    token: float
    pooling: float
    prefill_cv: float
    output_cv: float
    attainment: float
    guess: float

    def features(self) -> list[float]:
        """The nine variables of the quadratic."""
        misses = 1 - min(max(self.attainment, _LEAST_ATTAINMENT), _LARGEST_ATTAINMENT)
        return [
            math.log(self.base / (1 - self.base)),
            math.log(self.output_tokens),
            math.log(max(self.prefill, 1e-6)),
            math.log(max(self.token, 1e-9)),
            math.log(self.pooling),
            math.sqrt(math.log1p(self.prefill_cv**2)),
            math.sqrt(math.log1p(self.output_cv**2)),
            math.log(-math.log(misses)),
            math.log(max(self.guess, _LEAST_GUESS)),
        ]


def correction(point: Point) -> float:
    """Factor on the guessed headroom."""
    return correction_at(point.features())


def correction_at(features: list[float]) -> float:
    """The same of the nine variables themselves."""
    inside = [
        (min(max(value, low), high) - mean) / deviation
        for value, low, high, mean, deviation in zip(
            features, table.LOW, table.HIGH, table.MEAN, table.DEVIATION, strict=True
        )
    ]
    total = table.CONSTANT
    for value, linear, row in zip(inside, table.LINEAR, table.QUADRATIC, strict=True):
        total += value * (linear + sum(map(mul, row, inside)))
    return math.exp(min(max(total, -_MOST_CORRECTION), _MOST_CORRECTION))
