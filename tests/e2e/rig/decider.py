"""Answers gateways as the operator does, with a value that a test sets."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from spillway.core.overflow import OverflowValue, to_dict
from spillway.core.sharing import Sharing, parse_report, share

if TYPE_CHECKING:
    from tests.e2e.rig.model_servers import ModelServer


@dataclass
class Decider:
    """The operator's endpoint for one pool, with the operator's own dealing out.

    Attributes:
        clouds: Providers, in order.
        value: What is answered; None answers 404.
        port: Where it listens.
        reports: How often it was asked.
    """

    clouds: list[ModelServer]
    value: OverflowValue | None = None
    port: int = 0
    reports: int = 0
    sharing: Sharing = field(default_factory=Sharing)
    _runner: web.AppRunner | None = None

    async def start(self) -> Self:
        """Listen; on the port it had, after a stop."""
        app = web.Application()
        app.router.add_post("/v1/overflow/serving/llama", self._report)
        app.router.add_get("/leaderz", self._leaderz)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def stop(self) -> None:
        """Be gone."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _leaderz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _report(self, request: web.Request) -> web.Response:
        self.reports += 1
        report, now = parse_report(await request.text()), time.time()
        if self.value is None:
            return web.json_response({"error": "no overflow value"}, status=404)
        self.sharing, told = share(self.sharing, report, self.value, now)
        answer: dict[str, Any] = {
            **to_dict(self.value),
            "validForSeconds": max(0.0, self.value.until - now),
            "share": {
                "inFlight": told.in_flight,
                "promptTokens": told.prompt_tokens,
                "requests": told.requests,
                "usd": told.usd,
            },
            "terms": {
                "providers": [
                    {
                        "name": cloud.name,
                        "inputUsdPerMillion": cloud.input_usd_per_million,
                        "outputUsdPerMillion": cloud.output_usd_per_million,
                        "maxContextTokens": None,
                    }
                    for cloud in self.clouds
                ],
                "gpuSeconds": None,
                "p95OutputTokens": 20,
            },
        }
        return web.json_response(answer)
