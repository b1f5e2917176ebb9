"""What the control API takes: pools, rates and faults, checked on arrival."""

from __future__ import annotations

from dataclasses import fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spillway.api.names import ROLE_LABEL, Role
from spillway.sim.profiles import ReplicaProfile, profile_named
from spillway.sim.workload import RateProfile, TokenMix, mix_named

if TYPE_CHECKING:
    from collections.abc import Mapping

Name = Annotated[str, Field(min_length=1, max_length=253)]
Rate = Annotated[float, Field(ge=0, le=100_000)]
Overrides = dict[str, Annotated[float, Field(allow_inf_nan=False)]]
PresetT = TypeVar("PresetT", ReplicaProfile, TokenMix)
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Body(BaseModel):
    """A request body; what it does not know is an error, so that a typo is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RouterMode(StrEnum):
    """How a pool's router turns the overflow value into traffic."""

    NONE = "none"
    FRACTION = "fraction"
    """By chance, with the value's fraction, as weights do."""
    ADMIT = "admit"
    """Local up to ``admit``, the rest to the cloud, as the edge Envoy does."""


class ProviderSettings(Body):
    """A paid API: its prices and its speed."""

    name: Name
    input_usd_per_million: Dollars
    output_usd_per_million: Dollars
    ttft_seconds: Annotated[float, Field(ge=0)] = 0.5
    tpot_seconds: Annotated[float, Field(ge=0)] = 0.015

    def usd(self, prompt_tokens: int, output_tokens: int) -> float:
        """What a request costs."""
        return (
            prompt_tokens * self.input_usd_per_million + output_tokens * self.output_usd_per_million
        ) / 1e6


class ProfileSettings(Body):
    """A built-in replica profile, with fields of `ReplicaProfile` replaced where given."""

    preset: str = "llama-3.1-8b-l40s"
    overrides: Overrides = {}

    def build(self) -> ReplicaProfile:
        """The profile.

        Raises:
            ValueError: Unknown preset or field, or a value that the profile refuses.
        """
        return _overridden(profile_named(self.preset), self.overrides)


class WorkloadSettings(Body):
    """Lengths of a pool's requests: a built-in mix with fields of `TokenMix` replaced."""

    mix: str = "chat"
    overrides: Overrides = {}
    seed: int = 1

    def build(self) -> TokenMix:
        """The mix.

        Raises:
            ValueError: Unknown mix or field, or a value that the mix refuses.
        """
        return _overridden(mix_named(self.mix), self.overrides)


def _overridden(preset: PresetT, overrides: Mapping[str, float]) -> PresetT:
    known = {item.name: getattr(preset, item.name) for item in fields(preset)}
    numbers = {name: type(value) for name, value in known.items() if not isinstance(value, str)}
    for name in overrides:
        if name not in numbers:
            msg = f"overrides: must be of {', '.join(numbers)}; got {name!r}"
            raise ValueError(msg)
        if numbers[name] is int and not overrides[name].is_integer():
            msg = f"overrides: {name} must be a whole number, got {overrides[name]}"
            raise ValueError(msg)
    return replace(preset, **{name: numbers[name](value) for name, value in overrides.items()})


class LatencyTargets(Body):
    """What attainment is measured against."""

    ttft_seconds: Annotated[float, Field(gt=0)] = 2.0
    tpot_seconds: Annotated[float, Field(gt=0)] = 0.06


class PoolSettings(Body):
    """A pool: whose pods, what they run, who asks, and where overflow may go."""

    namespace: Name
    name: Name
    selector: Annotated[dict[str, str], Field(min_length=1)]
    """Labels of the pool's pods."""
    service_selector: dict[str, str] = {ROLE_LABEL: Role.SERVING}
    """Labels that a Ready pod needs besides to get requests, as the Service's selector has them."""
    model_name: Name
    profile: ProfileSettings = ProfileSettings()
    data_parallel_size: Annotated[int, Field(ge=1, le=64)] = 1
    """Engines in a pod, each with its own ``engine`` label."""
    workload: WorkloadSettings = WorkloadSettings()
    requests_per_second: Rate = 0.0
    router: RouterMode = RouterMode.NONE
    providers: Annotated[list[ProviderSettings], Field(max_length=8)] = []
    latency: LatencyTargets = LatencyTargets()
    old_metric_names: bool = False
    """Serve the names of vLLM before 0.11: gpu_cache_usage_perc, time_per_output_token_seconds."""
    http_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port of each pod's HTTP (`front`). A gateway that counts for itself is before such a pool."""
    shutdown_grace_seconds: Annotated[float, Field(ge=0)] = 0.0
    """How long a deleted pod finishes what it has; 0 aborts at once, as vLLM does on SIGTERM."""

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        profile, mix = self.profile.build(), self.workload.build()
        longest = mix.max_prompt_tokens + mix.max_output_tokens
        if longest > profile.kv_capacity_tokens:
            msg = (
                f"workload: max_prompt_tokens + max_output_tokens must fit the profile's "
                f"kv_capacity_tokens ({profile.kv_capacity_tokens}), got {longest}"
            )
            raise ValueError(msg)
        return self


class RateSettings(Body):
    """A new rate: constant, or points of (seconds from now, requests per second)."""

    pool: Name
    """``namespace/name``."""
    requests_per_second: Rate | None = None
    profile: Annotated[list[tuple[float, Rate]], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.requests_per_second is None) == (self.profile is None):
            msg = "give exactly one of requests_per_second and profile"
            raise ValueError(msg)
        self.build(0.0)
        return self

    def build(self, now: float) -> RateProfile:
        """The profile that starts at ``now``."""
        points = self.profile or [(0.0, self.requests_per_second or 0.0)]
        return RateProfile([(now + after, rate) for after, rate in points])


class MetricsFault(StrEnum):
    """What the metrics page does."""

    OK = "ok"
    HANG = "hang"
    """Accepts and never answers."""
    ERROR = "error"
    """Answers 500."""


class Fault(Body):
    """What is wrong with a pod; all defaults is healthy."""

    hung: bool = False
    """The engine takes requests and does no step."""
    gpu_utilization: Annotated[float, Field(ge=0, le=100)] | None = None
    """DCGM_FI_DEV_GPU_UTIL says this, whatever the engine does."""
    gpu_missing: bool = False
    """DCGM does not know the pod."""
    metrics: MetricsFault = MetricsFault.OK
    model_name: str | None = None
    """The metrics page names this model."""
    nan: bool = False
    """The metrics page's gauges are NaN."""


class FaultSettings(Fault):
    """Replaces the fault of a pod, or of every pod of a pool, present and future."""

    pool: Name
    """``namespace/name``."""
    pod: Name | None = None

    def fault(self) -> Fault:
        """The fault alone."""
        return Fault(**self.model_dump(exclude={"pool", "pod"}))


class OperatorSettings(Body):
    """Where the operator's replicas serve the overflow value."""

    urls: list[str]
