"""Real requests to a pool: clients, a real Envoy edge, the pods' HTTP and paid APIs."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import requests

from spillway.edge.settings import EdgeSettings
from spillway.sim.workload import RateProfile
from tests.e2e.rig.clients import Clients
from tests.e2e.rig.edge import Edge
from tests.e2e.rig.endpoints import ServiceName
from tests.e2e.rig.names import NameServer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from spillway.sim.workload import TokenMix
    from tests.e2e.rig.cloud import Cloud
    from tests.e2e.rig.emulator.settings import LatencyTargets
    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig

T = TypeVar("T")
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class EdgePool:
    """The pool behind the edge.

    Attributes:
        namespace: Its namespace.
        name: The InferencePool's name.
        service: The Service that selects its serving pods.
        http_port: The emulated pods'.
        model: That clients ask for.
        mix: Of their requests.
        targets: The latency promise.
    """

    namespace: str
    name: str
    service: str
    http_port: int
    model: str
    mix: TokenMix
    targets: LatencyTargets


class EdgeTraffic:
    """Clients before an edge before a pool, on an event loop in a thread of its own.

    Args:
        rig: Whose cluster the pods are of; its Prometheus reads the edge.
        pool: Who is served.
        clouds: Who is paid. They are named as the InferencePool's providers.
        operator: Who decides.

    Attributes:
        clouds: As given.
        clients: Everybody who asks.
        edge: The Envoy, once started.
    """

    def __init__(
        self, rig: Rig, pool: EdgePool, clouds: Sequence[Cloud], operator: OperatorProcess
    ) -> None:
        self.clouds = tuple(clouds)
        self.edge: Edge | None = None
        self.clients = Clients("", pool.model, pool.mix, pool.targets)
        self._rig = rig
        self._pool = pool
        self._operator = operator
        self._names = NameServer()
        self._service = ServiceName(
            rig.cluster.kubeconfig, pool.namespace, pool.service, self._names
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> Self:
        """Return when the edge stands and finds the replicas; nobody asks yet."""
        self._thread.start()
        self._call(self._serve())
        self.edge = Edge(self._rig.custody, self._pool.name, self._settings())
        self.edge.start()
        self.clients.url = self.edge.url
        self._rig.prometheus.set_gateways([self.edge.metrics_target], "/metrics")
        self._call(self._follow(self.clients.run))
        return self

    def reaches_replicas(self) -> bool:
        """Whether the edge has found a replica; what is sent before that is refused."""
        if self.edge is None:
            return False
        return requests.get(f"{self.edge.url}/health", timeout=5).status_code == 200

    def stop(self) -> None:
        """Stop everything; what is under way is given up. May be called again."""
        if not self._thread.is_alive():
            return
        try:
            self._call(self._end())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_SECONDS)
            self._loop.close()
            if self.edge is not None:
                self._rig.prometheus.set_gateways([])
                self.edge.stop()

    def rate(self, *points: tuple[float, float]) -> None:
        """Ask so often from now on: points of (seconds from now, requests per second)."""
        now = time.time()
        profile = RateProfile([(now + after, rate) for after, rate in points])
        self._loop.call_soon_threadsafe(self.clients.set_rate, profile)

    def counts(self) -> dict[str, Any]:
        """What clients and providers have counted so far, of one moment."""
        return self._call(self._counts())

    async def _counts(self) -> dict[str, Any]:
        return {
            **self.clients.counts(time.time()),
            "cloud_total": sum(each.answered + each.together.in_flight for each in self.clouds),
            "cost_usd_total": sum(each.usd for each in self.clouds),
            "answered_by_provider": {each.name: each.answered for each in self.clouds},
        }

    def _settings(self) -> EdgeSettings:
        """As the chart makes them, but for addresses on loopback."""
        pool = self._pool
        return EdgeSettings.model_validate(
            {
                "pool": {"namespace": pool.namespace, "name": pool.name},
                "replicas": {"address": self._service.name, "port": pool.http_port},
                "operator": {
                    "address": "127.0.0.1", "port": int(self._operator.url.rpartition(":")[2])
                },
                "providers": [
                    {"name": each.name, "address": each.host, "port": each.port, "tls": False}
                    for each in self.clouds
                ],
                "dnsResolver": self._names.address,
            }
        )  # fmt: skip

    async def _serve(self) -> None:
        """What the edge needs."""
        for cloud in self.clouds:
            await cloud.start()
        await self._names.start()
        await self._service.look()
        await self._follow(self._service.run)

    async def _follow(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.append(asyncio.create_task(run()))

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._names.stop()
        for cloud in self.clouds:
            await cloud.stop()
        for error in ended:
            # What runs until it is cancelled has ended by a defect of the rig's.
            if isinstance(error, Exception):
                raise error

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_STOP_SECONDS)
