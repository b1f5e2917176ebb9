"""Weights as traffic: a real Envoy under Contour, between two model servers that answer by name."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from spillway.adapters.kube.client import Cluster as Client
from spillway.adapters.kube.errors import Conflict
from spillway.adapters.kube.paths import resource_path
from spillway.adapters.kube.routes import ROUTE_API, ROUTE_PLURAL, RouteWriter, project_route
from spillway.core.route import locate, weights_patch
from tests.e2e.rig import contour
from tests.e2e.rig.gateway_api import http_route, rule
from tests.e2e.rig.processes import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.e2e.rig.rig import Rig

LOCAL, CLOUD = "local", "cloud"
BACKENDS = [LOCAL, CLOUD]
MARK = {"x-stay": "yes"}
#: Requests under way at once.
CLIENTS = 24
FLIPS = 50


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return dict(zip(BACKENDS, free_ports(2), strict=True))


@pytest.fixture(scope="module")
def gateway(rig: Rig, ports: dict[str, int]) -> Iterator[tuple[str, str]]:
    """URL of the gateway and the namespace of its route."""
    namespace = rig.cluster.create_namespace()
    api = rig.cluster.api
    try:
        started = contour.start(rig, namespace)
        stays = {**rule("stays", local=None), "matches": [{"headers": [_header()]}]}
        rules = [stays, rule("chat", local=None, cloud=0)]
        for each in rules:
            for ref in each["backendRefs"]:
                ref["port"] = ports[ref["name"]]
        api.apply(*(contour.external(name, namespace, port) for name, port in ports.items()))
        api.apply(http_route("route", namespace, *rules))
        yield started.url, namespace
        started.stop()
    finally:
        rig.cluster.delete_namespace(namespace)


def _header() -> dict[str, str]:
    [(name, value)] = MARK.items()
    return {"name": name, "value": value}


@asynccontextmanager
async def model_servers(ports: dict[str, int]) -> AsyncIterator[None]:
    """Two servers that answer with their names, at once or as a stream of a third of a second."""

    def app(name: str) -> web.Application:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(text=name)

        async def stream(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for _ in range(10):
                await response.write(f"data: {name}\n\n".encode())
                await asyncio.sleep(0.03)
            return response

        made = web.Application()
        made.add_routes([web.get("/", answer), web.get("/stream", stream)])
        return made

    runners = [web.AppRunner(app(name), access_log=None) for name in ports]
    for runner, port in zip(runners, ports.values(), strict=True):
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


@dataclass
class Weigher:
    """Sets weights by Spillway's own patches, and looks at what comes of it."""

    client: Client
    url: str
    namespace: str
    session: aiohttp.ClientSession
    problems: list[str] = field(default_factory=list)

    async def set(self, cloud: int) -> None:
        """Write the weights; Contour may have changed the route's status in between."""
        path = resource_path(ROUTE_API, ROUTE_PLURAL, self.namespace, "route")
        weights = {LOCAL: 1000 - cloud, CLOUD: cloud}
        while True:
            route = project_route(await self.client.get(path))
            patch = weights_patch(route, locate(route, "chat", BACKENDS), "pool", "chat", weights)
            try:
                if patch:
                    await RouteWriter(self.client).write(route, patch)
            except Conflict:
                continue
            return

    async def ask(self, path: str = "/", headers: dict[str, str] | None = None) -> str:
        """Who answered; "" for a request that was lost, noted in ``problems``."""
        try:
            async with self.session.get(self.url + path, headers=headers) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.problems.append(repr(error))
            return ""
        if answer.status != 200:
            self.problems.append(f"{answer.status} {text[:80]}")
            return ""
        if path == "/stream":
            lines = text.split()
            if lines.count("data:") != 10:
                self.problems.append(f"a stream of {lines.count('data:')} parts")
            return lines[1]
        return text

    async def until(self, who: str) -> float:
        """Seconds until this one answers."""
        began = time.monotonic()
        while await self.ask() != who:
            assert time.monotonic() - began < 30, f"{who} does not answer: {self.problems[-3:]}"
            await asyncio.sleep(0.002)
        self.problems.clear()
        return time.monotonic() - began


@pytest.fixture
async def weigher(
    rig: Rig, gateway: tuple[str, str], ports: dict[str, int]
) -> AsyncIterator[Weigher]:
    url, namespace = gateway
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        model_servers(ports),
        await Client.connect(str(rig.cluster.kubeconfig), write_burst=1000) as client,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        made = Weigher(client, url, namespace, session)
        await made.set(0)
        await made.until(LOCAL)
        yield made


async def test_the_split_is_kept_within_three_percent_over_ten_thousand_requests(
    weigher: Weigher, measured: dict[str, float]
) -> None:
    await weigher.set(300)
    await weigher.until(CLOUD)
    answered: Counter[str] = Counter()

    async def client() -> None:
        while answered.total() < 10_000:
            answered[await weigher.ask()] += 1

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    measured["10,000 requests through Envoy took"] = time.monotonic() - began
    assert weigher.problems == []
    share = answered[CLOUD] / answered.total()
    assert share == pytest.approx(0.3, abs=0.03)


async def test_no_request_is_lost_in_fifty_flips_and_marked_ones_never_leave(
    weigher: Weigher,
) -> None:
    answered: Counter[tuple[str, str]] = Counter()
    going = True

    async def client(kind: str, path: str = "/", headers: dict[str, str] | None = None) -> None:
        while going:
            answered[kind, await weigher.ask(path, headers)] += 1

    clients = [
        *(client("plain") for _ in range(8)),
        *(client("stream", "/stream") for _ in range(16)),
        *(client("marked", headers=MARK) for _ in range(8)),
    ]
    tasks = [asyncio.ensure_future(each) for each in clients]
    try:
        for flip in range(FLIPS):
            await weigher.set(0 if flip % 2 else 1000)
            await asyncio.sleep(0.12)
    finally:
        going = False
        await asyncio.gather(*tasks)
    assert weigher.problems == []
    for kind in ("plain", "stream"):
        for who in BACKENDS:
            assert answered[kind, who] > 50, f"{kind} requests reached {who}"
    assert answered["marked", CLOUD] == 0
    assert answered["marked", LOCAL] > 500


async def test_changed_weights_are_changed_traffic_within_a_second(
    weigher: Weigher, measured: dict[str, float]
) -> None:
    delays = []
    for flip in range(20):
        await weigher.set(0 if flip % 2 else 1000)
        delays.append(await weigher.until(LOCAL if flip % 2 else CLOUD))
        await asyncio.sleep(0.15)
    measured["weights written to traffic changed, at most"] = max(delays)
    # With the second that a value may take after its sample: below 1.5 s.
    assert sorted(delays)[len(delays) * 9 // 10] < 0.5
