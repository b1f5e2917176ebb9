"""The emulator over HTTP: metric pages, service discovery and the control API.

| method and path | what |
|---|---|
| GET /healthz | 200 while every background task runs |
| GET /pods/{namespace}/{pod}/metrics | the pod's vLLM page |
| GET /dcgm/metrics, /gateway/metrics | DCGM exporter's and the gateway's |
| GET /sd/pods | Prometheus HTTP service discovery |
| GET /state | everything, as JSON |
| POST /pools, /rate, /faults, /operators | the bodies in `settings` |

A body that does not fit is answered 400 with each field, what is wrong and what is accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from tests.e2e.rig.emulator import pages
from tests.e2e.rig.emulator.front import Front
from tests.e2e.rig.emulator.overflow import OverflowPoller
from tests.e2e.rig.emulator.podwatch import ApiServer, PodWatch
from tests.e2e.rig.emulator.settings import (
    FaultSettings,
    MetricsFault,
    OperatorSettings,
    PoolSettings,
    RateSettings,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.e2e.rig.emulator.fleet import Fleet

BodyT = TypeVar("BodyT", bound=BaseModel)

TICK_SECONDS = 0.02


async def _read(request: web.Request, kind: type[BodyT]) -> BodyT:
    try:
        return kind.model_validate_json(await request.read())
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors()
        ]
        raise web.HTTPBadRequest(text="\n".join(lines)) from None


def _page(text: str) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": pages.CONTENT_TYPE})


class Server:
    """Wires the fleet to HTTP, to the operator and to Kubernetes."""

    def __init__(self, fleet: Fleet, operators: list[str], api: ApiServer | None = None) -> None:
        """``api`` None follows no pods: a test then calls `Fleet.observe` itself."""
        self.fleet = fleet
        self.poller = OverflowPoller(fleet, operators)
        self.front = Front(fleet)
        self._api = api
        self._session: aiohttp.ClientSession | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._watches: dict[str, asyncio.Task[None]] = {}

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/pods/{namespace}/{pod}/metrics", self._pod_metrics)
        app.router.add_get("/dcgm/metrics", self._dcgm)
        app.router.add_get("/gateway/metrics", self._gateway)
        app.router.add_get("/sd/pods", self._discovery)
        app.router.add_get("/state", self._state)
        app.router.add_post("/pools", self._post_pool)
        app.router.add_post("/rate", self._post_rate)
        app.router.add_post("/faults", self._post_fault)
        app.router.add_post("/operators", self._post_operators)
        app.cleanup_ctx.append(self._background)
        return app

    def add_pool(self, settings: PoolSettings) -> None:
        """Begin to emulate a pool and to follow its pods."""
        self.fleet.add(settings)
        if self._api is None or self._session is None:
            return
        before = self._watches.pop(settings.key, None)
        if before is not None:
            before.cancel()
        watch = PodWatch(
            self._api,
            settings.namespace,
            settings.selector,
            lambda views: self.fleet.observe(settings.key, views),
        )
        self._watches[settings.key] = asyncio.create_task(watch.run(self._session))

    async def _background(self, _: web.Application) -> AsyncIterator[None]:
        if self._api is not None:
            self._session = self._api.session()
        runs = (self._tick(), self.poller.run(), self.front.run())
        self._loops = [asyncio.create_task(run) for run in runs]
        yield
        tasks = [*self._loops, *self._watches.values()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._session is not None:
            await self._session.close()

    async def _tick(self) -> None:
        while True:
            self.fleet.tick()
            await asyncio.sleep(TICK_SECONDS)

    async def _healthz(self, _: web.Request) -> web.Response:
        for task in (*self._loops, *self._watches.values()):
            if task.done():
                error = None if task.cancelled() else task.exception()
                raise web.HTTPInternalServerError(text=f"a background task ended: {error!r}\n")
        return web.Response(text="ok\n")

    async def _pod_metrics(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        found = self.fleet.find(namespace, name)
        if found is None:
            # A pod that is not up refuses connections; over this one address 404 must do.
            raise web.HTTPNotFound(text=f"no running pod {namespace}/{name}\n")
        pool, pod = found
        if pod.fault.metrics is MetricsFault.ERROR:
            raise web.HTTPInternalServerError(text="fault: error\n")
        if pod.fault.metrics is MetricsFault.HANG:
            await asyncio.Event().wait()
        return _page(pages.vllm(pool, pod))

    async def _dcgm(self, _: web.Request) -> web.Response:
        return _page(pages.dcgm(self.fleet))

    async def _gateway(self, _: web.Request) -> web.Response:
        return _page(pages.gateway(self.fleet))

    async def _discovery(self, request: web.Request) -> web.Response:
        return web.json_response(pages.discovery(self.fleet, request.host))

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response(self.fleet.state())

    async def _post_pool(self, request: web.Request) -> web.Response:
        self.add_pool(await _read(request, PoolSettings))
        return web.json_response({})

    async def _post_rate(self, request: web.Request) -> web.Response:
        settings = await _read(request, RateSettings)
        self._known(settings.pool)
        self.fleet.set_rate(settings)
        return web.json_response({})

    async def _post_fault(self, request: web.Request) -> web.Response:
        settings = await _read(request, FaultSettings)
        self._known(settings.pool)
        self.fleet.set_fault(settings)
        return web.json_response({})

    async def _post_operators(self, request: web.Request) -> web.Response:
        self.poller.urls = (await _read(request, OperatorSettings)).urls
        return web.json_response({})

    def _known(self, key: str) -> None:
        try:
            self.fleet.pool(key)
        except KeyError as error:
            raise web.HTTPNotFound(text=f"{error.args[0]}\n") from None
