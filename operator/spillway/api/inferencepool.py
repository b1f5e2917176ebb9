"""InferencePool v1alpha1: what users write (`InferencePoolSpec`) and what Spillway answers.

The CRD is generated from these models (`spillway.api.crd`): every docstring under a field becomes
its description, every constraint its schema. A rule between fields stands once, as a `Rule` that
says it in CEL for the API server and in Python for pydantic, and one table of objects proves that
both agree. Its parts are in `spillway.api.burst` and `spillway.api.status`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from spillway.api.burst import (
    BackendRef,
    Budget,
    Burst,
    BurstDriver,
    Provider,
    ProviderLimits,
    ProviderPrice,
    RouteRef,
)
from spillway.api.guard import Guard, GuardCeiling, GuardMode
from spillway.api.model import Model, Rule, map_list
from spillway.api.quantities import (
    Duration,
    Money,
    NotAcceptedError,
    PositiveDuration,
    PositiveRate,
    PositiveRatio,
)
from spillway.api.references import (
    ApiVersion,
    Kind,
    Name,
    ObjectName,
    UrlPath,
)
from spillway.api.schedules import Schedule
from spillway.api.status import (
    BudgetStatus,
    CapacityStatus,
    Condition,
    CostStatus,
    DecisionStatus,
    DemandStatus,
    ForecastStatus,
    GuardStatus,
    InferencePoolStatus,
    LeadTimeStatus,
    LeversStatus,
    OverflowStatus,
    PriceStatus,
    ReplicaStatus,
    SizingStatus,
)

__all__ = [
    "Accelerator",
    "BackendRef",
    "Budget",
    "BudgetStatus",
    "Burst",
    "BurstDriver",
    "CapacityStatus",
    "CapacityType",
    "Condition",
    "CostStatus",
    "DecisionStatus",
    "Demand",
    "DemandSource",
    "DemandStatus",
    "EngineMetrics",
    "ForecastStatus",
    "Guard",
    "GuardCeiling",
    "GuardMode",
    "GuardStatus",
    "InferencePoolSpec",
    "InferencePoolStatus",
    "Latency",
    "LeadTimeStatus",
    "LeversStatus",
    "Mode",
    "Model",
    "OverflowStatus",
    "Policy",
    "PriceStatus",
    "Provider",
    "ProviderLimits",
    "ProviderPrice",
    "ReplicaStatus",
    "Replicas",
    "RouteRef",
    "Scaling",
    "Schedule",
    "SizingStatus",
    "TargetRef",
    "Utilization",
    "Variant",
    "VariantCapacity",
    "VariantPrice",
    "VariantReplicas",
    "WarmPool",
]


class Mode(StrEnum):
    """What Spillway may do with a pool."""

    ACTIVE = "Active"
    ADVISE = "Advise"
    PAUSED = "Paused"


class Policy(StrEnum):
    """How the number of replicas is decided."""

    COST = "Cost"
    LATENCY = "Latency"
    UTILIZATION = "Utilization"


class CapacityType(StrEnum):
    """Whether the GPUs can be taken away at short notice."""

    ON_DEMAND = "OnDemand"
    SPOT = "Spot"


class DemandSource(StrEnum):
    """Where arrivals are counted."""

    AUTO = "Auto"
    ENGINE = "Engine"
    GATEWAY = "Gateway"


class TargetRef(Model):
    """A workload with a scale subresource in the pool's namespace."""

    rules: ClassVar = (
        Rule(
            field="",
            message="can't be changed; add a variant with another name and remove this one",
            cel="self == oldSelf",
            holds=None,
        ),
    )

    api_version: ApiVersion = "apps/v1"
    """API group and version of the workload."""
    kind: Kind = "Deployment"
    """Kind of the workload: Deployment, StatefulSet, or any kind with a scale subresource."""
    name: ObjectName
    """Name of the workload."""


class Accelerator(Model):
    """The GPUs of one replica."""

    type: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Product name as the node label nvidia.com/gpu.product has it."""
    per_replica: Annotated[int, Field(ge=1, le=1024)] = 1
    """GPUs one replica holds: tensor x pipeline x data parallel size."""


class VariantPrice(Model):
    """What the GPUs of a variant cost."""

    per_accelerator_hour: Money
    """US dollars for one GPU for one hour."""


class VariantCapacity(Model):
    """Declared capacity of one replica; without it Spillway learns it."""

    requests_per_second: PositiveRate
    """Requests per second of the pool's usual mix that one replica serves within the targets."""
    concurrency: Annotated[int, Field(ge=1, le=100_000)]
    """Requests in flight at that rate (the batch size B*)."""


class VariantReplicas(Model):
    """Bounds on the serving replicas of one variant."""

    rules: ClassVar = (
        Rule(
            field="min",
            message="must be at most variants.replicas.max",
            cel="!has(self.max) || self.min <= self.max",
            holds=lambda replicas: replicas.max is None or replicas.min <= replicas.max,
        ),
    )

    min: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Fewest serving replicas of the variant, as far as the pool wants that many."""
    max: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Most serving replicas of the variant; unset: replicas.max of the pool."""


class Variant(Model):
    """One way to run the model: a workload, its GPUs and their price."""

    name: Name
    """Name of the variant, unique in the pool."""
    target_ref: TargetRef
    """The workload that runs it. Can't be changed once set."""
    accelerator: Accelerator = Accelerator()
    """The GPUs of one replica."""
    price: VariantPrice | None = None
    """What they cost; without it the price catalog is asked."""
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    """OnDemand, or Spot: GPUs that can be taken away."""
    capacity: VariantCapacity | None = None
    """Declared capacity; without it, it is learned."""
    replicas: VariantReplicas = VariantReplicas()
    """Bounds on its serving replicas."""
    quality: PositiveRatio | None = None
    """Declared quality against the unquantized model, 0 to 1; unset counts as 1."""


class Replicas(Model):
    """Bounds on the number of replicas."""

    rules: ClassVar = (
        Rule(
            field="floor",
            message="must be at most replicas.max",
            cel="self.floor <= self.max",
            holds=lambda replicas: replicas.floor <= replicas.max,
        ),
    )

    floor: Annotated[int, Field(ge=1, le=10_000)] = 2
    """Replicas that are Ready and serving at all times."""
    max: Annotated[int, Field(ge=1, le=10_000)]
    """Most pods of the pool, warm and draining ones included."""
    survive_zone_loss: bool = False
    """Keep so many replicas that the floor (or, without burst, all of the load) is still served
    when the zone with the most of them is lost."""

    def clamp(self, replicas: int) -> int:
        """The number within floor and max."""
        return min(self.max, max(self.floor, replicas))


class Latency(Model):
    """The latency promise."""

    ttft: PositiveDuration = 2.0
    """Time to first token."""
    tpot: PositiveDuration = 0.06
    """Time per output token after the first."""
    attainment: PositiveRatio = 0.95
    """Share of requests, over five minutes, that meet both."""


_WARM_POOL_MOST: Final = 1000
_WARM_POOL_SIZE: Final = f'an integer from 0 to {_WARM_POOL_MOST} or "auto"'


def _warm_pool_size(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _WARM_POOL_MOST:
        return value
    raise NotAcceptedError(_WARM_POOL_SIZE, value)


WarmPoolSize = Annotated[
    int | Literal["auto"],
    BeforeValidator(_warm_pool_size),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "x-kubernetes-validations": [
                {
                    "rule": (
                        "type(self) == int ? self >= 0 && self <= "
                        f"{_WARM_POOL_MOST} : self == 'auto'"
                    ),
                    "message": f"must be {_WARM_POOL_SIZE}",
                }
            ],
        }
    ),
]


class WarmPool(Model):
    """Started, idle replicas outside the Service, ready to serve within seconds."""

    size: WarmPoolSize = 0
    """How many, or auto: break-even of holding them against the expected cost of a cold start."""


class Utilization(Model):
    """Figures of the classic policy (policy: Utilization)."""

    rules: ClassVar = (
        Rule(
            field="scaleDownPercent",
            message="must be below utilization.scaleUpPercent",
            cel="self.scaleDownPercent < self.scaleUpPercent",
            holds=lambda figures: figures.scale_down_percent < figures.scale_up_percent,
        ),
    )

    scale_up_percent: Annotated[int, Field(ge=1, le=100)] = 60
    """Double when the mean GPU utilisation is above this."""
    scale_up_after: Duration = 60.0
    """How long it must stay above before replicas are added."""
    scale_down_percent: Annotated[int, Field(ge=0, le=99)] = 30
    """Remove one when the mean GPU utilisation is below this."""
    scale_down_after: Duration = 600.0
    """How long it must stay below before a replica is removed."""
    queue_per_replica: Annotated[int, Field(ge=1, le=100_000)] = 4
    """A mean queue a replica beyond this counts as high utilisation, whatever the GPUs say."""


class Scaling(Model):
    """How fast the number of replicas may move."""

    persistence: Duration | None = None
    """How long demand must last before replicas are added that burst already covers; unset: until
    burst has cost what a start in vain would, (measured lead time + 30s) x GPU / API price."""
    release_window: Duration | None = None
    """How long replicas must be superfluous before they go; unset: measured lead time + 30s."""
    max_step_up: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Most replicas added in one decision."""
    max_step_down: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Most replicas drained in one decision."""
    cooldown: Duration = 0.0
    """How long after the last change of the number replicas must stay before one goes."""
    drain_timeout: Duration = 600.0
    """How long a draining replica may finish its requests before it goes all the same."""


class EngineMetrics(Model):
    """Where the engine's metrics page is, for direct scrapes."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port of the engine's metrics page."""
    path: UrlPath = "/metrics"
    """Path of the engine's metrics page."""


class Demand(Model):
    """Where demand is measured."""

    source: DemandSource = DemandSource.AUTO
    """Gateway counts every request; Engine sees only those it got; Auto takes the gateway's
    count where there is one."""


def _warm_pool_fits(spec: InferencePoolSpec) -> bool:
    size = spec.warm_pool.size
    return size == "auto" or spec.replicas.floor + size <= spec.replicas.max


def _schedules_fit(spec: InferencePoolSpec) -> bool:
    return all((s.replicas or 0) <= spec.replicas.max for s in spec.schedules)


def _targets_distinct(spec: InferencePoolSpec) -> bool:
    return len({variant.target_ref for variant in spec.variants}) == len(spec.variants)


class InferencePoolSpec(Model):
    """What a user asks for."""

    rules: ClassVar = (
        Rule(
            field="variants",
            message="must have names that are unique in the pool",
            cel="self.variants.all(a, self.variants.exists_one(b, b.name == a.name))",
            holds=lambda spec: len({v.name for v in spec.variants}) == len(spec.variants),
        ),
        Rule(
            field="variants",
            message="must each have a targetRef of their own",
            cel=(
                "self.variants.all(a, self.variants.exists_one(b, "
                "b.targetRef.apiVersion == a.targetRef.apiVersion && "
                "b.targetRef.kind == a.targetRef.kind && b.targetRef.name == a.targetRef.name))"
            ),
            holds=_targets_distinct,
        ),
        Rule(
            field="warmPool.size",
            message="must leave room for the floor: at most replicas.max - replicas.floor",
            cel=(
                "type(self.warmPool.size) != int || "
                "self.replicas.floor + int(self.warmPool.size) <= self.replicas.max"
            ),
            holds=_warm_pool_fits,
        ),
        Rule(
            field="schedules",
            message="must have names that are unique in the pool",
            cel="self.schedules.all(a, self.schedules.exists_one(b, b.name == a.name))",
            holds=lambda spec: len({s.name for s in spec.schedules}) == len(spec.schedules),
        ),
        Rule(
            field="schedules",
            message="must ask for at most replicas.max",
            cel="self.schedules.all(s, !has(s.replicas) || s.replicas <= self.replicas.max)",
            holds=_schedules_fit,
        ),
    )

    model_name: Annotated[str, Field(min_length=1, max_length=253)]
    """Model name as vLLM reports it in the label model_name."""
    mode: Mode = Mode.ACTIVE
    """Active acts; Advise computes and reports alone; Paused does nothing."""
    policy: Policy = Policy.COST
    """Cost decides in dollars; Latency never leans on burst; Utilization is the classic rule."""
    variants: Annotated[list[Variant], map_list("name", most=8)]
    """The workloads that run the model; the first is enough."""
    min_quality: PositiveRatio | None = None
    """Variants of lower declared quality get no replica; unset: any will do."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Pools of higher priority are served first where several share scarce GPUs."""
    replicas: Replicas
    """Bounds on the number of replicas."""
    latency: Latency = Latency()
    """The latency promise that replicas are sized for."""
    warm_pool: WarmPool = WarmPool()
    """Started, idle replicas outside the Service, ready to serve within seconds."""
    utilization: Utilization = Utilization()
    """Figures of the classic policy, for policy Utilization."""
    scaling: Scaling = Scaling()
    """How fast the number of replicas may move."""
    demand: Demand = Demand()
    """Where demand is measured."""
    metrics: EngineMetrics = EngineMetrics()
    """Where the engine's metrics page is."""
    burst: Burst | None = None
    """Overflow to a paid API; unset: nothing leaves."""
    guard: Guard = Guard()
    """When a runaway is suspected, and what then."""
    schedules: Annotated[list[Schedule], map_list("name", least=0, most=8)] = Field(default=[])
    """Load, or replicas, to be ready for at certain hours."""
