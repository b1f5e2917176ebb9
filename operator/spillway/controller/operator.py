"""The operator: puts adapters, loops and endpoints together, and starts and stops them in order."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import kopf
import structlog

import spillway
from spillway.adapters.kube import credentials
from spillway.adapters.kube.client import Cluster
from spillway.adapters.kube.errors import ConnectError
from spillway.adapters.kube.events import EventRecorder
from spillway.adapters.kube.lease import LeaderLease
from spillway.adapters.kube.ledger_store import LedgerStore
from spillway.adapters.kube.pods import PodWriter
from spillway.adapters.kube.routes import RouteWriter
from spillway.adapters.kube.scale import ScaleWriter
from spillway.adapters.kube.status import PoolWriter
from spillway.adapters.metrics import EngineScraper, PrometheusSource
from spillway.adapters.prices import PriceFiles
from spillway.adapters.telemetry import Telemetry
from spillway.controller import heartbeat, wiring
from spillway.controller.actuator import Actuator
from spillway.controller.annotator import Annotator
from spillway.controller.fast_loop import FastLoop
from spillway.controller.gateways import Gateways
from spillway.controller.http import Health, HttpServer
from spillway.controller.ledgers import Ledgers
from spillway.controller.observer import Observer
from spillway.controller.reporter import Reporter
from spillway.controller.routes import Routes
from spillway.controller.runtime import Key, Runtimes
from spillway.controller.slow_loop import SlowLoop
from spillway.controller.sweep import Sweep
from spillway.controller.teller import Teller
from spillway.controller.watches import Watches
from spillway.controller.world import World

if TYPE_CHECKING:
    from types import TracebackType

    from spillway.controller.settings import Settings
    from spillway.core.overflow import OverflowValue

log = structlog.get_logger(__name__)

#: Figures of a status that only drift are written this rarely.
QUIET_TICKS: Final = 4.0
#: And take at most this part of the writes that are allowed: with 1,000 pools each waits for five
#: minutes. An API server spends tens of milliseconds of CPU on a write that nobody may read.
DRIFTING: Final = 0.2


#: Passes of the garbage collector over all objects are so many of its middle passes apart, not 10.
#: Nearly all that a tick leaves behind goes by reference counts; a pass over what 1,000 pools hold
#: stops the loop for 0.2 to 0.4 s and finds next to nothing (docs/design/0007-scale.md).
RARE_FULL_COLLECTIONS: Final = (700, 10, 500)


async def serve(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Raises:
        ConnectError: The API server can't be reached, or nothing says which one.
        ListenError: The HTTP port can't be taken.
    """
    gc.set_threshold(*RARE_FULL_COLLECTIONS)
    async with Operator(settings) as operator:
        await kopf.operator(
            registry=wiring.registry_for(operator),
            settings=kopf.OperatorSettings(),
            clusterwide=not settings.watch_namespaces,
            namespaces=settings.watch_namespaces,
            standalone=True,
        )


class Operator:
    """Everything of one process.

    Attributes:
        settings: As the administrator set them.
        kubeconfig: The kubeconfig in use; None for the Pod's ServiceAccount.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kubeconfig = credentials.find_kubeconfig(
            None if settings.kubeconfig is None else str(settings.kubeconfig)
        )
        self._telemetry = Telemetry()
        self._health = Health(
            {"slow": settings.slow_tick_seconds, "fast": settings.fast_tick_seconds}
        )
        self._runtimes = Runtimes(self._forget)
        self._gateways = Gateways(self._runtimes, self._leads)
        self._watching: Observer | None = None
        self._http = HttpServer(
            health=self._health,
            telemetry=self._telemetry,
            overflow=self._overflow,
            gateways=self._gateways,
            host=settings.http_host,
            port=settings.http_port,
        )
        self._prometheus = _prometheus(settings)
        self._scraper = EngineScraper(
            url_template=settings.scrape_url_template,
            request_seconds=settings.scrape_timeout_seconds,
            pages_per_second=settings.scrape_pages_per_second,
        )
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._lease: LeaderLease | None = None
        self._slow: SlowLoop | None = None

    async def __aenter__(self) -> Self:
        port = await self._http.start()
        self._stack.push_async_callback(self._http.stop)
        self._stack.push_async_callback(self._scraper.close)
        self._stack.push_async_callback(self._prometheus.close)
        try:
            cluster = await self._connect()
        except BaseException:
            await self._stack.aclose()
            raise
        self._stack.push_async_callback(cluster.close)
        self._assemble(cluster)
        log.info(
            "spillway starts",
            version=spillway.__version__,
            api_server=cluster.host,
            http_port=port,
            read_only=self.settings.read_only,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
        await self._stack.aclose()

    async def _connect(self) -> Cluster:
        """Connect, waiting a while for an API server that is not up yet."""
        # A kubeconfig that can't be read does not get better by waiting.
        await credentials.load(self.kubeconfig, self.settings.context)
        deadline = time.monotonic() + self.settings.connect_timeout_seconds
        while True:
            try:
                return await Cluster.connect(
                    self.kubeconfig,
                    self.settings.context,
                    request_timeout_seconds=self.settings.api_timeout_seconds,
                    writes_per_second=self.settings.writes_per_second,
                    write_burst=self.settings.writes_per_second,
                    on_call=self._telemetry.api_called,
                )
            except ConnectError as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("waiting for the API server", error=str(error))
                await asyncio.sleep(2.0)

    def _assemble(self, cluster: Cluster) -> None:
        settings, telemetry = self.settings, self._telemetry
        lease, observer = _lease(settings, cluster), self._observer()
        self._watching = observer
        watches = Watches(cluster, settings.watch_namespaces, with_nodes=settings.watch_nodes)
        events = EventRecorder(cluster, instance=settings.identity)
        teller = Teller(events)
        fenced = cluster.fenced(lease.is_leader)
        pods, scale = PodWriter(fenced), ScaleWriter(fenced)
        routes = Routes(
            writer=RouteWriter(fenced),
            watches=watches,
            telemetry=telemetry,
            may_write=lease.is_leader,
            read_only=settings.read_only,
        )
        world = _world(settings, cluster, watches, observer, scale, routes)
        actuator = Actuator(
            pods=pods,
            scale=scale,
            teller=teller,
            watches=watches,
            telemetry=telemetry,
            may_write=lease.is_leader,
        )
        reporter = Reporter(
            writer=PoolWriter(fenced.patient()),
            teller=teller,
            telemetry=telemetry,
            may_write=lease.is_leader,
            quiet_seconds=QUIET_TICKS * settings.slow_tick_seconds,
            drifts_per_second=DRIFTING * settings.writes_per_second,
            pools=self._runtimes.__len__,
            retry=self.wake,
        )
        annotator = Annotator(
            writer=PoolWriter(fenced.patient()), telemetry=telemetry, may_write=lease.is_leader
        )
        slow = SlowLoop(
            settings=settings,
            watches=watches,
            world=world,
            observer=observer,
            runtimes=self._runtimes,
            actuator=actuator,
            reporter=reporter,
            sweep=Sweep(
                watches=watches,
                world=world,
                pods=pods,
                may_write=lease.is_leader,
                read_only=settings.read_only,
            ),
            routes=routes,
            lease=lease,
            telemetry=telemetry,
            health=self._health,
        )
        fast = FastLoop(
            settings=settings,
            watches=watches,
            observer=observer,
            runtimes=self._runtimes,
            ledgers=Ledgers(LedgerStore(fenced, namespace=settings.namespace), self._runtimes),
            annotator=annotator,
            routes=routes,
            lease=lease,
            slow=slow,
            telemetry=telemetry,
            health=self._health,
        )
        watches.pools.on_change(slow.pool_changed)
        watches.pods.on_change(slow.pod_changed)
        for workloads in (watches.deployments, watches.stateful_sets):
            workloads.on_change(partial(slow.workload_changed, workloads))
        self._watches, self._lease, self._slow = watches, lease, slow
        self._fast, self._events, self._reporter = fast, events, reporter
        self._closers = (slow.close, annotator.close, routes.close, observer.close)

    def _observer(self) -> Observer:
        return Observer(
            self._prometheus,
            self._scraper,
            self._telemetry,
            window_seconds=self.settings.rate_window_seconds,
            max_age_seconds=self.settings.max_sample_age_seconds,
        )

    async def start(self) -> None:
        """Start everything that runs; the loops begin once the watches have listed."""
        if self._lease is None:
            return
        self._tasks += self._watches.start()
        self._tasks.append(asyncio.create_task(self._lease.run(), name="lease"))
        self._tasks.append(asyncio.create_task(self._events.run(), name="events"))
        self._tasks.append(asyncio.create_task(self._reporter.run(), name="reporter"))
        self._tasks.append(asyncio.create_task(self._loops(), name="loops"))
        beat = heartbeat.run(self._telemetry.loop_lag.observe)
        self._tasks.append(asyncio.create_task(beat, name="heartbeat"))
        for task in self._tasks:
            task.add_done_callback(_ended)

    async def _loops(self) -> None:
        waiting = asyncio.create_task(self._watches.synced())
        while not waiting.done():
            # Waiting for the API server is no hang: nothing would get better by a restart.
            await asyncio.wait([waiting], timeout=1.0)
            self._health.waiting_for = ", ".join(self._watches.unlisted())
            for loop in self._health.last_tick:
                self._health.ticked(loop)
        self._health.synced = True
        if self._slow is None:
            return
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._slow.run())
            loops.create_task(self._fast.run())

    async def stop(self) -> None:
        """Stop writing, give the lease up so that a standby takes over at once, then the rest."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        for task in tasks:
            if task.get_name() in {"loops", "lease"}:
                task.cancel()
        await asyncio.wait([t for t in tasks if t.get_name() in {"loops", "lease"}], timeout=5.0)
        for close in self._closers:
            await close()
        if self._lease is not None:
            await self._lease.release()
        await self._events.flush(1.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Last, and here: Kopf waits five seconds for tasks that it does not know, such as those of
        # connections that a gateway or Prometheus keeps open.
        await self._http.stop()

    def wake(self, key: tuple[str, str]) -> None:
        """Take a pool out of turn."""
        if self._slow is not None:
            self._slow.pool_changed(key)

    def _forget(self, key: Key) -> None:
        self._telemetry.forget(*key)
        self._gateways.forget(key)
        if self._watching is not None:
            self._watching.forget(*key)

    def _leads(self) -> bool:
        return self._lease is not None and self._lease.is_leader()

    def _overflow(self, namespace: str, name: str) -> OverflowValue | None:
        runtime = self._runtimes.get((namespace, name))
        return None if runtime is None else runtime.overflow


def _ended(task: asyncio.Task[None]) -> None:
    """Tell of a task that was to run until the end; /healthz follows when its loop is missed."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a part of the operator has ended", part=task.get_name(), error=repr(error))


def _world(
    settings: Settings,
    cluster: Cluster,
    watches: Watches,
    observer: Observer,
    scale: ScaleWriter,
    routes: Routes,
) -> World:
    return World(
        cluster,
        watches,
        observer,
        scale,
        routes,
        node_lead_seconds=settings.node_lead_seconds,
        nodes_may_be_added=settings.nodes_may_be_added,
        price_files=PriceFiles(settings.price_catalog_file, settings.price_map_file),
    )


def _lease(settings: Settings, cluster: Cluster) -> LeaderLease:
    return LeaderLease(
        cluster,
        namespace=settings.namespace,
        name=settings.lease_name,
        identity=settings.identity,
        lease_seconds=settings.lease_duration_seconds,
        renew_deadline_seconds=settings.lease_renew_seconds,
        retry_seconds=settings.lease_retry_seconds,
    )


def _prometheus(settings: Settings) -> PrometheusSource:
    return PrometheusSource(
        settings.prometheus_url,
        auth=settings.prometheus_auth(),
        matchers=settings.prometheus_labels,
        rate_window_seconds=settings.rate_window_seconds,
        max_age_seconds=settings.max_sample_age_seconds,
        query_timeout_seconds=settings.prometheus_timeout_seconds / 2,
        timeout_seconds=settings.prometheus_timeout_seconds,
    )
