"""The endpoints, over a real socket."""

from __future__ import annotations

import socket
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from spillway.adapters.telemetry import Telemetry
from spillway.api.reasons import Reason
from spillway.controller.gateways import Gateways
from spillway.controller.http import Health, HttpServer, ListenError
from spillway.core.overflow import Admit, Allowance, OverflowValue, ProviderShare, from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VALUE = OverflowValue(
    version=3,
    epoch=7,
    until=1_800_000_000.25,
    fraction=0.25,
    admit=Admit(120),
    allowance=Allowance(40, 1.5),
    providers=(ProviderShare("api", 0.25),),
    reason=Reason.SHORTAGE,
)


def gateways(*, leads: bool = True) -> Gateways:
    """Of one pool, with `VALUE`."""
    known: Any = {("ns", "pool"): SimpleNamespace(overflow=VALUE, facts=None, outcome=None)}
    return Gateways(known, lambda: leads)


@asynccontextmanager
async def serving(
    health: Health | None = None, *, leads: bool = True
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    server = HttpServer(
        health=health or Health({"slow": 15.0, "fast": 1.0}),
        telemetry=Telemetry(),
        overflow=lambda namespace, name: VALUE if (namespace, name) == ("ns", "pool") else None,
        gateways=gateways(leads=leads),
        host="127.0.0.1",
        port=0,
    )
    port = await server.start()
    async with aiohttp.ClientSession() as session:
        yield f"http://127.0.0.1:{port}", session
    await server.stop()


async def test_healthz_is_well_while_both_loops_tick() -> None:
    async with serving() as (url, session), session.get(f"{url}/healthz") as answer:
        assert (answer.status, await answer.text()) == (200, "ok")


@pytest.mark.parametrize(
    ("loop", "seconds", "status"),
    [("fast", 59, 200), ("fast", 61, 503), ("slow", 119, 200), ("slow", 121, 503)],
)
async def test_healthz_fails_when_a_loop_hangs_and_names_it(
    loop: str, seconds: float, status: int
) -> None:
    health = Health({"slow": 15.0, "fast": 1.0})
    health.last_tick[loop] = time.monotonic() - seconds
    async with serving(health) as (url, session), session.get(f"{url}/healthz") as answer:
        assert answer.status == status
        if status == 503:
            assert await answer.text() == f"{loop} loop: no pass for {seconds} s"


async def test_readyz_says_what_is_waited_for_whoever_leads() -> None:
    health = Health({"slow": 15.0}, waiting_for="/api/v1/pods (403 Forbidden)")
    async with serving(health) as (url, session):
        async with session.get(f"{url}/readyz") as answer:
            assert answer.status == 503
            assert await answer.text() == "not listed yet: /api/v1/pods (403 Forbidden)"
        health.synced = True
        async with session.get(f"{url}/readyz") as answer:
            assert answer.status == 200


async def test_metrics_are_in_prometheus_own_format() -> None:
    async with serving() as (url, session), session.get(f"{url}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "# HELP spillway_leader" in await answer.text()


async def test_the_overflow_value_is_answered_exactly() -> None:
    async with serving() as (url, session):
        async with session.get(f"{url}/v1/overflow/ns/pool") as answer:
            assert answer.status == 200
            assert from_json(await answer.text()) == VALUE
        async with session.get(f"{url}/v1/overflow/ns/other") as answer:
            assert answer.status == 404
            assert await answer.json() == {"error": "no overflow value for InferencePool ns/other"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_no_endpoint_changes_what_is_decided(method: str) -> None:
    reports = () if method == "POST" else ("/v1/overflow/ns/pool",)
    async with serving() as (url, session):
        for path in (*reports, "/metrics", "/healthz", "/readyz", "/leaderz"):
            async with session.request(method, url + path, data=b"{}") as answer:
                assert answer.status == 405


async def test_a_port_that_is_taken_is_said_with_the_variable_that_changes_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = HttpServer(
            health=Health({}),
            telemetry=Telemetry(),
            overflow=lambda *_: None,
            gateways=gateways(),
            host="127.0.0.1",
            port=port,
        )
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}.*SPILLWAY_HTTP_PORT"):
            await server.start()


async def test_a_report_is_answered_with_the_value_and_the_part_of_it() -> None:
    async with serving() as (url, session):
        report = {"gateway": "edge-0", "worker": "edge-0/1", "inFlight": 5}
        async with session.post(f"{url}/v1/overflow/ns/pool", json=report) as answer:
            told = await answer.json()
    assert told["version"] == 3
    assert told["validForSeconds"] >= 0
    assert told["share"] == {"inFlight": 120, "promptTokens": None, "requests": 0, "usd": 0.0}


async def test_a_standby_deals_nothing_out_and_says_that_it_does_not_lead() -> None:
    async with serving(leads=False) as (url, session):
        report = {"gateway": "edge-0", "worker": "edge-0/1", "version": -1, "cap": 0, "used": 0}
        async with session.post(f"{url}/v1/overflow/ns/pool", json=report) as answer:
            assert "share" not in await answer.json()
        async with session.get(f"{url}/leaderz") as answer:
            assert answer.status == 503


@pytest.mark.parametrize(
    ("path", "text", "status", "said"),
    [
        ("ns/pool", "{}", 400, "gateway"),
        ("ns/pool", "nonsense", 400, "JSON"),
        ("ns/other", '{"gateway": "e", "worker": "e/1"}', 404, "ns/other"),
    ],
)
async def test_what_is_no_report_is_refused_with_its_field(
    path: str, text: str, status: int, said: str
) -> None:
    async with (
        serving() as (url, session),
        session.post(f"{url}/v1/overflow/{path}", data=text) as answer,
    ):
        assert answer.status == status
        assert said in (await answer.json())["error"]
