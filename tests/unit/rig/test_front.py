"""Requests over HTTP go into the emulated engines and come back as these have them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from spillway.sim.workload import RateProfile, TokenMix
from tests.e2e.rig import chat
from tests.e2e.rig.clients import Clients
from tests.e2e.rig.cloud import Cloud
from tests.e2e.rig.emulator import pages
from tests.e2e.rig.emulator.clock import Clock
from tests.e2e.rig.emulator.fleet import Fleet
from tests.e2e.rig.emulator.front import loopback
from tests.e2e.rig.emulator.pod import PodView
from tests.e2e.rig.emulator.server import Server
from tests.e2e.rig.endpoints import ready_addresses
from tests.e2e.rig.processes import free_ports

from .builders import KEY, settings, view
from .test_emulator_server import running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

IPS = ("10.77.0.1", "10.77.0.2")
SHORT = TokenMix(prompt_mean=50, prompt_sigma=0, output_mean=10, output_sigma=0)


@asynccontextmanager
async def pods(**changes: Any) -> AsyncIterator[tuple[Fleet, Sequence[str]]]:
    """Two emulated pods that serve, and their addresses."""
    (port,) = free_ports(1)
    server = Server(Fleet(Clock()), [])
    async with running(server):
        server.add_pool(settings(http_port=port, **changes))
        server.fleet.observe(KEY, [view(name, ip=ip) for name, ip in zip("ab", IPS, strict=True)])
        await server.front.follow()
        yield server.fleet, [f"http://{loopback(ip)}:{port}" for ip in IPS]


@asynccontextmanager
async def asking(clients: Clients, per_second: float) -> AsyncIterator[None]:
    """Clients ask meanwhile; afterwards everybody gets an answer."""
    clients.set_rate(RateProfile.constant(per_second))
    task = asyncio.create_task(clients.run())
    yield
    clients.set_rate(RateProfile.constant(0.0))
    await until(lambda: clients.in_flight == 0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_each_pod_answers_at_its_own_address_what_its_engine_has_done() -> None:
    async with pods() as (fleet, urls), aiohttp.ClientSession() as session:
        pool = fleet.pools[KEY]
        body = chat.body_of("m", chat.Lengths(prompt=40, output=7, cached=16))
        async with session.post(urls[1] + chat.PATH, json=body) as answer:
            text = await answer.read()
        assert text.count(b'"content"') == 7
        assert b'"usage": {"prompt_tokens": 40, "completion_tokens": 7}' in text
        assert b'"id": "b"' in text
        finished = {pod.view.name: pod.finished for pod in pool.pods.values()}
        assert finished == {"a": 0, "b": 1}
        assert pool.local.prompt_tokens == 40
        [hits] = [
            pod.engines[0].counters.prefix_cache_hits
            for pod in pool.pods.values()
            if pod.view.name == "b"
        ]
        assert hits == 16
        assert 'pool="llama-8b"' not in pages.gateway(fleet), "its gateway counts for itself"


async def test_clients_ask_as_often_as_told_and_see_the_engines_latency() -> None:
    slow = {"overrides": {"base_seconds": 0.02}}
    async with pods(profile=slow) as (fleet, urls):
        clients = Clients(urls[0], "m", SHORT)
        async with asking(clients, 50.0):
            await until(lambda: clients.answered.total() >= 30)
        assert clients.lost == 0, clients.problems
        assert clients.answered[""] == clients.sent == fleet.pools[KEY].local.finished
        between = [outcome.tpot_seconds or 0.0 for outcome in clients.outcomes]
        assert 0.018 < sorted(between)[len(between) // 2] < 0.06
        assert clients.attainment.summary(0.0)["overall"]["requests"] == clients.sent


async def test_a_pod_that_goes_takes_no_more_and_cuts_off_what_it_has() -> None:
    async with pods(shutdown_grace_seconds=0.5) as (fleet, urls):
        clients = Clients(urls[0], "m", TokenMix(50, 0, 4000, 0))
        async with asking(clients, 20.0):
            await until(lambda: clients.in_flight > 3)
            fleet.observe(KEY, [])
            before = clients.sent
            await until(lambda: clients.sent > before + 3)
            assert any("ClientConnectorError" in each for each in clients.problems)
            await until(lambda: not fleet.pools[KEY].pods)
        assert clients.lost == clients.sent
        assert fleet.pools[KEY].lost > 0


async def test_a_cloud_takes_its_time_and_counts_what_it_is_asked() -> None:
    cloud = await Cloud("cloud", first_token_seconds=0.1, per_token_seconds=0.01).start()
    clients = Clients(f"http://127.0.0.1:{cloud.port}", "m", SHORT)
    async with asking(clients, 40.0):
        await until(lambda: clients.answered.total() >= 5)
    await cloud.stop()
    assert clients.lost == 0, clients.problems
    assert cloud.answered == clients.sent
    assert cloud.usd == pytest.approx(cloud.answered * (50 * 10.0 + 10 * 30.0) / 1e6)
    assert all(outcome.ttft_seconds >= 0.1 for outcome in clients.outcomes)


def test_a_pods_view_has_its_ip() -> None:
    pod = {
        "metadata": {"namespace": "n", "name": "p", "uid": "u"},
        "status": {"podIP": "10.0.1.2"},
    }
    assert PodView.of(pod).ip == "10.0.1.2"
    assert loopback("10.0.1.2") == "127.0.1.2"


def test_a_name_resolves_to_what_is_ready() -> None:
    slices: list[dict[str, Any]] = [
        {
            "endpoints": [
                {"addresses": ["10.0.0.2"], "conditions": {"ready": True}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": False, "serving": True}},
                {"addresses": ["10.0.0.1"]},
            ]
        },
        {"endpoints": None},
    ]
    assert ready_addresses(slices) == ["10.0.0.1", "10.0.0.2"]
