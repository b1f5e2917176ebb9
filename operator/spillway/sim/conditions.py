"""The world around a pool in a simulation: prices, start-up, lags, faults and drift."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from spillway.sim.profiles import PROFILES

if TYPE_CHECKING:
    from spillway.sim.profiles import ReplicaProfile

#: $3.5 an hour and the latency promise are those of the benchmark tables.
_DEFAULT_PROFILE: Final = "llama-3.1-8b-h100"


class GpuGauge(StrEnum):
    """What the GPU utilisation that scalers see stands for."""

    LOAD = "load"
    """Work finished over what saturates the replica: a gauge that means load, kinder to policies
    that scale on it than any that exists."""
    DUTY_CYCLE = "duty-cycle"
    """Share of the time in which a kernel runs, as DCGM_FI_DEV_GPU_UTIL really measures: near 1
    from a few requests in flight on."""


@dataclass(frozen=True, slots=True)
class LeadTime:
    """Time from a replica's creation to Ready: lognormal.

    Attributes:
        median_seconds: Median.
        sigma: Standard deviation of its logarithm; 0 is always the median.
    """

    median_seconds: float = 180.0
    sigma: float = 0.15


@dataclass(frozen=True, slots=True)
class Api:
    """The paid API.

    Attributes:
        input_usd_per_million: Price of a million prompt tokens.
        output_usd_per_million: Price of a million output tokens.
        ttft_seconds: Mean time to first token.
        tpot_seconds: Mean time per output token.
        late_share: Share of its answers that miss the pool's targets, 0 to 1.
        error_share: Share of attempts that fail, 0 to 1.
        billed_error_share: Share of failed attempts that are billed all the same, 0 to 1.
        retries: Attempts after the first; a request that fails them all is lost.
        requests_per_minute: Rate limit; more is refused (429), waits here or is lost.
        max_context_tokens: Longer prompts can't leave.
    """

    input_usd_per_million: float = 0.30
    output_usd_per_million: float = 0.60
    ttft_seconds: float = 0.6
    tpot_seconds: float = 0.015
    late_share: float = 0.01
    error_share: float = 0.0
    billed_error_share: float = 0.0
    retries: int = 2
    requests_per_minute: float = math.inf
    max_context_tokens: int = 131_072


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changes at a moment and that nobody is told.

    Attributes:
        at: Seconds from the trace's begin.
        until: When it is over; inf: never.
        capacity_factor: On what a replica serves (a new engine, a throttled GPU).
        prompt_factor: On prompt lengths.
        output_factor: On output lengths.
        api_price_factor: On the API's prices; scalers see prices at once.
        api_down: The API answers nothing.
        interrupted_replicas: Ready replicas that vanish at `at` (spot).
        schedulable: Whether new replicas find a GPU; else they stay Pending until it is over.
    """

    at: float
    until: float = math.inf
    capacity_factor: float = 1.0
    prompt_factor: float = 1.0
    output_factor: float = 1.0
    api_price_factor: float = 1.0
    api_down: bool = False
    interrupted_replicas: int = 0
    schedulable: bool = True


@dataclass(frozen=True, slots=True)
class Conditions:
    """Everything about the world that is not the load and not the scaler.

    Attributes:
        profile: What a replica really is.
        gpu_usd_per_replica_hour: Its price, billed from creation to the end of its drain.
        floor: Fewest serving replicas.
        max: Most replicas.
        ttft_seconds: Target.
        tpot_seconds: Target.
        attainment: Share of requests that must meet both.
        lead: Start-up.
        drain_seconds: How long a removed replica is billed on while it finishes.
        metric_lag_seconds: Age of what a scaler sees.
        told_capacity_factor: What scalers are told of capacity, over what is true.
        api: The paid API.
        changes: What happens on the way.
        burst_blind: Which requests leave is chosen at random rather than by price a GPU-second.
        gpu_gauge: What the GPU utilisation that scalers see stands for.
        scatter: Whether single requests scatter in the fluid engine; else it is a mere flow.
        seed: Of everything random.
    """

    profile: ReplicaProfile = field(default_factory=lambda: PROFILES[_DEFAULT_PROFILE])
    gpu_usd_per_replica_hour: float = 3.5
    floor: int = 1
    max: int = 1000
    ttft_seconds: float = 2.0
    tpot_seconds: float = 0.06
    attainment: float = 0.95
    lead: LeadTime = LeadTime()
    drain_seconds: float = 30.0
    metric_lag_seconds: float = 15.0
    told_capacity_factor: float = 1.0
    api: Api = Api()
    changes: tuple[Change, ...] = ()
    burst_blind: bool = False
    gpu_gauge: GpuGauge = GpuGauge.LOAD
    scatter: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a world that can't be."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
                msg = f"{item.name} must be at least 0, got {value}"
                raise ValueError(msg)
        if not 1 <= self.floor <= self.max:
            msg = f"floor must be from 1 to max ({self.max}), got {self.floor}"
            raise ValueError(msg)
        if not 0 < self.attainment < 1:
            msg = f"attainment must be above 0 and below 1, got {self.attainment}"
            raise ValueError(msg)
