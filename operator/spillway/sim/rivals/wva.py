"""llm-d's Workload Variant Autoscaler, saturation analyzer V2, for one variant behind an HPA.

From llm-d/llm-d-workload-variant-autoscaler v0.9.0 (commit aadaa5964301), where V2 is the default:
``internal/engines/analyzers/saturation_v2/analyzer.go`` (capacity and demand in tokens of KV
cache), ``internal/engines/saturation/engine_v2.go`` (``applyUniversalThreshold``) and
``internal/engines/pipeline/cost_aware_optimizer.go`` (one variant: all replicas are its).

- A replica's capacity is the smaller of k1, the share ``kvCacheThreshold`` of its KV cache, and k2,
  what its compute takes: the tokens held when its queue was at ``queueLengthThreshold`` or longer
  (now, else the mean of the last ten such samples), else an estimate from the engine's limits.
- Demand is the tokens held plus the whole footprint of the requests that wait.
- Up: the demand over ``scaleUpThreshold``, less the supply of ready and pending replicas, in whole
  replicas, rounded up. Down: the supply of ready ones, less the demand over
  ``scaleDownBoundary``, in whole replicas, rounded down.

KV usage and queue are the highest of the last minute, as its queries ask (``max_over_time``). The
number is exposed as ``wva_desired_replicas``; an HPA with ``averageValue: 1`` follows it, tolerance
included, with the behavior of ``config/samples/hpa`` (ten pods in 15 s, no stabilisation).

The engine's limits are what its parser assumes for a deployment without flags. Replicas are alike
here, so the median over them is any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.rivals.behavior import Behavior, PolicyType, ScalingPolicy, ScalingRules
from spillway.sim.rivals.hpa import (
    Hpa,
    HpaConfiguration,
    Tolerances,
    milli,
    pods_of,
    replicas_by_external_metric,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spillway.sim.scaler import Seen, Told

    Floats = NDArray[np.float64]

_HISTORY: Final = 10
"""``RollingAverageWindowSize``: samples of k2, one a replica and tick."""
_MAX_NUM_SEQS: Final = 256
_MAX_NUM_BATCHED_TOKENS: Final = 8192
"""What its parser assumes of a vLLM V1 deployment without flags (``deployment_parser.go``)."""
_PEAK_SECONDS: Final = 60.0
_TEN_PODS: Final = (ScalingPolicy(PolicyType.PODS, 10, 15),)


@dataclass(frozen=True, slots=True)
class WvaConfiguration:
    """One configuration; the defaults are those of ``deploy/configmap-saturation-scaling.yaml``.

    Attributes:
        scale_up_threshold: Utilisation above which it scales up, 0 to 1.
        scale_down_boundary: Utilisation below which it scales down, 0 to 1.
        kv_cache_threshold: Share of the KV cache that counts as full.
        queue_length_threshold: Requests that wait on a saturated replica.
        up_seconds: The HPA's stabilisation window on the way up.
        down_seconds: The HPA's stabilisation window on the way down.
        tolerance: The HPA's.
    """

    scale_up_threshold: float = 0.85
    scale_down_boundary: float = 0.70
    kv_cache_threshold: float = 0.80
    queue_length_threshold: float = 5.0
    up_seconds: float = 0.0
    down_seconds: float = 0.0
    tolerance: float = 0.1

    @property
    def hpa(self) -> HpaConfiguration:
        """The HPA that follows it."""
        return HpaConfiguration(
            1.0,
            Behavior(
                ScalingRules(_TEN_PODS, self.up_seconds, tolerance=self.tolerance),
                ScalingRules(_TEN_PODS, self.down_seconds, tolerance=self.tolerance),
            ),
        )

    def __str__(self) -> str:
        """For tables."""
        return (
            f"up above {self.scale_up_threshold:.0%}, down below {self.scale_down_boundary:.0%}, "
            f"down after {self.down_seconds:g} s, tolerance {self.tolerance:g}"
        )


class _DesiredReplicas:
    """``wva_desired_replicas``, as a metric that an HPA follows."""

    def __init__(self, configurations: Sequence[WvaConfiguration]) -> None:
        self._up = np.array([each.scale_up_threshold for each in configurations])
        self._down = np.array([each.scale_down_boundary for each in configurations])
        self._kv = np.array([each.kv_cache_threshold for each in configurations])
        self._queue = np.array([each.queue_length_threshold for each in configurations])
        self._capacity_tokens = 0.0
        self._told_tokens = 0.0, 0.0
        self._k2 = np.zeros((0, _HISTORY))
        self._samples: list[tuple[float, Floats, Floats]] = []

    def begin(self, told: Told) -> float:
        """Forget everything; the HPA's target is one of its own replicas.

        Raises:
            ValueError: The size of the KV cache is not told: then V2 does not work.
        """
        if not told.kv_capacity_tokens:
            msg = "told.kv_capacity_tokens must be a number above 0 for WVA, got None"
            raise ValueError(msg)
        prompt = float(told.lengths.prompt_tokens.mean())
        self._told_tokens = prompt, float(told.lengths.output_tokens.mean())
        self._capacity_tokens = float(told.kv_capacity_tokens)
        self._k2 = np.full((len(self._up), _HISTORY), np.nan)
        self._samples.clear()
        return 1.0

    def wanted(self, seen: Seen, target: Floats, tolerances: Tolerances) -> Floats:
        """Replicas that the HPA takes from it; NaN while no replica reports."""
        pods = pods_of(seen)
        held, waiting = self._peaks(seen)
        prompt, output = self._mean_tokens(seen)
        steady = np.minimum(_MAX_NUM_BATCHED_TOKENS * output / (prompt + output), _MAX_NUM_SEQS)
        derived = steady * (prompt + output / 2)
        each = self._capacity_of_each(held, waiting, pods.ready, derived)
        each = np.where(pods.ready > 0, each, np.nan)
        demand = pods.ready * (held + waiting * (prompt + output))
        there = pods.ready + pods.pending
        required = demand / self._up - there * each
        spare = pods.ready * each - demand / self._down
        desired = np.where(
            required > 0,
            there + np.ceil(required / each),
            np.maximum(1.0, there - np.floor(np.maximum(spare, 0.0) / each)),
        )
        return replicas_by_external_metric(milli(desired), target, pods, tolerances)

    def _peaks(self, seen: Seen) -> tuple[Floats, Floats]:
        """Tokens held and requests waiting of a replica: the highest of the last minute."""
        waiting = seen.waiting / np.maximum(seen.ready, 1)
        held = np.nan_to_num(seen.kv_usage) * self._capacity_tokens
        self._samples.append((seen.now, held, waiting))
        while seen.now - self._samples[0][0] >= _PEAK_SECONDS:
            self._samples.pop(0)
        _, all_held, all_waiting = zip(*self._samples, strict=True)
        return np.maximum.reduce(all_held), np.maximum.reduce(all_waiting)

    def _mean_tokens(self, seen: Seen) -> tuple[Floats, Floats]:
        """Prompt and output tokens of a finished request; those told while none has finished."""
        finished = seen.completions_per_second
        safe = np.maximum(finished, 1e-9)
        prompt, output = seen.prompt_tokens_per_second, seen.output_tokens_per_second
        assumed = [np.full(len(finished), each) for each in self._told_tokens]
        if prompt is None or output is None:
            return assumed[0], assumed[1]
        known = (finished > 0) & (prompt > 0) & (output > 0)
        return (
            np.where(known, prompt / safe, assumed[0]),
            np.where(known, output / safe, assumed[1]),
        )

    def _capacity_of_each(
        self, held: Floats, waiting: Floats, ready: Floats, derived: Floats
    ) -> Floats:
        """Tokens that one replica takes: min(k1, k2)."""
        saturated = (waiting >= self._queue) & (held > 0)
        if saturated.any():
            self._record(held, np.where(saturated, np.minimum(ready, _HISTORY), 0))
        count = (~np.isnan(self._k2)).sum(axis=1)
        mean = np.nansum(self._k2, axis=1) / np.maximum(count, 1)
        k2 = np.where(saturated, held, np.where(count > 0, mean, derived))
        return np.minimum(self._kv * self._capacity_tokens, k2)

    def _record(self, held: Floats, times: Floats) -> None:
        """Append ``held`` to each history that many times; the oldest fall out."""
        source = np.arange(_HISTORY)[None, :] + times.astype(np.int64)[:, None]
        kept = np.take_along_axis(self._k2, np.minimum(source, _HISTORY - 1), axis=1)
        self._k2 = np.where(source < _HISTORY, kept, held[:, None])


class Wva(Hpa):
    """K of them, a `spillway.sim.scaler.Scaler`."""

    def __init__(self, configurations: Sequence[WvaConfiguration]) -> None:
        self._analyzers = tuple(configurations)
        super().__init__(
            "wva", _DesiredReplicas(configurations), [each.hpa for each in configurations]
        )

    def describe(self, configuration: int) -> str:
        """The parameters of one configuration, for tables."""
        return str(self._analyzers[configuration])

    def only(self, configurations: Sequence[int]) -> Wva:
        """Some of its configurations, by number."""
        return Wva([self._analyzers[k] for k in configurations])


#: (up, down) utilisation.
_THRESHOLDS: Final = (
    (0.4, 0.3), (0.5, 0.4), (0.6, 0.5), (0.7, 0.55),
    (0.8, 0.65), (0.85, 0.7), (0.9, 0.8), (0.97, 0.9),
)  # fmt: skip
_DOWN_SECONDS: Final = (0.0, 120.0, 300.0)
_TOLERANCES: Final = (0.1, 0.0)


def wva() -> Wva:
    """As it ships."""
    return Wva([WvaConfiguration()])


def wva_grid() -> Wva:
    """Thresholds, stabilisation and tolerance to tune."""
    return Wva(
        [
            WvaConfiguration(up, down, down_seconds=seconds, tolerance=tolerance)
            for (up, down), seconds, tolerance in product(_THRESHOLDS, _DOWN_SECONDS, _TOLERANCES)
        ]
    )
