"""The pods' HTTP: each emulated pod answers chat completions at an address of its own.

Loopback stands for the pod network: the pod with IP 10.x.y.z answers at 127.x.y.z. A request goes
into the pod's emulated engine, and its answer comes when the engine has it. A pod that is being
deleted takes no more connections, one that is gone cuts off those that it has. A client that hangs
up leaves its request in the engine.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from spillway.sim.request import Request
from tests.e2e.rig import chat

if TYPE_CHECKING:
    from spillway.sim.request import Stream
    from tests.e2e.rig.emulator.fleet import Fleet
    from tests.e2e.rig.emulator.pod import EmulatedPod
    from tests.e2e.rig.emulator.pool import Pool

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.02


def loopback(pod_ip: str) -> str:
    """Where the pod with this IP answers."""
    return f"127.{pod_ip.split('.', 1)[1]}"


async def _health(_: web.Request) -> web.Response:
    return web.Response()


class LostError(Exception):
    """The pod went before the answer was complete."""


@dataclass(eq=False)
class _Exchange:
    """A request on its way through an engine."""

    stream: Stream
    first: asyncio.Future[None]
    ended: asyncio.Future[None]

    def settle(self) -> bool:
        """Tell who waits what the engine has done; whether that was all."""
        if self.stream.first_token_at is not None and not self.first.done():
            self.first.set_result(None)
        if self.stream.finished_at is not None and not self.ended.done():
            self.ended.set_result(None)
        return self.ended.done()

    def lose(self) -> None:
        """There is no engine any more."""
        for future in (self.first, self.ended):
            if not future.done():
                future.set_exception(LostError())
                # Whoever hung up does not come to ask.
                future.exception()


@dataclass(eq=False)
class _Site:
    """The server of one pod."""

    runner: web.AppRunner
    site: web.TCPSite
    exchanges: list[_Exchange]
    listens: bool = True


class Front:
    """The servers of all pods of pools that have an ``http_port``."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._sites: dict[str, _Site] = {}
        self._ids = 0

    async def run(self) -> None:
        """Follow the fleet for ever."""
        try:
            while True:
                await self.follow()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for site in self._sites.values():
                await site.runner.cleanup()

    async def follow(self) -> None:
        """Open and close what has come and gone, and answer what is ready."""
        pods = {
            uid: (pool, pod)
            for pool in self._fleet.pools.values()
            if pool.settings.http_port is not None
            for uid, pod in pool.pods.items()
        }
        for uid in self._sites.keys() - pods.keys():
            await self._close(self._sites.pop(uid))
        for uid, (pool, pod) in pods.items():
            site = self._sites.get(uid)
            if site is None and pod.deleted_at is None and pod.view.ip:
                opened = await self._open(pool, pod)
                if opened is not None:
                    self._sites[uid] = opened
            elif site is not None and pod.deleted_at is not None and site.listens:
                site.listens = False
                await site.site.stop()
        for site in self._sites.values():
            site.exchanges[:] = [each for each in site.exchanges if not each.settle()]

    async def _open(self, pool: Pool, pod: EmulatedPod) -> _Site | None:
        exchanges: list[_Exchange] = []

        async def answer(request: web.Request) -> web.StreamResponse:
            return await self._answer(pool, pod, exchanges, request)

        app = web.Application(client_max_size=1 << 26)
        app.router.add_post(chat.PATH, answer)
        app.router.add_get("/health", _health)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, loopback(pod.view.ip), pool.settings.http_port)
        try:
            await site.start()
        except OSError as error:
            # The IP of a pod that is not quite gone yet.
            log.warning("pod %s can't listen: %s; trying again", pod.view.name, error)
            await runner.cleanup()
            return None
        return _Site(runner, site, exchanges)

    @staticmethod
    async def _close(site: _Site) -> None:
        for exchange in site.exchanges:
            if not exchange.settle():
                exchange.lose()
        await site.runner.cleanup()

    async def _answer(
        self, pool: Pool, pod: EmulatedPod, exchanges: list[_Exchange], request: web.Request
    ) -> web.StreamResponse:
        try:
            lengths = chat.lengths_of(await request.json())
        except (KeyError, ValueError) as error:
            raise web.HTTPBadRequest(text=f"not a request of the rig's clients: {error}") from None
        self._ids += 1
        now = self._fleet.clock.now()
        asked = Request(self._ids, now, lengths.prompt, lengths.output, lengths.cached)
        loop = asyncio.get_running_loop()
        exchange = _Exchange(pool.accept(pod, asked), loop.create_future(), loop.create_future())
        exchanges.append(exchange)
        try:
            return await chat.stream(
                request, pod.view.name, lengths, lambda: exchange.first, lambda: exchange.ended
            )
        except (LostError, ConnectionResetError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=499)
