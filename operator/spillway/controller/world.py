"""Assembles the facts of one pool from the watches, the observer and a few reads on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from spillway.adapters.kube.endpoints import ServiceEndpoints, service_endpoints
from spillway.adapters.kube.errors import ApiError, NotFound, TargetUnsupported
from spillway.adapters.kube.revisions import update_revision
from spillway.adapters.kube.scale import ScaleTarget, ScaleWriter
from spillway.adapters.kube.selectors import Selector, parse_selector
from spillway.adapters.metrics import aged_samples, missing_for, other_models
from spillway.adapters.prices import PriceFiles
from spillway.api.inferencepool import DemandSource, Mode, Policy
from spillway.api.names import GUARD_RELEASE_ANNOTATION, KIND, ROLE_LABEL, Role
from spillway.api.timestamps import parse_time
from spillway.controller.groups import replicas_of
from spillway.controller.supply import Supply
from spillway.core.facts import (
    Contention,
    MissingData,
    PodPhase,
    PoolFacts,
    ReplicaLoad,
    TargetFacts,
    TargetKind,
)
from spillway.core.pricebook import offers
from spillway.core.reporting import REPORTING
from spillway.core.samples import owes_sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.records import PodRecord, ServiceRecord, WorkloadRecord
    from spillway.api.inferencepool import TargetRef
    from spillway.api.validation import InferencePool
    from spillway.controller.observer import Observer
    from spillway.controller.routes import Routes
    from spillway.controller.watches import Watches
    from spillway.core.facts import PodFacts
    from spillway.core.pricebook import PriceBook

log = structlog.get_logger(__name__)

_APPS = "apps/v1"


@dataclass(frozen=True, slots=True)
class _Workload:
    """A target, wherever it was read from."""

    kind: TargetKind
    resource_version: str
    spec_replicas: int
    owned: bool
    selector: Selector
    template_labels: dict[str, str]
    rolling_out: bool = False
    update_revision: str = ""


class World:
    """What the cluster looks like now."""

    def __init__(
        self,
        cluster: Cluster,
        watches: Watches,
        observer: Observer,
        scale: ScaleWriter,
        routes: Routes,
        *,
        node_lead_seconds: float,
        nodes_may_be_added: bool = True,
        price_files: PriceFiles | None = None,
    ) -> None:
        self._cluster = cluster
        self._watches = watches
        self._observer = observer
        self._scale = scale
        self._routes = routes
        self._node_lead_seconds = node_lead_seconds
        self._price_files = price_files or PriceFiles()
        self._nodes_may_be_added = nodes_may_be_added
        self._supply = Supply()
        self._shares: Mapping[str, dict[str, int]] = {}

    async def refresh_prices(self) -> None:
        """Look for changes of the price files."""
        await self._price_files.refresh()

    def count_supply(self) -> None:
        """Count the GPUs that are free, once for all pools."""
        self._supply = Supply.count(
            self._watches.seen_nodes(),
            self._watches.pods.values(),
            self._watches.quotas.values(),
            elastic=self._nodes_may_be_added,
        )

    def set_shares(self, shares: Mapping[str, dict[str, int]]) -> None:
        """What the contest for scarce GPUs leaves to each pool and variant from now on."""
        self._shares = shares

    async def facts(self, pool: InferencePool, now: float) -> PoolFacts:
        """Everything the core may know of a pool.

        Reads on demand (endpoints of draining pods, the revision of a rollout, a target of an
        unknown kind) that fail leave their fact unknown; the core then waits.
        """
        targets = {}
        for variant in pool.spec.variants:
            targets[variant.name] = await self._target(pool, variant.target_ref, now)
        gateway = self._observer.gateway(pool.namespace, pool.name, now)
        return PoolFacts(
            namespace=pool.namespace,
            name=pool.name,
            uid=pool.uid,
            generation=pool.generation,
            created_at=pool.created_at,
            spec=pool.spec,
            targets=targets,
            gateway=gateway,
            gateway_missing_since=self._gateway_missing_since(pool, now),
            missing=self._missing(pool, targets, now),
            node_lead_seconds=self._node_lead_seconds,
            resource_version=pool.resource_version,
            guard_released_at=_time_of(pool, GUARD_RELEASE_ANNOTATION),
            supply=self._supply.of(pool),
            share=self._shares.get(pool.key, {}),
            offers=offers(self._price_book(), pool.spec, targets),
            lengths=self._observer.snapshot.lengths.get((pool.namespace, pool.spec.model_name)),
            route=self._routes.facts(pool, self._observer.window_seconds, now),
        )

    def _gateway_missing_since(self, pool: InferencePool, now: float) -> float | None:
        burst = pool.spec.burst
        if burst is None or burst.driver not in REPORTING:
            return None
        return self._observer.gateway_missing_since(pool.namespace, pool.name, now)

    def _price_book(self) -> PriceBook:
        return self._price_files.book(self._observer.snapshot.node_gpu_usd)

    def past(self, pool: InferencePool) -> Sequence[tuple[float, float]]:
        """Arrivals before the start, oldest first; empty where they are not known.

        Gateways' count where the pool takes it, else the engines', unless that is only a part: of
        a pool that bursts, or of several pools that serve the same model.
        """
        past, source = self._observer.past, pool.spec.demand.source
        counted = past.gateways.get((pool.namespace, pool.name), ())
        if source is DemandSource.GATEWAY or (counted and source is DemandSource.AUTO):
            return counted
        if pool.spec.burst is not None:
            return ()
        if len(self._watches.pools_serving(pool.namespace, pool.spec.model_name)) > 1:
            return ()
        return past.engines.get((pool.namespace, pool.spec.model_name), ())

    def pods(self, pool: InferencePool) -> list[PodRecord]:
        """Pods of the pool's Deployments and StatefulSets."""
        workloads = (self._record(pool.namespace, v.target_ref) for v in pool.spec.variants)
        return [
            pod
            for workload in workloads
            if workload is not None
            for pod in self._watches.pods_of(pool.namespace, workload.selector)
        ]

    def _missing(
        self, pool: InferencePool, targets: dict[str, TargetFacts], now: float
    ) -> tuple[MissingData, ...]:
        """What is missing now; a pod that its own page vouches for is not missing.

        A watch that may be old counts as missing too: the pods may be others by now.
        """
        serving = [
            pod
            for target in targets.values()
            for pod in target.pods
            if pod.phase is PodPhase.READY and pod.role is Role.SERVING
        ]
        snapshot = self._observer.snapshot
        expected = [
            pod.name
            for pod in serving
            if pod.load is None
            and (
                snapshot.blind
                or owes_sample(pod, now)
                or (pool.namespace, pod.name) in snapshot.model_names
            )
        ]
        missing: tuple[MissingData, ...] = ()
        need_gpu = pool.spec.policy is Policy.UTILIZATION
        needs_gateway = pool.spec.demand.source is DemandSource.GATEWAY
        settled = [pod.name for pod in serving if pod.load is not None and owes_sample(pod, now)]
        if expected or needs_gateway or (need_gpu and settled):
            names = expected + (settled if need_gpu else [])
            missing = missing_for(
                snapshot,
                pool.namespace,
                pool.spec.model_name,
                names,
                need_gpu=need_gpu,
                gateway_pool=pool.name if needs_gateway else None,
            )
        aged = aged_samples(snapshot, pool.namespace, pool.spec.model_name, expected)
        return self._watches.stale() + self._other_models(pool, serving) + missing + aged

    def _other_models(
        self, pool: InferencePool, serving: Sequence[PodFacts]
    ) -> tuple[MissingData, ...]:
        """Pods that Prometheus does not know and whose own pages name other models."""
        known = self._observer.snapshot.model_names
        pages = {
            pod.name: self._observer.models(pool.namespace, pod.name, pod.uid)
            for pod in serving
            if (pool.namespace, pod.name) not in known
        }
        return other_models(pool.spec.model_name, pages)

    async def _target(self, pool: InferencePool, ref: TargetRef, now: float) -> TargetFacts:
        workload = await self._workload(pool.namespace, ref)
        if workload is None:
            return TargetFacts(kind=TargetKind.OTHER, exists=False)
        records = self._watches.pods_of(pool.namespace, workload.selector)
        services = self._services(pool.namespace, workload, records)
        with_role = [s for s in services if s.selector.get(ROLE_LABEL) == Role.SERVING]
        listed = await self._endpoints(records, with_role)
        return TargetFacts(
            kind=workload.kind,
            resource_version=workload.resource_version,
            spec_replicas=workload.spec_replicas,
            owned=workload.owned,
            rolling_out=workload.rolling_out,
            update_revision=workload.update_revision,
            role_in_selector=ROLE_LABEL in workload.selector.keys,
            service_selects_role=bool(with_role) if services else None,
            contention=self._contention(pool, ref),
            pods=tuple(
                pod.facts(
                    in_endpoints=None if listed is None else listed.lists(pod.name, pod.ip),
                    load=self._load(pool, pod, now),
                    zone=self._supply.zone(pod.node),
                    interrupted=lost,
                )
                for pod, lost in replicas_of(
                    records, self._watches.pods_of, self._supply.interrupted
                )
            ),
        )

    def _load(self, pool: InferencePool, pod: PodRecord, now: float) -> ReplicaLoad | None:
        """The pod's load, unless it serves another model than the pool's."""
        models = self._observer.models(pod.namespace, pod.name, pod.uid)
        if models and pool.spec.model_name not in models:
            return None
        return self._observer.load(pod, now)

    def _record(self, namespace: str, ref: TargetRef) -> WorkloadRecord | None:
        if ref.api_version != _APPS:
            return None
        watched = {
            "Deployment": self._watches.deployments,
            "StatefulSet": self._watches.stateful_sets,
        }.get(ref.kind)
        return None if watched is None else watched.get((namespace, ref.name))

    async def _workload(self, namespace: str, ref: TargetRef) -> _Workload | None:
        if ref.api_version == _APPS and ref.kind in {"Deployment", "StatefulSet"}:
            record = self._record(namespace, ref)
            if record is None or record.deleting:
                return None
            return _Workload(
                kind=TargetKind.DEPLOYMENT if ref.kind == "Deployment" else TargetKind.ORDINAL,
                resource_version=record.resource_version,
                spec_replicas=record.spec_replicas,
                owned=record.scale_owned,
                selector=record.selector,
                template_labels=record.template_labels,
                rolling_out=record.rolling_out,
                update_revision=await self._revision(record),
            )
        return await self._unknown_kind(ScaleTarget(namespace, ref.api_version, ref.kind, ref.name))

    async def _revision(self, record: WorkloadRecord) -> str:
        if not record.rolling_out:
            return record.update_revision
        try:
            return await update_revision(self._cluster, record)
        except ApiError as error:
            log.warning("revision unknown", target=record.name, error=error.message)
            return ""

    async def _unknown_kind(self, target: ScaleTarget) -> _Workload | None:
        """A target that no informer watches: its scale subresource says what there is to know.

        Raises:
            ApiError: The server could not be asked; the pool is held.
        """
        try:
            state = await self._scale.read(target)
        except (NotFound, TargetUnsupported) as error:
            log.warning("target not found", target=str(target), error=str(error))
            return None
        return _Workload(
            kind=TargetKind.OTHER,
            resource_version=state.resource_version,
            spec_replicas=state.replicas,
            owned=self._scale.has_written(target, state.uid),
            selector=parse_selector(state.selector),
            template_labels={},
        )

    def _services(
        self, namespace: str, workload: _Workload, pods: Sequence[PodRecord]
    ) -> list[ServiceRecord]:
        """Services that send traffic to the target's serving pods."""
        labels = workload.template_labels or (dict(pods[0].labels) if pods else {})
        labels = {**labels, ROLE_LABEL: Role.SERVING.value}
        return self._watches.services_of(namespace, labels)

    async def _endpoints(
        self, pods: Sequence[PodRecord], services: Sequence[ServiceRecord]
    ) -> ServiceEndpoints | None:
        """What the Services still list; asked only while a pod drains."""
        if not any(pod.role is Role.DRAINING for pod in pods) or not services:
            return None
        names: frozenset[str] = frozenset()
        addresses: frozenset[str] = frozenset()
        try:
            for service in services:
                listed = await service_endpoints(self._cluster, service.namespace, service.name)
                names |= listed.pods
                addresses |= listed.addresses
        except ApiError as error:
            log.warning("endpoints unknown; nobody has drained", error=error.message)
            return None
        return ServiceEndpoints(names, addresses)

    def _contention(self, pool: InferencePool, ref: TargetRef) -> Contention | None:
        """Who else scales the target: an autoscaler, or another pool that writes.

        Of two Active pools the older one has the target. One that only looks has none: it stands in
        nobody's way, and gives nothing back that is an Active pool's.
        """
        for autoscaler in self._watches.autoscalers_of(pool.namespace, ref):
            return Contention("HorizontalPodAutoscaler", autoscaler.name)
        for other in self._watches.pools_of(pool.namespace, ref):
            looks_only = pool.spec.mode is not Mode.ACTIVE
            older = (other.created_at, other.name) < (pool.created_at, pool.name)
            if other.uid != pool.uid and other.spec.mode is Mode.ACTIVE and (looks_only or older):
                return Contention(KIND, other.name)
        return None


def _time_of(pool: InferencePool, annotation: str) -> float | None:
    """The time in an annotation; None without one, and with what is no RFC 3339 time."""
    text = pool.annotations.get(annotation)
    try:
        return None if text is None else parse_time(text)
    except ValueError:
        return None
