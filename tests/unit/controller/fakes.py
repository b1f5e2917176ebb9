"""Small stand-ins at the controller's seams: the API server's objects, the writers, the metrics.

Everything between the seams is the real thing. Whatever is written goes into one `Journal`, so that
a test can assert an order.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from spillway.adapters.kube.errors import ApiError, Conflict, NotFound, Unavailable
from spillway.adapters.kube.records import (
    AutoscalerRecord,
    PodRecord,
    ServiceRecord,
    WorkloadRecord,
)
from spillway.adapters.kube.routes import project_route
from spillway.adapters.kube.selectors import Requirement, Selector
from spillway.adapters.metrics import (
    ArrivalHistory,
    EnginePage,
    MetricsSnapshot,
    ScrapeError,
    ScrapeFailure,
)
from spillway.adapters.telemetry import Telemetry
from spillway.api.names import ROLE_LABEL, Role
from spillway.api.timestamps import format_time
from spillway.controller.observer import Observer
from spillway.controller.routes import Routes
from spillway.controller.teller import Teller
from spillway.controller.watches import InvalidPool, Watched, Watches, project_pool
from spillway.controller.world import World
from spillway.core.facts import PodPhase, ReplicaLoad
from spillway.core.route import Route
from tests.unit.patching import patched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.pods import PodChange
    from spillway.adapters.kube.routes import RouteWriter
    from spillway.adapters.kube.scale import ScaleState, ScaleTarget
    from spillway.adapters.metrics import EngineScraper, PrometheusSource, ScrapeTarget
    from spillway.api.validation import InferencePool
    from spillway.core.route import Operation

NAMESPACE = "serving"
MODEL = "m"


class Journal(list[tuple[Any, ...]]):
    """What was written, in order."""

    def of(self, *kinds: str) -> list[tuple[Any, ...]]:
        """Entries of some kinds."""
        return [entry for entry in self if entry[0] in kinds]


# Objects


def pool_object(name: str = "pool", **changes: Any) -> dict[str, Any]:
    """An InferencePool as the API server stores it; ``changes`` go over spec or metadata."""
    meta = {
        "namespace": changes.pop("namespace", NAMESPACE),
        "name": name,
        "uid": changes.pop("uid", f"uid-{name}"),
        "generation": changes.pop("generation", 1),
        "resourceVersion": "1",
        "creationTimestamp": format_time(changes.pop("created_at", 1_000_000.0)),
        "annotations": changes.pop("annotations", {}),
    }
    status = changes.pop("status", {})
    target = changes.pop("target", {"name": name})
    spec = {
        "modelName": MODEL,
        "variants": [
            {
                "name": "gpu",
                "targetRef": target,
                "price": {"perAcceleratorHour": "3.50"},
                "capacity": {"requestsPerSecond": "10", "concurrency": 40},
            }
        ],
        "replicas": {"floor": 1, "max": 8},
        **changes,
    }
    return {
        "apiVersion": "spillway.dev/v1alpha1",
        "kind": "InferencePool",
        "metadata": meta,
        "spec": {name: value for name, value in spec.items() if value is not None},
        "status": status,
    }


def burst_spec(**changes: Any) -> dict[str, Any]:
    """A burst section with one provider that has a price."""
    provider = {"name": "api", "price": {"inputPerMillion": "1", "outputPerMillion": "2"}}
    return {"providers": [provider], **changes}


def pool(name: str = "pool", **changes: Any) -> InferencePool:
    """A valid pool."""
    parsed = project_pool(pool_object(name, **changes))
    assert not isinstance(parsed, InvalidPool), parsed.message
    return parsed


def selector(app: str) -> Selector:
    return Selector((Requirement("app", "In", (app,)),))


def pod(name: str, app: str = "pool", **changes: Any) -> PodRecord:
    """A serving pod that has been Ready for an hour; its IP follows from its name."""
    now = time.time()
    role: Role = changes.get("role", Role.SERVING)
    values: dict[str, Any] = {
        "namespace": NAMESPACE,
        "name": name,
        "uid": f"uid-{name}",
        "resource_version": "1",
        "labels": {"app": app, ROLE_LABEL: role.value},
        "role": role,
        "role_labelled": True,
        "phase": PodPhase.READY,
        "phase_since": now - 3600,
        "created_at": now - 3700,
        "ready_at": now - 3600,
        "revision": "r1",
        "ip": f"10.0.0.{sum(name.encode()) % 250 + 1}",
        "node": "node",
        "ordinal": None,
        "drain_deadline": None,
        "deletion_cost": 0,
        "do_not_disrupt": False,
        "owner": None,
        "has_readiness_probe": True,
    }
    return PodRecord(**{**values, **changes})


def deployment(name: str = "pool", **changes: Any) -> WorkloadRecord:
    """A Deployment of two replicas that Spillway owns."""
    values: dict[str, Any] = {
        "api_version": "apps/v1",
        "kind": "Deployment",
        "namespace": NAMESPACE,
        "name": name,
        "uid": f"uid-deployment-{name}",
        "resource_version": "7",
        "selector": selector(name),
        "template_labels": {"app": name, ROLE_LABEL: Role.SERVING.value},
        "spec_replicas": 2,
        "status_replicas": 2,
        "ready_replicas": 2,
        "rolling_out": False,
        "update_revision": "",
        "revision_number": "1",
        "has_readiness_probe": True,
        "replicas_managers": ("spillway",),
        "scale_owned": True,
        "deleting": False,
    }
    return WorkloadRecord(**{**values, **changes})


def service(name: str = "pool", **more: str) -> ServiceRecord:
    """A Service that selects the serving pods of an app."""
    return ServiceRecord(NAMESPACE, name, {"app": name, ROLE_LABEL: "serving", **more})


def autoscaler(target: str, name: str = "hpa") -> AutoscalerRecord:
    return AutoscalerRecord(NAMESPACE, name, "apps/v1", "Deployment", target)


def load(running: float = 2.0, waiting: float = 0.0, **changes: Any) -> ReplicaLoad:
    """A fresh sample of a replica that serves two requests a second."""
    values: dict[str, Any] = {
        "sampled_at": time.time(),
        "running": running,
        "waiting": waiting,
        "waiting_all": waiting,
        "running_mean": running,
        "in_flight_change_per_second": 0.0,
        "finished_per_second": 2.0,
        "prompt_tokens_per_second": 2000.0,
        "generation_tokens_per_second": 400.0,
        "gpu_utilization": 0.5,
    }
    return ReplicaLoad(**{**values, **changes})


# Watches


def watches(*namespaces: str) -> Watches:
    """The real watches, with informers that nobody runs: `put` and `drop` are their source."""
    made = Watches(cast("Cluster", object()), namespaces)
    for watched in [*made._all(), made.routes]:
        for informer in watched.informers:
            informer.synced.set()
    fresh(made)
    return made


def fresh(made: Watches) -> None:
    """Every watch has just shown a sign of life."""
    for watched in made._all():
        for informer in watched.informers:
            informer.last_contact = time.monotonic()


def put(made: Watches, *records: Any) -> None:
    """What the API server would have told of these objects."""
    for record in records:
        informer = _watched(made, record).informers[0]
        key = (record.namespace, record.name)
        if informer._store.put(key, record):
            informer._notify(key)


def drop(made: Watches, record: Any) -> None:
    informer = _watched(made, record).informers[0]
    key = (record.namespace, record.name)
    if informer._store.drop(key):
        informer._notify(key)


def _watched(made: Watches, record: Any) -> Watched[Any]:
    if isinstance(record, PodRecord):
        return made.pods
    if isinstance(record, ServiceRecord):
        return made.services
    if isinstance(record, AutoscalerRecord):
        return made.autoscalers
    if isinstance(record, Route):
        return made.routes
    if isinstance(record, WorkloadRecord):
        return made.deployments if record.kind == "Deployment" else made.stateful_sets
    return made.pools


# Seams


@dataclass
class FakeCluster:
    """Answers by path; a path that is absent is a 404, an exception is raised."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def get(self, path: str, _params: Mapping[str, str] | None = None) -> Any:
        self.asked.append(path)
        await asyncio.sleep(0)
        answer = self.answers.get(path)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            raise NotFound(404, "NotFound", f"{path} not found")
        return answer

    async def list_pages(
        self, path: str, _params: Mapping[str, str] | None = None, _size: int = 500
    ) -> AsyncIterator[Any]:
        yield Page((await self.get(path))["items"])


@dataclass
class Page:
    items: list[Any]


@dataclass
class FakeLease:
    """Leads unless told otherwise."""

    leads: bool = True
    epoch: int = 7

    def is_leader(self) -> bool:
        return self.leads


@dataclass
class Writer:
    """Base of the fake writers: a failure by name is raised, a hang never ends."""

    journal: Journal
    failures: dict[str, Exception] = field(default_factory=dict)
    hangs: set[str] = field(default_factory=set)

    async def note(self, kind: str, name: str, *details: Any) -> None:
        if name in self.hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if name in self.failures:
            raise self.failures[name]
        self.journal.append((kind, name, *details))


class FakePods(Writer):
    async def write(self, record: PodRecord, change: PodChange) -> PodRecord:
        await self.note("pod", record.name, change)
        return record


@dataclass
class FakeScale(Writer):
    states: dict[str, ScaleState | Exception] = field(default_factory=dict)

    async def read(self, target: ScaleTarget) -> ScaleState:
        state = self.states.get(target.name)
        if isinstance(state, Exception):
            raise state
        if state is None:
            raise NotFound(404, "NotFound", "no such target")
        return state

    async def write(self, target: ScaleTarget, replicas: int, resource_version: str) -> None:
        await self.note("scale", target.name, replicas, resource_version)

    def has_written(self, target: ScaleTarget, uid: str) -> bool:
        return any(entry[:2] == ("scale", target.name) for entry in self.journal) and bool(uid)


@dataclass
class FakePoolWriter(Writer):
    """Writes statuses and annotations; ``statuses`` has each pool's last one.

    ``versions`` has the pools' resourceVersions; a test that changes one has edited the pool.
    """

    versions: dict[str, str] = field(default_factory=dict)

    @property
    def statuses(self) -> dict[str, dict[str, Any]]:
        return {entry[1]: entry[2] for entry in self.journal.of("status")}

    async def write_status(
        self, _namespace: str, name: str, _uid: str, version: str, status: dict[str, Any]
    ) -> str:
        return await self._apply("status", name, version, status)

    async def write_overflow(
        self, _namespace: str, name: str, _uid: str, version: str, value: str | None
    ) -> str:
        return await self._apply("annotation", name, version, value)

    async def _apply(self, kind: str, name: str, version: str, what: Any) -> str:
        """As the API server: only a write that carries the present version is taken."""
        present = self.versions.setdefault(name, version)
        if version != present:
            raise Conflict(409, "Conflict", f"{name} is at {present}, the write is of {version}")
        await self.note(kind, name, what)
        self.versions[name] = str(int(present) + 1)
        return self.versions[name]


@dataclass
class FakeRouteWriter(Writer):
    """Applies the patches to the routes as the API server does, and shows them to the watch.

    ``routes`` has the objects; a version other than the tested one is a conflict.
    """

    routes: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def write(self, route: Route, patch: Sequence[Operation]) -> Route:
        await self.note("route", route.name, list(patch))
        changed = patched(self.routes[route.name], patch)
        version = int(changed["metadata"]["resourceVersion"]) + 1
        changed["metadata"]["resourceVersion"] = str(version)
        self.routes[route.name] = changed
        return project_route(changed)


@dataclass
class FakeLedgerStore:
    """Keeps texts; ``save_failure`` meets every key, or only the one that ``full`` names."""

    journal: Journal
    texts: dict[str, str] = field(default_factory=dict)
    save_failure: Exception | None = None
    full: str | None = None
    load_failure: Exception | None = None

    async def load(self) -> dict[str, str]:
        if self.load_failure is not None:
            raise self.load_failure
        self.journal.append(("ledgers read",))
        return dict(self.texts)

    async def save(self, changes: Mapping[str, str | None]) -> dict[str, Exception]:
        await asyncio.sleep(0)
        failed = {
            name: self.save_failure
            for name in changes
            if self.save_failure is not None and self.full in {None, name}
        }
        stored = {name: text for name, text in changes.items() if name not in failed}
        if stored:
            self.journal.append(("ledgers", sorted(stored)))
        for name, text in stored.items():
            if text is None:
                self.texts.pop(name, None)
            else:
                self.texts[name] = text
        return failed


@dataclass
class FakeEvents:
    journal: Journal

    def emit(self, subject: Any, reason: str, note: str, *, now: float, warning: bool) -> None:
        assert now > 0
        self.journal.append(("event", subject.name, reason, note, warning))


@dataclass
class FakePrometheus:
    """Answers with what the test has put there."""

    loads: dict[tuple[str, str], ReplicaLoad] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    failure: Exception | None = None
    queries: dict[Any, str] = field(default_factory=dict)
    past: ArrivalHistory = field(default_factory=ArrivalHistory)

    async def history(self, now: float) -> ArrivalHistory:  # noqa: ARG002
        await asyncio.sleep(0)
        return self.past

    async def snapshot(self, now: float) -> MetricsSnapshot:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        names = {key: frozenset({MODEL}) for key in self.loads}
        values = {"loads": dict(self.loads), "model_names": names, **self.more}
        return MetricsSnapshot(at=now, **values)

    def put(self, *pods: str, **changes: Any) -> None:
        """Fresh samples of these pods."""
        for name in pods:
            self.loads[NAMESPACE, name] = load(**changes)


@dataclass
class FakeScraper:
    """Answers with pages by pod name; pods in ``hangs`` answer when the test lets them."""

    pages: dict[str, EnginePage | ScrapeError] = field(default_factory=dict)
    hangs: dict[str, asyncio.Event] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)

    async def scrape(
        self,
        targets: Sequence[ScrapeTarget],
        on_page: Callable[[str, EnginePage], None] | None = None,
    ) -> dict[str, EnginePage | ScrapeError]:
        self.asked.append([target.pod for target in targets])
        read = await asyncio.gather(*(self._one(target, on_page) for target in targets))
        return dict(zip([target.uid for target in targets], read, strict=True))

    async def _one(
        self, target: ScrapeTarget, on_page: Callable[[str, EnginePage], None] | None
    ) -> EnginePage | ScrapeError:
        if target.pod in self.hangs:
            await self.hangs[target.pod].wait()
        page = self.pages.get(target.pod, ScrapeError(ScrapeFailure.UNREACHABLE, "nobody there"))
        if isinstance(page, EnginePage) and on_page is not None:
            on_page(target.uid, page)
        return page


def page(running: float = 0.0, waiting: float = 0.0, **changes: Any) -> EnginePage:
    """A page that was read just now."""
    values = {"at": time.time(), "waiting_all": waiting, **changes}
    return EnginePage(running=running, waiting=waiting, **values)


@dataclass
class Seams:
    """The controller's surroundings, and the real parts that only read them."""

    journal: Journal = field(default_factory=Journal)
    lease: FakeLease = field(default_factory=FakeLease)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    prometheus: FakePrometheus = field(default_factory=FakePrometheus)
    scraper: FakeScraper = field(default_factory=FakeScraper)
    telemetry: Telemetry = field(default_factory=Telemetry)
    watches: Watches = field(default_factory=watches)

    def __post_init__(self) -> None:
        self.pods = FakePods(self.journal)
        self.scale = FakeScale(self.journal)
        self.writer = FakePoolWriter(self.journal)
        self.store = FakeLedgerStore(self.journal)
        self.teller = Teller(cast("Any", FakeEvents(self.journal)))
        self.observer = Observer(
            cast("PrometheusSource", self.prometheus),
            cast("EngineScraper", self.scraper),
            self.telemetry,
            window_seconds=60.0,
            max_age_seconds=60.0,
        )
        self.route_writer = FakeRouteWriter(self.journal)
        self.routes = Routes(
            writer=cast("RouteWriter", self.route_writer),
            watches=self.watches,
            telemetry=self.telemetry,
            may_write=self.lease.is_leader,
            read_only=False,
        )
        self.world = World(
            cast("Cluster", self.cluster),
            self.watches,
            self.observer,
            cast("Any", self.scale),
            self.routes,
            node_lead_seconds=300.0,
        )

    def metric(self, name: str, **labels: str) -> float | None:
        """A sample of the operator's own metrics."""
        samples = (s for family in self.telemetry.families() for s in family.samples)
        found = (s.value for s in samples if s.name == name and s.labels == labels)
        return next(found, None)


def unavailable(message: str = "no answer") -> ApiError:
    return Unavailable(0, "TimeoutError", message)
