"""The informers that the operator runs, and the views on them that the loops read."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from spillway.adapters.kube.informer import Informer
from spillway.adapters.kube.nodes import NodeRecord, QuotaRecord, project_node, project_quota
from spillway.adapters.kube.paths import resource_path
from spillway.adapters.kube.projections import (
    project_autoscaler,
    project_deployment,
    project_pod,
    project_service,
    project_stateful_set,
)
from spillway.adapters.kube.records import (
    AutoscalerRecord,
    PodRecord,
    ServiceRecord,
    WorkloadRecord,
    carry_pod,
)
from spillway.adapters.kube.routes import ROUTE_API, ROUTE_PLURAL, project_route
from spillway.adapters.kube.selectors import Selector, selector_matches
from spillway.api.names import API_VERSION, PLURAL, ROLE_LABEL
from spillway.api.validation import InferencePool, InvalidPoolError, parse
from spillway.core.facts import MissingData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from spillway.adapters.kube.client import Cluster
    from spillway.api.inferencepool import TargetRef
    from spillway.core.route import Route

T = TypeVar("T")
K = TypeVar("K")
Key = tuple[str, str]

#: A watch without a sign of life for this long is not current; bookmarks come about once a minute.
STALE_AFTER_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class InvalidPool:
    """A pool whose spec can't be used.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        uid: Its UID.
        generation: metadata.generation.
        message: What is wrong with which field.
        status_raw: Its status as stored.
        resource_version: metadata.resourceVersion.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    message: str
    status_raw: Mapping[str, Any]
    resource_version: str

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


def project_pool(raw: dict[str, Any]) -> InferencePool | InvalidPool:
    """A pool, or what is wrong with it; one bad object must not stop the others."""
    # The status is our own word, and managedFields nobody's: both change with each of our writes,
    # are most of a stored pool, and hold nothing that a user could have got wrong.
    status, meta = raw.get("status"), raw.get("metadata")
    if isinstance(meta, dict):
        meta = {name: value for name, value in meta.items() if name != "managedFields"}
    bare = {name: value for name, value in raw.items() if name != "status"} | {"metadata": meta}
    try:
        pool = parse(bare)
        return replace(pool, status_raw=status) if isinstance(status, dict) else pool
    except InvalidPoolError as error:
        meta = raw["metadata"]
        return InvalidPool(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            generation=int(meta.get("generation", 0)),
            message=str(error),
            status_raw=status if isinstance(status, dict) else {},
            resource_version=str(meta.get("resourceVersion", "")),
        )


class Watched(Generic[T]):
    """One resource in all watched namespaces."""

    def __init__(self, informers: Sequence[Informer[T]]) -> None:
        self.informers = informers

    def get(self, key: Key) -> T | None:
        """The record of a (namespace, name); None where there is none."""
        for informer in self.informers:
            record = informer.store.get(key)
            if record is not None:
                return record
        return None

    def values(self) -> Iterator[T]:
        """All records."""
        for informer in self.informers:
            yield from informer.store.values()

    def on_change(self, callback: Callable[[Key], None]) -> None:
        """Call back whenever a record appears, changes or goes."""
        for informer in self.informers:
            informer.on_change(callback)

    def stale(self) -> list[str]:
        """Paths of the watches that have been silent for too long."""
        now = time.monotonic()
        return [
            informer.path
            for informer in self.informers
            if (age := informer.age_seconds(now)) is None or age > STALE_AFTER_SECONDS
        ]


class Watches:
    """Everything that the operator watches.

    Attributes:
        pools: InferencePools, valid or not.
        pods: Pods.
        deployments: Deployments.
        stateful_sets: StatefulSets.
        services: Services with a selector.
        autoscalers: HorizontalPodAutoscalers (KEDA's included).
        nodes: Nodes with GPUs; None where they are not to be watched.
        quotas: ResourceQuotas that bound GPUs.
        routes: HTTPRoutes of the Gateway API, where it is installed.
    """

    def __init__(
        self, cluster: Cluster, namespaces: Sequence[str], *, with_nodes: bool = True
    ) -> None:
        scopes: Sequence[str | None] = list(namespaces) or [None]

        def watch(
            api: str, plural: str, project: Callable[[dict[str, Any]], T | None], **options: Any
        ) -> Watched[T]:
            return Watched(
                [
                    Informer(cluster, resource_path(api, plural, scope), project, **options)
                    for scope in scopes
                ]
            )

        self.pools: Watched[InferencePool | InvalidPool] = watch(API_VERSION, PLURAL, project_pool)
        self.pods: Watched[PodRecord] = watch("v1", "pods", project_pod, carry=carry_pod)
        self.deployments: Watched[WorkloadRecord] = watch(
            "apps/v1", "deployments", project_deployment
        )
        self.stateful_sets: Watched[WorkloadRecord] = watch(
            "apps/v1", "statefulsets", project_stateful_set
        )
        self.services: Watched[ServiceRecord] = watch("v1", "services", project_service)
        self.autoscalers: Watched[AutoscalerRecord] = watch(
            "autoscaling/v2", "horizontalpodautoscalers", project_autoscaler
        )
        # What these say is a help, and no pool waits for it.
        self.quotas: Watched[QuotaRecord] = watch("v1", "resourcequotas", project_quota)
        self.routes: Watched[Route] = watch(ROUTE_API, ROUTE_PLURAL, project_route)
        self.nodes: Watched[NodeRecord] | None = None
        if with_nodes:
            nodes = Informer(cluster, resource_path("v1", "nodes", None), project_node)
            self.nodes = Watched([nodes])
        self._pods_by_label: dict[str, _Index[PodRecord, tuple[str, str]]] = {}
        self._services_by_label = _Index(self.services, _service_terms)
        self._workloads_by_label = (
            _Index(self.deployments, _workload_terms),
            _Index(self.stateful_sets, _workload_terms),
        )
        self._autoscalers_by_target = _Index(
            self.autoscalers,
            lambda a: [(a.namespace, a.target_api_version, a.target_kind, a.target_name)],
        )
        self._pools_by_target = _Index(self.pools, _targets)
        self._pools_by_model = _Index(self.pools, _models)

    def _all(self) -> list[Watched[Any]]:
        return [
            self.pools,
            self.pods,
            self.deployments,
            self.stateful_sets,
            self.services,
            self.autoscalers,
        ]

    def start(self) -> list[asyncio.Task[None]]:
        """Run every informer; cancel the tasks to stop."""
        helpful: list[Watched[Any]] = [self.quotas, self.routes]
        if self.nodes is not None:
            helpful.append(self.nodes)
        return [
            asyncio.create_task(informer.run(), name=f"informer {informer.path}")
            for watched in [*self._all(), *helpful]
            for informer in watched.informers
        ]

    async def synced(self) -> None:
        """Wait until everything but the pools was listed once (their CRD may come later)."""
        for watched in self._all()[1:]:
            for informer in watched.informers:
                await informer.synced.wait()

    def seen_nodes(self) -> list[NodeRecord] | None:
        """Nodes with GPUs; None while they can't be seen."""
        if self.nodes is None or self.nodes.stale():
            return None
        return list(self.nodes.values())

    def routes_unseen(self) -> bool:
        """Whether nobody can tell yet which HTTPRoutes there are."""
        return any(
            not informer.synced.is_set() and not informer.last_error
            for informer in self.routes.informers
        )

    def routes_error(self) -> str:
        """Why HTTPRoutes can't be seen, for a person; "" while they can."""
        errors = (informer.last_error for informer in self.routes.informers)
        return next((error for error in errors if error), "")

    @property
    def listed(self) -> bool:
        """Whether the pools were listed once, or are known not to exist."""
        return all(i.synced.is_set() or i.missing for i in self.pools.informers)

    def stale(self) -> tuple[MissingData, ...]:
        """Watches that may be old; while there is one, nothing may be reduced."""
        silent = f"no sign of life for more than {STALE_AFTER_SECONDS:.0f} s"
        return tuple(
            MissingData(query=f"watch {path}", seen=silent)
            for watched in self._all()
            for path in watched.stale()
        )

    def unlisted(self) -> list[str]:
        """What `synced` still waits for, each with the last error, for a person."""
        return [
            f"{informer.path} ({informer.last_error or 'no answer yet'})"
            for watched in self._all()[1:]
            for informer in watched.informers
            if not informer.synced.is_set()
        ]

    def pods_of(self, namespace: str, selector: Selector) -> list[PodRecord]:
        """Pods of a namespace that a selector selects; none for an empty selector."""
        if not selector.requirements:
            return []
        candidates: Iterable[PodRecord] = self.pods.values()
        term = _equality(selector)
        if term is not None:
            candidates = self._by_label(term[0]).get((namespace, term[1]))
        return [
            pod
            for pod in candidates
            if pod.namespace == namespace and selector_matches(selector, pod.labels)
        ]

    def _by_label(self, label: str) -> _Index[PodRecord, tuple[str, str]]:
        if label not in self._pods_by_label:
            self._pods_by_label[label] = _Index(
                self.pods,
                lambda pod: [(pod.namespace, pod.labels[label])] if label in pod.labels else [],
            )
        return self._pods_by_label[label]

    def services_of(self, namespace: str, labels: Mapping[str, str]) -> list[ServiceRecord]:
        """Services of a namespace that select a pod with these labels."""
        return [
            service
            for label, value in labels.items()
            for service in self._services_by_label.get((namespace, label, value))
            if service.selects(labels)
        ]

    def pools_of_pod(self, pod: PodRecord) -> list[InferencePool]:
        """Valid pools one of whose workloads selects the pod."""
        return [
            pool
            for index in self._workloads_by_label
            for term in [*pod.labels.items(), _NO_TERM]
            for workload in index.get((pod.namespace, *term))
            if selector_matches(workload.selector, pod.labels)
            for pool in self.pools_of_workload(workload)
        ]

    def pools_of_workload(self, workload: WorkloadRecord) -> list[InferencePool]:
        """Valid pools that name the workload as a target."""
        return self._naming(
            (workload.namespace, workload.api_version, workload.kind, workload.name)
        )

    def autoscalers_of(self, namespace: str, ref: TargetRef) -> list[AutoscalerRecord]:
        """Autoscalers of a target."""
        return self._autoscalers_by_target.get((namespace, ref.api_version, ref.kind, ref.name))

    def pools_of(self, namespace: str, ref: TargetRef) -> list[InferencePool]:
        """Valid pools that name a target."""
        return self._naming((namespace, ref.api_version, ref.kind, ref.name))

    def pools_serving(self, namespace: str, model_name: str) -> list[InferencePool]:
        """Valid pools of a namespace that serve a model."""
        found = self._pools_by_model.get((namespace, model_name))
        return [pool for pool in found if isinstance(pool, InferencePool)]

    def _naming(self, target: tuple[str, str, str, str]) -> list[InferencePool]:
        found = self._pools_by_target.get(target)
        return [pool for pool in found if isinstance(pool, InferencePool)]


#: Where a selector has no term of the form key=value, all pods of the namespace are candidates.
_NO_TERM: Final = ("", "")


def _equality(selector: Selector) -> tuple[str, str] | None:
    """The first term of the form key=value; the key of an index."""
    for requirement in selector.requirements:
        if requirement.operator == "In" and len(requirement.values) == 1:
            return requirement.key, requirement.values[0]
    return None


def _workload_terms(workload: WorkloadRecord) -> list[tuple[str, str, str]]:
    return [(workload.namespace, *(_equality(workload.selector) or _NO_TERM))]


def _service_terms(service: ServiceRecord) -> list[tuple[str, str, str]]:
    """One term: the role is the same in all of them, so another where there is one."""
    terms = sorted(service.selector.items(), key=lambda term: (term[0] == ROLE_LABEL, term))
    return [(service.namespace, *terms[0])] if terms else []


def _targets(pool: InferencePool | InvalidPool) -> list[tuple[str, str, str, str]]:
    if isinstance(pool, InvalidPool):
        return []
    refs = (variant.target_ref for variant in pool.spec.variants)
    return [(pool.namespace, ref.api_version, ref.kind, ref.name) for ref in refs]


def _models(pool: InferencePool | InvalidPool) -> list[tuple[str, str]]:
    return [] if isinstance(pool, InvalidPool) else [(pool.namespace, pool.spec.model_name)]


class _Index(Generic[T, K]):
    """Records by a key. What has changed is noted, and looked at when the index is asked next.

    Without it, a thousand pools that each look through a thousand of something are a million
    comparisons at each tick; made anew after each change, it would itself be ten thousand pods
    for each one that comes or goes.
    """

    def __init__(self, watched: Watched[T], keys_of: Callable[[T], Iterable[K]]) -> None:
        self._watched = watched
        self._keys_of = keys_of
        self._buckets: dict[K, dict[Key, T]] = {}
        self._filed: dict[Key, list[K]] = {}
        # A dict for its order: records stay in that in which they came.
        self._changed = dict.fromkeys(key for i in watched.informers for key in i.store)
        watched.on_change(self._note)

    def _note(self, name: Key) -> None:
        self._changed[name] = None

    def get(self, key: K) -> list[T]:
        """Records with this key."""
        if self._changed:
            changed, self._changed = self._changed, {}
            for name in changed:
                self._file(name)
        return list(self._buckets.get(key, {}).values())

    def _file(self, name: Key) -> None:
        """Put a record where it belongs now."""
        record = self._watched.get(name)
        keys = [] if record is None else list(dict.fromkeys(self._keys_of(record)))
        for key in self._filed.pop(name, ()):
            if key not in keys:
                bucket = self._buckets[key]
                bucket.pop(name, None)
                if not bucket:
                    del self._buckets[key]
        if record is None or not keys:
            return
        self._filed[name] = keys
        for key in keys:
            self._buckets.setdefault(key, {})[name] = record
