"""What set the number of replicas, as the status says it: the comparison and its turning points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.api.inferencepool import Policy, SizingStatus
from spillway.api.quantities import figure
from spillway.core.peaks import with_peaks
from spillway.core.thresholds import Thresholds, by_marginal_rule, by_quantile

if TYPE_CHECKING:
    from spillway.api.inferencepool import InferencePoolSpec
    from spillway.core.decision import Decision

_NONE = Thresholds(None, None)


def sizing_status(spec: InferencePoolSpec, decision: Decision) -> SizingStatus:
    """The comparison behind a decision."""
    money = decision.economics
    turning = _thresholds(spec, decision)
    return SizingStatus(
        proposed=decision.proposed,
        reason=decision.notes[0].reason.value,
        gpu_per_replica_hour=_figure(money.gpu_per_replica_hour),
        api_per_replica_hour=_figure(money.api_per_replica_hour),
        provider=money.provider or "",
        add_above=_figure(turning.add_above),
        remove_below=_figure(turning.remove_below),
        api_add_above=_figure(turning.api_add_above),
        api_remove_below=_figure(turning.api_remove_below),
    )


def _thresholds(spec: InferencePoolSpec, decision: Decision) -> Thresholds:
    forecast, mu, money = decision.forecast, decision.mu, decision.economics
    if forecast is None or mu <= 0 or spec.policy is Policy.UTILIZATION:
        return _NONE
    g, a = money.gpu_per_replica_hour, money.api_per_replica_hour
    if spec.policy is Policy.COST and decision.burst_usable and g is not None and a is not None:
        felt = with_peaks(forecast, decision.peak_share)
        return by_marginal_rule(felt, decision.desired, mu, g, a)
    return by_quantile(forecast, decision.desired, mu, spec.latency.attainment)


def _figure(value: float | None) -> float | None:
    return None if value is None else figure(value)
