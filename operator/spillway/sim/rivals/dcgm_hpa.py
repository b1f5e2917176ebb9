"""The baseline of a well-known guide: an HPA on DCGM_FI_DEV_GPU_UTIL with careful policies.

Target 70, 2 to 20 replicas, up by two pods a minute after 60 s of stabilisation, down by one pod in
two minutes after 300 s. As published, 20 replicas are the most it asks for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from spillway.sim.rivals.behavior import Behavior, PolicyType, ScalingPolicy, ScalingRules
from spillway.sim.rivals.hpa import GpuUtilization, Hpa, HpaConfiguration

_UP: Final = ScalingRules((ScalingPolicy(PolicyType.PODS, 2, 60),), 60.0)
_DOWN: Final = ScalingRules((ScalingPolicy(PolicyType.PODS, 1, 120),), 300.0)
PUBLISHED: Final = HpaConfiguration(70.0, Behavior(_UP, _DOWN), floor=2, max=20)
"""As published."""

_TARGETS: Final = (40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0)
#: Two pods of twenty a minute and one of twenty in two minutes, for pools of another size.
_UP_POLICIES: Final = (
    *_UP.policies,
    ScalingPolicy(PolicyType.PERCENT, 10, 60),
    ScalingPolicy(PolicyType.PERCENT, 50, 60),
)
_DOWN_POLICIES: Final = (
    *_DOWN.policies,
    ScalingPolicy(PolicyType.PERCENT, 5, 120),
    ScalingPolicy(PolicyType.PERCENT, 50, 120),
)
_UP_SECONDS: Final = (0.0, 60.0)
_DOWN_SECONDS: Final = (60.0, 300.0)


def dcgm_hpa() -> Hpa:
    """As published."""
    return Hpa("dcgm-hpa", GpuUtilization(), [PUBLISHED])


def dcgm_hpa_grid() -> Hpa:
    """Targets, windows and speeds to tune, up to the pool's own max."""
    each = [
        HpaConfiguration(
            target,
            Behavior(
                replace(_UP, policies=(up,), stabilization_seconds=up_seconds),
                replace(_DOWN, policies=(down,), stabilization_seconds=down_seconds),
            ),
            floor=2,
        )
        for target in _TARGETS
        for up, down in zip(_UP_POLICIES, _DOWN_POLICIES, strict=True)
        for up_seconds in _UP_SECONDS
        for down_seconds in _DOWN_SECONDS
    ]
    return Hpa("dcgm-hpa", GpuUtilization(), each)
