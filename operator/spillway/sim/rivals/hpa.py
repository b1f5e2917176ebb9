"""HorizontalPodAutoscaler v2, as kube-controller-manager 1.36 computes it.

From ``pkg/controller/podautoscaler/replica_calculator.go``: a ratio of usage to target, a tolerance
of 0.1 around 1, and what is assumed of pods that are not ready or have no metric. How fast the
result is followed is in `spillway.sim.rivals.behavior`. Metrics are whole thousandths, as in the
controller, so that roundings agree.

Two kinds of metric are of use for a model server. A *Pods* metric is a mean over pods (GPU
utilisation, from DCGM by way of the Prometheus adapter): ``ceil(ratio * pods)``. An *External*
metric with ``averageValue`` is a sum (requests that wait) shared by the pods that there are, ready
or not: ``ceil(sum / target)``.

In a simulation a replica that is not ready is a Pending pod without a metric. One that loads its
weights already is in truth Running and reports a utilisation of about nothing, which comes to the
same number: on the way up a pending pod counts as using nothing, on the way down only the sum over
the target decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from spillway.sim.rivals.behavior import (
    SCALE_DOWN,
    SCALE_UP,
    TOLERANCE,
    Behavior,
    Normalizer,
)
from spillway.sim.rivals.configured import Configured
from spillway.sim.rivals.routing import Router

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from spillway.sim.scaler import Asked, Seen, Told

    Floats = NDArray[np.float64]

SYNC_SECONDS: Final = 15.0
"""``--horizontal-pod-autoscaler-sync-period``."""
_MILLI: Final = 1000


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods of K targets; shape (K,) each.

    Attributes:
        current: spec.replicas.
        ready: Pods with a metric.
        pending: Pods in phase Pending.
        missing: Pods in phase Running whose metric is not there.
    """

    current: Floats
    ready: Floats
    pending: Floats
    missing: Floats


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a ratio may be off 1 before anything happens; shape (K,) each, or one for all."""

    down: Floats | float = TOLERANCE
    up: Floats | float = TOLERANCE

    def hold(self, ratio: Floats) -> NDArray[np.bool_]:
        """Whether each ratio is too close to 1 to act on."""
        return (ratio >= 1.0 - self.down) & (ratio <= 1.0 + self.up)


_DEFAULT_TOLERANCES: Final = Tolerances()


def milli(value: Floats) -> Floats:
    """Whole thousandths, cut off, as metrics adapters hand values over."""
    return np.floor(value * _MILLI + 1e-6)


def replicas_by_pods_metric(
    mean: Floats, target: Floats, pods: Pods, tolerances: Tolerances = _DEFAULT_TOLERANCES
) -> Floats:
    """What a Pods metric asks for (``calcPlainMetricReplicas``); NaN where no pod has the metric.

    Args:
        mean: Mean over the pods that have it, in thousandths.
        target: ``averageValue``, in thousandths.
        pods: The pods.
        tolerances: Around 1.
    """
    ratio = mean / target
    with_pending = (pods.pending > 0) & (ratio > 1)
    plain = np.where(tolerances.hold(ratio), pods.current, np.ceil(ratio * pods.ready))
    # On the way down a pod without a metric is assumed to use the target, on the way up nothing.
    missing = np.where(ratio != 1, pods.missing, 0.0)
    assumed = np.where(ratio < 1, missing * target, 0.0)
    count = pods.ready + missing + np.where(with_pending, pods.pending, 0.0)
    usage = np.floor((mean * pods.ready + assumed) / np.maximum(count, 1.0))
    anew = usage / target
    wanted = np.ceil(anew * count)
    turned = ((ratio < 1) & (anew > 1)) | ((ratio > 1) & (anew < 1))
    turned |= ((anew < 1) & (wanted > pods.current)) | ((anew > 1) & (wanted < pods.current))
    careful = np.where(tolerances.hold(anew) | turned, pods.current, wanted)
    result = np.where(with_pending | (pods.missing > 0), careful, plain)
    return np.where((pods.ready > 0) & ~np.isnan(mean), result, np.nan)


def replicas_by_external_metric(
    total: Floats, target: Floats, pods: Pods, tolerances: Tolerances = _DEFAULT_TOLERANCES
) -> Floats:
    """What an External metric with ``averageValue`` asks for (``GetExternalPerPodMetricReplicas``).

    Pods count whether ready or not (``status.replicas``). Within the tolerance the answer is that
    count, not spec.replicas.

    Args:
        total: Sum over the target, in thousandths; NaN where it could not be read.
        target: ``averageValue``, in thousandths.
        pods: The pods.
        tolerances: Around 1.
    """
    there = pods.ready + pods.pending + pods.missing
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = total / (target * there)
    wanted = np.where(tolerances.hold(ratio), there, np.ceil(total / target))
    return np.where(np.isnan(total), np.nan, wanted)


class Metric(Protocol):
    """A metric that an HPA follows."""

    def wanted(self, seen: Seen, target: Floats, tolerances: Tolerances) -> Floats:
        """Replicas that it asks for; NaN where it could not be read.

        Args:
            seen: The metrics.
            target: Of each configuration, in thousandths of the metric's unit.
            tolerances: Of each configuration.
        """
        ...

    def begin(self, told: Told) -> float:
        """Forget everything; return what a target is a multiple of, in the metric's unit."""
        ...


def pods_of(seen: Seen) -> Pods:
    """The pods as an HPA finds them."""
    ready = seen.ready.astype(np.float64)
    unready = seen.unready.astype(np.float64)
    return Pods(seen.requested.astype(np.float64), ready, unready, np.zeros_like(ready))


class GpuUtilization:
    """DCGM_FI_DEV_GPU_UTIL as a Pods metric; targets are in percent."""

    def wanted(self, seen: Seen, target: Floats, tolerances: Tolerances) -> Floats:
        """See `Metric`."""
        return replicas_by_pods_metric(
            milli(100 * seen.gpu_utilization), target, pods_of(seen), tolerances
        )

    def begin(self, told: Told) -> float:  # noqa: ARG002 - the protocol's
        """See `Metric`."""
        return 1.0


@dataclass(frozen=True, slots=True)
class ExternalSum:
    """A sum over the target as an External metric.

    Attributes:
        total: Reads it.
        unit: What a configuration's target is a multiple of.
    """

    total: Callable[[Seen], Floats]
    unit: Callable[[Told], float]

    def wanted(self, seen: Seen, target: Floats, tolerances: Tolerances) -> Floats:
        """See `Metric`."""
        return replicas_by_external_metric(
            milli(self.total(seen)), target, pods_of(seen), tolerances
        )

    def begin(self, told: Told) -> float:
        """See `Metric`."""
        return self.unit(told)


@dataclass(frozen=True, slots=True)
class HpaConfiguration:
    """One HPA.

    Attributes:
        target: Of the metric, as a multiple of what `Metric.begin` returns.
        behavior: ``spec.behavior``; None: an HPA without one.
        floor: ``minReplicas``; the pool's floor where that is higher.
        max: ``maxReplicas``; the pool's max where that is lower.
    """

    target: float
    behavior: Behavior | None = None
    floor: int = 1
    max: int | None = None

    def __str__(self) -> str:
        """For tables."""
        text = f"target {self.target:g}"
        if self.behavior is None:
            return text
        up, down = self.behavior.up, self.behavior.down
        return (
            f"{text}, up after {up.stabilization_seconds:g} s, "
            f"down after {down.stabilization_seconds:g} s, tolerance {up.tolerance:g}"
        )


class Hpa(Configured[HpaConfiguration]):
    """K HPAs on one metric, a `spillway.sim.scaler.Scaler`.

    Args:
        name: For tables.
        metric: What they follow.
        configurations: One per HPA.
    """

    period_seconds = SYNC_SECONDS

    def __init__(
        self, name: str, metric: Metric, configurations: Sequence[HpaConfiguration]
    ) -> None:
        self.name = name
        self._metric = metric
        super().__init__(configurations)
        filled = [each.behavior or Behavior() for each in configurations]
        self._tolerances = Tolerances(
            np.array([each.down.tolerance for each in filled]),
            np.array([each.up.tolerance for each in filled]),
        )
        self._normalizer = Normalizer([each.behavior for each in configurations], SYNC_SECONDS)
        self._target = self._floor = self._max = np.zeros(0)
        self._router: Router | None = None

    def only(self, configurations: Sequence[int]) -> Hpa:
        """Some of its configurations, by number."""
        return Hpa(self.name, self._metric, [self._each[k] for k in configurations])

    def begin(self, told: Told) -> None:
        """Forget everything; a run begins."""
        scale = self._metric.begin(told)
        self._target = np.maximum(1.0, np.round([_MILLI * scale * c.target for c in self._each]))
        self._floor = np.array([float(max(told.floor, c.floor)) for c in self._each])
        self._max = np.array([float(min(told.max, c.max or told.max)) for c in self._each])
        self._floor = np.minimum(self._floor, self._max)
        self._normalizer.begin()
        self._router = Router(told, len(self._each))

    def decide(self, seen: Seen) -> Asked:
        """What is wanted from now on."""
        wanted = self._metric.wanted(seen, self._target, self._tolerances)
        return self.follow(seen, wanted)

    def follow(self, seen: Seen, wanted: Floats) -> Asked:
        """What comes of a number of replicas that a metric asks for."""
        if self._router is None:
            msg = "begin() must come before decide()"
            raise RuntimeError(msg)
        current = seen.requested.astype(np.float64)
        replicas = self._normalizer.normalize(seen.now, current, wanted, self._floor, self._max)
        return self._router.ask(seen, replicas.astype(np.int64))


#: Stabilisation windows of the tuning grids in seconds (none to twice the default) and tolerances.
UP_WINDOWS: Final = (0.0, 120.0)
DOWN_WINDOWS: Final = (0.0, 120.0, 300.0, 600.0)
TOLERANCES: Final = (TOLERANCE, 0.0)


def tuned(targets: Sequence[float]) -> list[HpaConfiguration]:
    """Each target with each pair of stabilisation windows and each tolerance."""
    return [
        HpaConfiguration(target, stabilized(up, down, tolerance))
        for target in targets
        for up in UP_WINDOWS
        for down in DOWN_WINDOWS
        for tolerance in TOLERANCES
    ]


def stabilized(up_seconds: float, down_seconds: float, tolerance: float = TOLERANCE) -> Behavior:
    """The default behavior with other stabilisation windows and another tolerance."""
    return Behavior(
        replace(SCALE_UP, stabilization_seconds=up_seconds, tolerance=tolerance),
        replace(SCALE_DOWN, stabilization_seconds=down_seconds, tolerance=tolerance),
    )


#: Percent of GPU utilisation. 70 is what most guides set.
_UTILIZATION_TARGETS: Final = (40.0, 50.0, 60.0, 70.0, 80.0, 85.0, 90.0, 95.0)
#: Requests that wait, a replica.
_QUEUE_TARGETS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)

_WAITING: Final = ExternalSum(lambda seen: seen.waiting, lambda _told: 1.0)


def on_utilization() -> Hpa:
    """GPU utilisation at 70 %, everything else as the API server defaults it."""
    return Hpa("hpa-util", GpuUtilization(), [HpaConfiguration(70.0)])


def on_utilization_grid() -> Hpa:
    """Targets and stabilisation windows to tune."""
    return Hpa("hpa-util", GpuUtilization(), tuned(_UTILIZATION_TARGETS))


def on_queue() -> Hpa:
    """Two waiting requests a replica, everything else as the API server defaults it."""
    return Hpa("hpa-queue", _WAITING, [HpaConfiguration(2.0)])


def on_queue_grid() -> Hpa:
    """Targets and stabilisation windows to tune."""
    return Hpa("hpa-queue", _WAITING, tuned(_QUEUE_TARGETS))
