"""What is known of a pool at one moment, as plain values.

Adapters (or the simulator) build these; the core reads them and nothing else. ``None`` always means
*not known*, never zero. Times are seconds since the Unix epoch, durations seconds, ratios 0 to 1.
"""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from typing import TYPE_CHECKING

from spillway.core.prices import NO_OFFERS, Offers
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.api.inferencepool import InferencePoolSpec
    from spillway.api.names import Role
    from spillway.api.reasons import Reason


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """One replica's load as its engine and its GPUs report it (data-parallel ranks summed).

    Attributes:
        sampled_at: When the engine was sampled (not when it was asked for).
        running: Requests in the running batch.
        waiting: Requests queued for capacity: the queue that says how much is asked for.
        waiting_all: All queued requests, those that the engine has deferred for its own ends
            included: a replica without any may go.
        kv_usage: Share of the KV cache in use, 0 to 1.
        running_mean: Mean of ``running`` over the rate window.
        in_flight_change_per_second: Slope of running + waiting over the rate window.
        finished_per_second: Requests completed per second over the rate window.
        prompt_tokens_per_second: Prompt tokens per second, cached ones included.
        generation_tokens_per_second: Output tokens per second.
        prefix_hit_tokens_per_second: Prompt tokens per second that the prefix cache answered.
        steps_per_second: Engine steps per second (iteration_tokens_total's count).
        gpu_utilization: DCGM's GPU utilisation, mean over the replica's GPUs, 0 to 1.
        engines: Data-parallel ranks of the replica, each of which steps for itself.
    """

    sampled_at: float
    running: float
    waiting: float
    waiting_all: float | None = None
    kv_usage: float | None = None
    running_mean: float | None = None
    in_flight_change_per_second: float | None = None
    finished_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    generation_tokens_per_second: float | None = None
    prefix_hit_tokens_per_second: float | None = None
    steps_per_second: float | None = None
    gpu_utilization: float | None = None
    engines: int = 1

    @property
    def in_flight(self) -> float:
        """Requests on the replica, running and waiting."""
        return self.running + self.waiting


class PodPhase(StrEnum):
    """How far a pod is on its way to serve and away from it."""

    UNSCHEDULABLE = "unschedulable"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    """Was ready once and is not now, or failed."""
    TERMINATING = "terminating"


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One replica's pod.

    Attributes:
        name: Pod name; unique in the pool's namespace.
        uid: Pod UID.
        resource_version: What a write to this pod must carry.
        role: From the role label; a pod without it serves.
        phase: See `PodPhase`.
        created_at: Creation time.
        phase_since: When the pod came into ``phase``.
        ready_at: First time it was Ready, if it ever was.
        revision: pod-template-hash or controller-revision-hash.
        ip: Pod IP, once assigned.
        node: Node name, once scheduled.
        ordinal: StatefulSet ordinal, else None.
        drain_deadline: From the annotation; None where there is none.
        deletion_cost: From the annotation; 0 where there is none.
        in_endpoints: Whether an EndpointSlice of the pool's Service lists it; None if unknown.
        load: Latest sample; None where none is fresh.
        has_readiness_probe: Whether any container declares one.
        zone: Availability zone of its node; None while it has none, or where nodes can't be seen.
        interrupted: Its node has been given notice (a spot interruption, a node that goes): it
            serves on while it can and counts as lost.
    """

    name: str
    uid: str
    resource_version: str
    role: Role
    phase: PodPhase
    created_at: float
    phase_since: float
    ready_at: float | None = None
    revision: str = ""
    ip: str | None = None
    node: str | None = None
    ordinal: int | None = None
    drain_deadline: float | None = None
    deletion_cost: int = 0
    in_endpoints: bool | None = None
    load: ReplicaLoad | None = None
    has_readiness_probe: bool = True
    zone: str | None = None
    interrupted: bool = False


class TargetKind(StrEnum):
    """How a scale target picks its victims, which decides what Spillway may do with it."""

    DEPLOYMENT = "Deployment"
    """Honours pod-deletion-cost."""
    ORDINAL = "Ordinal"
    """StatefulSet, LeaderWorkerSet: the highest ordinal goes."""
    OTHER = "Other"
    """Unknown: scaled, but neither warm pool nor drain."""


@dataclass(frozen=True, slots=True)
class Contention:
    """Somebody else who also sets the target's replicas.

    Attributes:
        kind: ``HorizontalPodAutoscaler`` or ``InferencePool``.
        name: Its name, in the pool's namespace.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """A scale target and its pods.

    Attributes:
        kind: See `TargetKind`.
        exists: False when the reference leads nowhere; the rest is then meaningless.
        resource_version: Of the scale subresource; a write must carry it.
        spec_replicas: What is asked for now.
        owned: Whether Spillway's field manager owns spec.replicas.
        rolling_out: A rollout is under way (observed generation behind, or old-revision pods).
        update_revision: The revision that a rollout moves to; "" if unknown.
        role_in_selector: The target's own selector names the role label (a flip would orphan pods).
        service_selects_role: Whether the Service before these pods selects role=serving; None when
            no Service selects them.
        contention: Another owner of spec.replicas, if any.
        pods: All pods of the target, terminating ones included.
    """

    kind: TargetKind
    exists: bool = True
    resource_version: str = ""
    spec_replicas: int = 0
    owned: bool = False
    rolling_out: bool = False
    update_revision: str = ""
    role_in_selector: bool = False
    service_selects_role: bool | None = None
    contention: Contention | None = None
    pods: tuple[PodFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuSupply:
    """GPUs that more replicas of a variant could get.

    Attributes:
        free: GPUs of its kind on nodes that take pods and that no pod has asked for; None where
            nodes can't be seen.
        elastic: Nodes may be added (an autoscaler), so that ``free`` is no bound.
        quota_left: GPUs that the namespace's ResourceQuota leaves; None where there is no quota.
        zones: Availability zones of the nodes of its kind.
    """

    free: int | None = None
    elastic: bool = True
    quota_left: int | None = None
    zones: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GatewayLoad:
    """Traffic upstream of the split, as the pool's gateway counts it.

    Attributes:
        sampled_at: When the counters were sampled.
        arrivals_per_second: All requests per second, local and cloud, over the rate window.
        cloud_per_second: Of these, sent to a paid API.
        cloud_requests_total: Requests sent to the cloud since the gateway's counters began (summed
            over gateways; resets already taken out).
        cloud_usd_total: What they cost by the gateway's own count, or None.
        in_flight: Requests in flight to local replicas.
        failing_by_provider: Share of the attempts there that failed, over the rate window, of each
            provider that was tried.
        cache_hits_per_second: Requests that the gateway's cache answered; none of the arrivals.
        cache_saved_tokens_per_second: Prompt and output tokens of these.
        routed_per_second: Arrivals that the gateway's routing by complexity sent here.
        top_talker: Who sends most tokens, where the gateway tells its tenants apart; else "".
        top_talker_share: Share of all tokens that it sends, 0 to 1; None where that is not known.
    """

    sampled_at: float
    arrivals_per_second: float
    cloud_per_second: float = 0.0
    cloud_requests_total: float | None = None
    cloud_usd_total: float | None = None
    in_flight: float | None = None
    failing_by_provider: Mapping[str, float] = field(default_factory=dict)
    cache_hits_per_second: float = 0.0
    cache_saved_tokens_per_second: float = 0.0
    routed_per_second: float = 0.0
    top_talker: str = ""
    top_talker_share: float | None = None


@dataclass(frozen=True, slots=True)
class LengthQuantiles:
    """How long the requests of the last minutes were, in tokens; None where that is not known.

    Attributes:
        prompt_p50: Median prompt, cached tokens included.
        prompt_p95: 95th percentile of the prompts.
        output_p50: Median answer.
        output_p95: 95th percentile of the answers.
    """

    prompt_p50: float | None = None
    prompt_p95: float | None = None
    output_p50: float | None = None
    output_p95: float | None = None


@dataclass(frozen=True, slots=True)
class MissingData:
    """A signal that was asked for and is not there.

    Attributes:
        query: The PromQL, or the address, that came back empty, stale or failed.
        seen: What was there instead (model names, the error, the age), for a person.
    """

    query: str
    seen: str


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """The HTTPRoute whose weights carry the pool's split.

    Attributes:
        problem: Why it can't carry it; None while it can.
        message: What was looked for and what is there; "" without a problem.
        cloud_share: Share of the arrivals that left over the rate window, by the weights that the
            gateway had accepted; None where it was not known all the time.
    """

    problem: Reason | None = None
    message: str = ""
    cloud_share: float | None = None


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """Everything the core may know of one pool at ``now``.

    Attributes:
        namespace: The pool's namespace.
        name: The pool's name.
        uid: The pool's UID.
        generation: metadata.generation that ``spec`` is from.
        created_at: Creation time of the pool.
        spec: Validated spec.
        targets: By variant name.
        gateway: Traffic upstream of the split, where a gateway reports it.
        missing: Signals that are missing now; empty when all is well.
        supply: GPUs to be had, by variant name; a variant that it lacks is not bounded.
        share: Serving replicas that the pools' contest for scarce GPUs leaves to each variant; a
            variant that it lacks is in no contest.
        node_lead_seconds: Usual time for a node to appear; a pod unschedulable for longer is
            shortage, for less is starting.
        resource_version: Of the pool's object; what a write to it must carry. "" for a pool that
            was never stored.
        offers: Prices of what the spec declares none for, from sources outside of it.
        lengths: How request lengths are distributed; None where the engines do not say.
        guard_released_at: Time in the guard's release annotation; None without one.
        route: The route that burst goes through; None with drivers that have none.
        gateway_missing_since: Since when no fresh series of the pool's gateway was seen; None while
            one is.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    created_at: float
    spec: InferencePoolSpec
    targets: dict[str, TargetFacts]
    gateway: GatewayLoad | None = None
    missing: tuple[MissingData, ...] = ()
    supply: dict[str, GpuSupply] = field(default_factory=dict)
    share: dict[str, int] = field(default_factory=dict)
    node_lead_seconds: float = 300.0
    resource_version: str = ""
    offers: Offers = NO_OFFERS
    lengths: LengthQuantiles | None = None
    guard_released_at: float | None = None
    route: RouteFacts | None = None
    gateway_missing_since: float | None = None

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"
