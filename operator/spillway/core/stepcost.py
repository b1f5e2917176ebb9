"""What an engine's step costs, learned from what the engine counts.

A replica that never pauses spends each second on its steps, their sequences, the context that these
read and the prompts that are computed. With s steps, g output tokens and p computed prompt tokens a
second, and X tokens of context for a sequence on average,

    1 = c0 s + c1 g + c2 g X + c3 p

(g is the batch times the steps, so g X is the context that the steps read). Prompt tokens count for
more the longer the prompt, by the part of attention that is quadratic: p is in tokens of a short
prompt. Each sample of a replica is one such equation, and least squares finds the four costs.

Samples of one load tell little of each cost, and nothing of c1 and c2 apart. So the fit is of
factors on a profile: first one factor for all four, the engine's speed, and then one for each, with
a ridge that draws them to it. Where samples say nothing the profile's proportions stay.

*Drift.* Old samples fade with a half-life of hours. Where the present ones are off to one side (an
engine was upgraded, a GPU throttles, the traffic is of a kind that was never seen) the half-life
shrinks with the square of it, down to a minute. What is drawn from the old ones meanwhile is their
proportions: they are scaled to the present speed, as far as it is off for certain.

Everything here is sums, so a replica that is learned from for a year takes as much room as a new
one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Four: TypeAlias = tuple[float, float, float, float]
Matrix: TypeAlias = tuple[Four, Four, Four, Four]

#: A working day: long enough to have seen low load and high.
HALF_LIFE_SECONDS: Final = 6 * 3600.0
#: However far off the present is: a rate window, below which a fit is of single samples.
LEAST_HALF_LIFE_SECONDS: Final = 60.0
#: Present samples that are off by this much halve the half-life. Chosen so that an engine that has
#: become slower by a third is followed within some ten minutes, and the scatter of a few windows
#: (`_NOISE` over the square root of their number) costs no more than half of what was learned.
_DRIFT_UNIT: Final = 0.02
#: So far off, in units of the noise, is certain.
_SURE: Final = 1e3
#: Share of what is off that one step (a tick) makes up for, and the most of it.
_CATCH_UP: Final = 0.25
_MOST_BIAS: Final = 0.5
#: Over which time "present" is averaged.
_PRESENT_SECONDS: Final = 180.0
#: Before that much weight the profile stands: one odd minute must not scale it. Three minutes of
#: one replica.
LEAST_WEIGHT: Final = 3.0
#: A window of a minute without a pause scatters by this share about the identity (prompts that
#: straddle its ends; 0.4 to 0.9 % in the emulator). An engine that fits it worse is drawn to the
#: profile's proportions as by as much noise, up to the second: beyond it the engine has changed.
_NOISE: Final = 0.01
_MOST_NOISE: Final = 0.05
#: How far a cost may be from the profile's proportions before it is odd: GPUs and kernels differ by
#: half in how well they compute and how well they read.
_SPREAD: Final = 0.5
#: No cost is nothing: the least factor on the scaled profile.
_LEAST_FACTOR: Final = 0.05
_VARIANCE: Final = _NOISE**2
_ZERO: Final = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class StepSample:
    """One replica over one rate window.

    Attributes:
        regressors: (s, g, g X, p), per second.
        busy: Share of the window that the replica was not idle, 0 to 1.
        weight: How much of it is new, as a share of a window.
        unsure: Variance of ``busy``, where the replica was idle for some of the time.
    """

    regressors: Four
    busy: float
    weight: float
    unsure: float = 0.0

    @property
    def precision(self) -> float:
        """Inverse of the variance, over that of a window without idle time: 0 to 1."""
        return _VARIANCE / (_VARIANCE + self.unsure)


@dataclass(frozen=True, slots=True)
class StepCost:
    """The four costs in seconds, and what the samples leave open of them.

    Attributes:
        costs: (c0, c1, c2, c3).
        covariance: Of the relative errors of the four; None where nothing was measured.
    """

    costs: Four
    covariance: Matrix | None = None

    def relative_error(self, gradient: Four) -> float | None:
        """Standard error of a figure by its elasticities to the four costs; None if unknown."""
        if self.covariance is None:
            return None
        g0, g1, g2, g3 = gradient
        variance = 0.0
        for g, (v0, v1, v2, v3) in zip(gradient, self.covariance, strict=True):
            variance = variance + g * g0 * v0 + g * g1 * v1 + g * g2 * v2 + g * g3 * v3
        return math.sqrt(max(0.0, variance))


@dataclass(frozen=True, slots=True)
class StepSums:
    """Sufficient statistics of the least squares, faded; values are never changed in place.

    Attributes:
        at: When they were last brought up to date.
        weight: Windows that count.
        products: Sums of the products of the regressors.
        moments: Sums of the regressors times the busy share.
        squared_error: Mean square of how far the identity was off before a sample was learned,
            each times its precision.
        bias: The same with its sign, of the present; above 0 the engine is slower than learned.
        cost: The fit of these sums; None before the first sample.
    """

    at: float = 0.0
    weight: float = 0.0
    products: Matrix = (_ZERO, _ZERO, _ZERO, _ZERO)
    moments: Four = _ZERO
    squared_error: float | None = None
    bias: float = 0.0
    cost: StepCost | None = None

    @property
    def learned(self) -> bool:
        """Whether there is enough to go by."""
        return self.weight >= LEAST_WEIGHT

    def plus(self, samples: Iterable[StepSample], prior: Four, now: float) -> StepSums:
        """The sums with the samples of this moment; ``prior`` is the profile's costs."""
        samples = list(samples)
        if not samples:
            return self
        elapsed = max(0.0, now - self.at) if self.at else 0.0
        squared, bias = self.squared_error, self.bias
        if self.learned and self.cost is not None:
            costs = self.cost.costs
            errors = [s.busy - _dot(costs, s.regressors) for s in samples]
            share = 1 - math.exp(-min(elapsed, _PRESENT_SECONDS) / _PRESENT_SECONDS)
            bias += share * (sum(errors) / len(errors) - bias)
            now_squared = sum(
                e * e * s.precision for e, s in zip(errors, samples, strict=True)
            ) / len(errors)
            squared = now_squared if squared is None else squared + share * (now_squared - squared)
        # Off by b means that the costs explain 1 - b of the time. Small b are noise.
        odds = min(abs(bias) / _DRIFT_UNIT, _SURE) ** 2
        slower = 1 / (1 - min(_CATCH_UP * bias * odds / (1 + odds), _MOST_BIAS))
        half_life = HALF_LIFE_SECONDS / (1 + odds)
        keep = 0.5 ** (elapsed / max(half_life, LEAST_HALF_LIFE_SECONDS))
        seen = _weighted(samples)
        share, (p0, p1, p2, p3), (q0, q1, q2, q3) = keep / slower**2, self.products, seen.products
        products = (
            _faded(share, p0, q0),
            _faded(share, p1, q1),
            _faded(share, p2, q2),
            _faded(share, p3, q3),
        )
        moments = _faded(keep / slower, self.moments, seen.moments)
        total = keep * self.weight + seen.weight
        cost = _fit(products, moments, prior, squared)
        if self.cost is not None and self.learned:
            # What the new fit explains by itself is no longer off.
            gained = _faded(-1.0, self.cost.costs, cost.costs)
            bias -= sum(_dot(gained, s.regressors) for s in samples) / len(samples)
        return StepSums(now, total, products, moments, squared, bias, cost)


def _fit(sums: Matrix, moments: Four, prior: Four, squared_error: float | None) -> StepCost:
    """The costs by least squares with the scaled profile as ridge prior."""
    products = [_scaled(row, factor, prior) for row, factor in zip(sums, prior, strict=True)]
    wanted = [moment * factor for moment, factor in zip(moments, prior, strict=True)]
    total = sum(map(sum, products))
    if total <= 0:
        return StepCost(prior)
    speed = sum(wanted) / total
    noise = max(_NOISE, math.sqrt(squared_error or 0.0))
    ridge = (min(noise, _MOST_NOISE) / (_SPREAD * speed)) ** 2
    for j in range(4):
        products[j][j] += ridge
        wanted[j] += ridge * speed
    inverse = _inverse(products)
    factors = _at_least(
        [_dot(row, wanted) for row in inverse], products, wanted, _LEAST_FACTOR * speed
    )
    noise *= noise
    f0, f1, f2, f3 = factors
    c0, c1, c2, c3 = (
        (noise * v0 / (f * f0), noise * v1 / (f * f1), noise * v2 / (f * f2), noise * v3 / (f * f3))
        for f, (v0, v1, v2, v3) in zip(factors, inverse, strict=True)
    )
    b0, b1, b2, b3 = prior
    return StepCost((b0 * f0, b1 * f1, b2 * f2, b3 * f3), (c0, c1, c2, c3))


def _weighted(samples: Iterable[StepSample]) -> StepSums:
    """Weighted sums of samples of one moment.

    Written out, because a thousand pools of ten replicas come through here at each tick.
    """
    weight = bs = bg = bx = bp = 0.0
    ss = sg = sx = sp = gg = gx = gp = xx = xp = pp = 0.0
    for sample in samples:
        s, g, x, p = sample.regressors
        busy, w = sample.busy, sample.weight * sample.precision
        ws, wg, wx, wp = w * s, w * g, w * x, w * p
        weight += sample.weight
        ss += ws * s
        sg += ws * g
        sx += ws * x
        sp += ws * p
        gg += wg * g
        gx += wg * x
        gp += wg * p
        xx += wx * x
        xp += wx * p
        pp += wp * p
        bs += ws * busy
        bg += wg * busy
        bx += wx * busy
        bp += wp * busy
    products = ((ss, sg, sx, sp), (sg, gg, gx, gp), (sx, gx, xx, xp), (sp, gp, xp, pp))
    return StepSums(weight=weight, products=products, moments=(bs, bg, bx, bp))


def _at_least(
    factors: list[float], products: list[list[float]], moments: list[float], least: float
) -> list[float]:
    """The least-squares factors with none below ``least``: those are held there, the rest refit."""
    held: set[int] = set()
    while low := {j for j in range(4) if j not in held and factors[j] < least}:
        held |= low
        free = [j for j in range(4) if j not in held]
        for j in held:
            factors[j] = least
        if not free:
            break
        # A row and a column of the unit matrix leave a factor out of the equations of the others.
        matrix = [
            [float(j == k) if j in held or k in held else products[j][k] for k in range(4)]
            for j in range(4)
        ]
        rest = [0.0] * 4
        for j in free:
            rest[j] = moments[j] - least * sum(products[j][k] for k in held)
        inverse = _inverse(matrix)
        for j in free:
            factors[j] = _dot(inverse[j], rest)
    return factors


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """Of a symmetric positive definite matrix (the ridge makes it so), by Gauss-Jordan.

    Rows of four are written out, here and below: loops over them would take most of the time.
    """
    rows = [list(row) for row in matrix]
    for i in range(4):
        pivot = rows[i]
        scale = 1 / pivot[i]
        pivot[i] = 1.0
        p0, p1, p2, p3 = rows[i] = [entry * scale for entry in pivot]
        for j in range(4):
            if j != i:
                row = rows[j]
                factor = row[i]
                row[i] = 0.0
                a, b, c, d = row
                rows[j] = [a - factor * p0, b - factor * p1, c - factor * p2, d - factor * p3]
    return rows


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    a0, a1, a2, a3 = a
    b0, b1, b2, b3 = b
    return a0 * b0 + a1 * b1 + a2 * b2 + a3 * b3


def _faded(share: float, old: Four, new: Four) -> Four:
    """``share`` of the old and all of the new."""
    a0, a1, a2, a3 = old
    b0, b1, b2, b3 = new
    return share * a0 + b0, share * a1 + b1, share * a2 + b2, share * a3 + b3


def _scaled(row: Four, factor: float, by: Four) -> list[float]:
    a, b, c, d = row
    b0, b1, b2, b3 = by
    return [a * factor * b0, b * factor * b1, c * factor * b2, d * factor * b3]
