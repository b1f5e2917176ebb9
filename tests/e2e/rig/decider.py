"""Answers gateways as the operator does, with a value that a test sets."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from spillway.api.reasons import Reason
from spillway.core.overflow import Admit, Allowance, OverflowValue, ProviderShare, to_dict
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

    def say(
        self,
        in_flight: int = 10,
        requests: int = 100_000,
        usd: float = 1e6,
        seconds: float = 60.0,
        **changes: Any,
    ) -> None:
        """Set the value; its version is one more than before unless told.

        Args:
            in_flight: Requests in flight that may be admitted.
            requests: Requests that may leave.
            usd: What they may cost.
            seconds: Until the value ends.
            changes: Other fields of the value.
        """
        self.value = OverflowValue(
            **{
                "version": 1 if self.value is None else self.value.version + 1,
                "epoch": 1,
                "until": time.time() + seconds,
                "fraction": 0.5,
                "admit": Admit(in_flight),
                "allowance": Allowance(requests, usd),
                "providers": (ProviderShare("a", 0.5), ProviderShare("b", 0.0)),
                "reason": Reason.SHORTAGE,
                **changes,
            }
        )

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
