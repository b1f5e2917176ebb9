"""The operator's HTTP endpoints: probes, metrics and the overflow value.

``/v1/overflow/{namespace}/{name}`` is what gateways poll. The leader answers with the exact value
that it holds; a standby answers from the annotation, which is quantised and a little older; whoever
polls takes the highest epoch. A POST there is a gateway's report, and is answered with its part of
the value besides; ``/leaderz`` says who deals those out. Nothing here changes what may be spent.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiohttp import web

from spillway.core.overflow import OverflowValue, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable

    from spillway.adapters.telemetry import Telemetry
    from spillway.controller.gateways import Gateways

#: A loop that has not ended a pass for this many of its periods is taken for hung.
HUNG_AFTER_PERIODS: Final = 8.0
#: ... but never sooner than this: a slow API server is not a hang.
HUNG_AFTER_SECONDS: Final = 60.0


class ListenError(Exception):
    """The HTTP port can't be taken; the message says why and what to do."""


@dataclass(slots=True)
class Health:
    """What the probes look at.

    Attributes:
        period_seconds: Period of each loop, by name.
        last_tick: Monotonic time of the end of each loop's last pass.
        synced: Whether every informer has listed its resource once.
        waiting_for: What has not been listed yet, for a person.
    """

    period_seconds: dict[str, float]
    last_tick: dict[str, float] = field(default_factory=dict)
    synced: bool = False
    waiting_for: str = "everything"

    def __post_init__(self) -> None:
        """Start the clocks, so that a start-up that hangs is noticed too."""
        started = time.monotonic()
        self.last_tick = dict.fromkeys(self.period_seconds, started)

    def ticked(self, loop: str) -> None:
        """Note that a loop has ended a pass."""
        self.last_tick[loop] = time.monotonic()

    def hung(self) -> dict[str, float]:
        """Loops that have not ended a pass for too long, with the age of their last one."""
        now = time.monotonic()
        ages = {name: now - at for name, at in self.last_tick.items()}
        return {
            name: age
            for name, age in ages.items()
            if age > max(HUNG_AFTER_SECONDS, HUNG_AFTER_PERIODS * self.period_seconds[name])
        }


class HttpServer:
    """Serves the endpoints on one port."""

    def __init__(
        self,
        *,
        health: Health,
        telemetry: Telemetry,
        overflow: Callable[[str, str], OverflowValue | None],
        gateways: Gateways,
        host: str,
        port: int,
    ) -> None:
        self._health = health
        self._telemetry = telemetry
        self._overflow = overflow
        self._gateways = gateways
        self._host = host
        self._port = port
        app = web.Application(client_max_size=1024)
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/leaderz", self._leaderz),
                web.get("/v1/overflow/{namespace}/{name}", self._get_overflow),
                web.post("/v1/overflow/{namespace}/{name}", self._report),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> int:
        """Listen; returns the port.

        Raises:
            ListenError: The port is taken or not permitted, or the host is not of this machine.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            msg = (
                f"can't listen on {self._host}:{self._port}: {error.strerror or error}; set "
                "SPILLWAY_HTTP_HOST and SPILLWAY_HTTP_PORT to an address that is free"
            )
            raise ListenError(msg) from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening and close what is open."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        hung = self._health.hung()
        if hung:
            text = ", ".join(f"{name} loop: no pass for {age:.0f} s" for name, age in hung.items())
            return web.Response(status=503, text=text)
        return web.Response(text="ok")

    async def _readyz(self, _: web.Request) -> web.Response:
        if not self._health.synced:
            return web.Response(status=503, text=f"not listed yet: {self._health.waiting_for}")
        return web.Response(text="ok")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            # In a thread: with a thousand pools it takes a good part of a second.
            body=await asyncio.to_thread(self._telemetry.render),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _get_overflow(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        value = self._overflow(namespace, name)
        return _no_value(namespace, name) if value is None else web.json_response(to_dict(value))

    async def _leaderz(self, _: web.Request) -> web.Response:
        if not self._gateways.leads():
            return web.Response(status=503, text="a standby")
        return web.Response(text="ok")

    async def _report(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        try:
            answer = self._gateways.answer(namespace, name, await request.text())
        except ValueError as error:
            return web.json_response({"error": f"report: {error}"}, status=400)
        return _no_value(namespace, name) if answer is None else web.json_response(answer)


def _no_value(namespace: str, name: str) -> web.Response:
    text = f"no overflow value for InferencePool {namespace}/{name}"
    return web.json_response({"error": text}, status=404)
