"""The cheapest number of replicas over time, exactly, for any cost of a step.

    minimise  sum_t  h_t(n_t) + u_t (n_t - n_{t-1})^+ + d_t (n_{t-1} - n_t)^+

over whole numbers n_t from 0 to N. With V(n) the least cost up to a step of being at n, a change
costs

    V'(m) = min( min_{n <= m} (V(n) - u n) + u m,  min_{n >= m} (V(n) + d n) - d m )

so both minima are running ones, from either end: O(N) a step where all pairs would be O(N^2). No
convexity is needed. A brute force over all plans is the test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Switching:
    """What a change of the number of replicas costs, and when it is forced; shape (steps,) each.

    Attributes:
        up_usd: A replica more from the begin of the step on; inf: none can become ready then.
        down_usd: A replica less; finite.
        vanishing: Replicas that are lost at the begin of the step, before any change.
        initial: Replicas before the first step; None: any number, at no cost.
    """

    up_usd: Floats
    down_usd: Floats
    vanishing: Ints
    initial: int | None = None


def cheapest_plan(costs: Iterable[Floats], switching: Switching) -> tuple[float, Ints]:
    """The least cost and the replicas of each step that come to it; shape (steps,).

    Args:
        costs: h_t(n) for n from 0 to N, in pieces of consecutive steps, each of shape
            (steps of the piece, N + 1); inf where n is not allowed.
        switching: Costs of changes, for all steps.

    Raises:
        ValueError: No plan is allowed.
    """
    pieces: list[Floats] = []
    value: Floats | None = None
    change = _Change(switching)
    step = 0
    for piece in costs:
        if value is None:
            value = _start(piece.shape[1], switching.initial)
        # The piece becomes the values: what it was is not needed again.
        for row in piece:
            np.add(row, change.of(value, step), out=row)
            value = row
            step += 1
        pieces.append(piece)
    if value is None:
        return 0.0, np.zeros(0, dtype=np.int64)
    least = float(value.min())
    if not np.isfinite(least):
        msg = "no plan keeps the floor: replicas must be able to start before it holds"
        raise ValueError(msg)
    return least, _way_back(pieces, switching)


def switching_usd(plan: Ints, switching: Switching) -> float:
    """What the changes of a plan cost."""
    if len(plan) == 0:
        return 0.0
    before = switching.initial
    if before is None:
        before = int(plan[0] + switching.vanishing[0])
    left = np.maximum(np.concatenate(([before], plan[:-1])) - switching.vanishing, 0)
    change = plan - left
    up, down = change > 0, change < 0
    return float(
        (change[up] * switching.up_usd[up]).sum() - (change[down] * switching.down_usd[down]).sum()
    )


def _start(size: int, initial: int | None) -> Floats:
    value = np.zeros(size)
    if initial is not None:
        value[:] = np.inf
        value[initial] = 0.0
    return value


def _without(value: Floats, lost: int) -> Floats:
    """V once replicas are gone; who had no more than that has none."""
    lost = min(lost, len(value) - 1)
    rest = np.full(len(value), np.inf)
    rest[: len(value) - lost] = value[lost:]
    rest[0] = value[: lost + 1].min()
    return rest


class _Change:
    """V' of V, with no array made anew that was the same in the step before."""

    def __init__(self, switching: Switching) -> None:
        self._up_usd = switching.up_usd.tolist()
        self._down_usd = switching.down_usd.tolist()
        self._vanishing = switching.vanishing.tolist()
        self._made_for: tuple[float, float] | None = None
        self._up = self._down = np.zeros(0)

    def of(self, value: Floats, step: int) -> Floats:
        """V' at the begin of a step."""
        if self._vanishing[step]:
            value = _without(value, self._vanishing[step])
        up_usd, down_usd = self._up_usd[step], self._down_usd[step]
        if self._made_for != (up_usd, down_usd):
            self._made_for = up_usd, down_usd
            replicas = np.arange(len(value), dtype=np.float64)
            self._up = up_usd * replicas if up_usd < np.inf else np.zeros(0)
            self._down = down_usd * replicas
        best = value + self._down
        backwards = best[::-1]
        np.minimum.accumulate(backwards, out=backwards)
        best -= self._down
        if up_usd < np.inf:
            more = value - self._up
            np.minimum.accumulate(more, out=more)
            more += self._up
            np.minimum(best, more, out=best)
        return best


def _way_back(pieces: list[Floats], switching: Switching) -> Ints:
    values = [row for piece in pieces for row in piece]
    most = len(values[0]) - 1
    plan = np.zeros(len(values), dtype=np.int64)
    after = int(values[-1].argmin())
    made_for, usd = None, np.zeros(0)
    for step in range(len(values) - 1, 0, -1):
        plan[step] = after
        prices = float(switching.up_usd[step]), float(switching.down_usd[step])
        if made_for != prices:
            made_for, usd = prices, _change_usd(most, *prices)
        # usd[most + n - after]: from n to after.
        lost = int(switching.vanishing[step])
        if lost:
            left = np.maximum(np.arange(most + 1) - lost, 0)
            after = int((values[step - 1] + usd[most - after + left]).argmin())
        else:
            after = int((values[step - 1] + usd[most - after : 2 * most + 1 - after]).argmin())
    plan[:1] = after
    return plan


def _change_usd(most: int, up_usd: float, down_usd: float) -> Floats:
    """Cost of being at n and going to m, for n - m from -most to most."""
    usd = np.zeros(2 * most + 1)
    usd[:most] = up_usd * np.arange(most, 0, -1)
    usd[most + 1 :] = down_usd * np.arange(1, most + 1)
    return usd
