"""How fast a HorizontalPodAutoscaler follows what its metric asks for: stabilisation and policies.

This is what kube-controller-manager does after it has computed a number of replicas from a metric
(``pkg/controller/podautoscaler/horizontal.go`` of Kubernetes 1.36,
``normalizeDesiredReplicasWithBehaviors`` and, where an HPA has no ``behavior``,
``normalizeDesiredReplicas``), for K HPAs at once. The controller syncs at its period *after* it has
finished, so what happened exactly one window ago is just outside of the window here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DOWNSCALE_STABILIZATION_SECONDS: Final = 300.0
"""``--horizontal-pod-autoscaler-downscale-stabilization``: the controller's default."""
TOLERANCE: Final = 0.1
"""``--horizontal-pod-autoscaler-tolerance``: the controller's default."""
#: Of an HPA without ``behavior``: `scaleUpLimitFactor` and `scaleUpLimitMinimum`.
_PLAIN_FACTOR: Final = 2.0
_PLAIN_LEAST: Final = 4.0


class PolicyType(StrEnum):
    """What a policy's value counts."""

    PODS = "Pods"
    PERCENT = "Percent"


class PolicySelect(StrEnum):
    """Which of several policies holds."""

    MAX = "Max"
    """The one that allows the largest change."""
    MIN = "Min"
    """The one that allows the smallest change."""
    DISABLED = "Disabled"
    """None: no scaling in this direction."""


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """At most so much change within a period.

    Attributes:
        type: Unit of `value`.
        value: Pods, or percent of the replicas at the period's begin.
        period_seconds: Length of the period.
    """

    type: PolicyType
    value: float
    period_seconds: float


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """Rules of one direction.

    Attributes:
        policies: At least one.
        stabilization_seconds: Window whose mildest recommendation holds.
        select: Which policy holds.
        tolerance: How far the ratio of usage to target may be off before anything happens, 0 to 1
            (``HPAConfigurableTolerance``, on by default since 1.35).
    """

    policies: tuple[ScalingPolicy, ...]
    stabilization_seconds: float
    select: PolicySelect = PolicySelect.MAX
    tolerance: float = TOLERANCE


SCALE_UP: Final = ScalingRules(
    (ScalingPolicy(PolicyType.PODS, 4, 15), ScalingPolicy(PolicyType.PERCENT, 100, 15)), 0.0
)
"""Defaults of ``behavior.scaleUp`` (``pkg/apis/autoscaling/v2/defaults.go``)."""
SCALE_DOWN: Final = ScalingRules(
    (ScalingPolicy(PolicyType.PERCENT, 100, 15),), DOWNSCALE_STABILIZATION_SECONDS
)
"""Defaults of ``behavior.scaleDown``."""


@dataclass(frozen=True, slots=True)
class Behavior:
    """``spec.behavior``, defaults filled in as the API server does."""

    up: ScalingRules = SCALE_UP
    down: ScalingRules = SCALE_DOWN


class _Ring:
    """The last rows of K values with the times they were recorded at; the oldest is overwritten."""

    def __init__(self, slots: int, width: int) -> None:
        self._at = np.full(slots, -np.inf)
        self._rows = np.zeros((slots, width))
        self._next = 0
        self.last = -np.inf

    def forget(self) -> None:
        self._at.fill(-np.inf)
        self.last = -np.inf

    def record(self, now: float, row: Floats) -> None:
        self._at[self._next] = self.last = now
        self._rows[self._next] = row
        self._next = (self._next + 1) % len(self._at)

    def within(self, now: float, window: Floats, otherwise: float) -> Floats:
        """Rows younger than each series' window, ``otherwise`` elsewhere; shape (slots, K)."""
        return np.where((now - self._at)[:, None] < window, self._rows, otherwise)


@dataclass(frozen=True, slots=True)
class _PolicyRow:
    """The n-th policy of each HPA; shape (K,) each. Where an HPA has none, it repeats its last.

    ``longest`` is the longest of the periods.
    """

    percent: NDArray[np.bool_]
    value: Floats
    period: Floats
    longest: float


class _Direction:
    """The rules of one direction of K HPAs, and the changes that they made."""

    def __init__(self, rules: Sequence[ScalingRules], period_seconds: float) -> None:
        self.window = np.array([each.stabilization_seconds for each in rules])
        self._most = np.array([each.select is not PolicySelect.MIN for each in rules])
        self._disabled = np.array([each.select is PolicySelect.DISABLED for each in rules])
        rows = max(len(each.policies) for each in rules)
        self._rows = [_row([each.policies[min(n, len(each.policies) - 1)] for each in rules])
                      for n in range(rows)]  # fmt: skip
        self.longest = max(row.longest for row in self._rows)
        self.changes = _Ring(int(self.longest / period_seconds) + 2, len(rules))

    def limit(self, now: float, before: Floats, up: _Ring, down: _Ring, sign: int) -> Floats:
        """The furthest that the policies allow; ``sign`` is 1 for up and -1 for down."""
        result: Floats | None = None
        for row in self._rows:
            start = before - _sum(up, now, row) + _sum(down, now, row)
            scaled = start * (1 + sign * row.value / 100)
            # The controller rounds a percentage up on the way up and towards zero on the way down.
            scaled = np.ceil(scaled) if sign > 0 else np.trunc(scaled)
            reach = np.where(row.percent, scaled, start + sign * row.value)
            if result is None:
                result = reach
            else:
                far, near = np.maximum(result, reach), np.minimum(result, reach)
                result = np.where(self._most == (sign > 0), far, near)
        assert result is not None  # noqa: S101 - there is at least one policy
        return np.where(self._disabled, before, result)


def _row(policies: Sequence[ScalingPolicy]) -> _PolicyRow:
    periods = [float(each.period_seconds) for each in policies]
    return _PolicyRow(
        np.array([each.type is PolicyType.PERCENT for each in policies]),
        np.array([float(each.value) for each in policies]),
        np.array(periods),
        max(periods),
    )


def _sum(changes: _Ring, now: float, row: _PolicyRow) -> Floats | float:
    """Replicas changed within each HPA's period."""
    if now - changes.last >= row.longest:
        return 0.0
    total: Floats = changes.within(now, row.period, 0.0).sum(axis=0)
    return total


class Normalizer:
    """Turns recommendations of K HPAs into numbers of replicas. It remembers between calls."""

    def __init__(self, behaviors: Sequence[Behavior | None], period_seconds: float = 15.0) -> None:
        """Lay the rules out in arrays.

        Args:
            behaviors: One per HPA; None: an HPA without ``spec.behavior``.
            period_seconds: Time between calls of `normalize`, at least.
        """
        filled = [each or Behavior() for each in behaviors]
        self._plain = np.array([each is None for each in behaviors])
        self._any_plain = bool(self._plain.any())
        self._up = _Direction([each.up for each in filled], period_seconds)
        self._down = _Direction([each.down for each in filled], period_seconds)
        longest = max(float(self._up.window.max()), float(self._down.window.max()))
        self._recommended = _Ring(int(longest / period_seconds) + 2, len(filled))

    def begin(self) -> None:
        """Forget everything."""
        for ring in (self._recommended, self._up.changes, self._down.changes):
            ring.forget()

    def normalize(
        self, now: float, current: Floats, recommended: Floats, floor: Floats, most: Floats
    ) -> Floats:
        """spec.replicas of each HPA; shape (K,) like all arguments but ``now``.

        Args:
            now: Seconds; never less than at the last call.
            current: spec.replicas so far.
            recommended: What the metric asks for; NaN where it could not be read: then an HPA
                neither scales nor remembers.
            floor: ``minReplicas``.
            most: ``maxReplicas``.
        """
        if self._recommended.last == -np.inf:
            # The controller takes the replicas that it finds for its first recommendation.
            self._recommended.record(now, current)
        # Outside of the bounds no metric is asked.
        asked = np.where((current > most) | (current < floor), np.nan, recommended)
        silent = np.isnan(asked)
        stable = self._stabilized(now, current, np.where(silent, current, asked))
        self._recommended.record(now, asked)
        result = self._ruled(now, current, stable, floor, most)
        if self._any_plain:
            reach = np.minimum(most, np.maximum(_PLAIN_FACTOR * current, _PLAIN_LEAST))
            plain = np.where(stable < floor, floor, np.minimum(stable, reach))
            result = np.where(self._plain, plain, result)
        result = np.where(silent, np.minimum(np.maximum(current, floor), most), result)
        self._remember(now, result - current)
        return result

    def _stabilized(self, now: float, current: Floats, wanted: Floats) -> Floats:
        """The mildest of the recent recommendations, from the present replicas' point of view."""
        # fmax and fmin pass over NaN, which stands for "nothing was recommended".
        recent = self._recommended.within
        highest = np.fmax(wanted, np.fmax.reduce(recent(now, self._down.window, -np.inf)))
        lowest = np.fmin(wanted, np.fmin.reduce(recent(now, self._up.window, np.inf)))
        ruled = np.minimum(np.maximum(current, lowest), highest)
        # Without behavior, a higher recommendation within the window holds on the way up too.
        return np.where(self._plain, highest, ruled) if self._any_plain else ruled

    def _ruled(
        self, now: float, current: Floats, stable: Floats, floor: Floats, most: Floats
    ) -> Floats:
        """``stable`` as far as the policies of its direction and the bounds allow."""
        added, removed = self._up.changes, self._down.changes
        up = np.maximum(current, self._up.limit(now, current, added, removed, 1))
        down = np.minimum(current, self._down.limit(now, current, added, removed, -1))
        rising = np.minimum(stable, np.minimum(most, up))
        falling = np.maximum(stable, np.maximum(floor, down))
        return np.where(stable > current, rising, np.where(stable < current, falling, stable))

    def _remember(self, now: float, change: Floats) -> None:
        if change.any():
            self._up.changes.record(now, np.maximum(change, 0.0))
            self._down.changes.record(now, np.maximum(-change, 0.0))
