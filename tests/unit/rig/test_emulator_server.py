"""The emulator over HTTP, against a small API server and a small operator."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientTimeout, web
from aiohttp.test_utils import TestClient, TestServer

from spillway.api.names import ROLE_LABEL
from tests.e2e.rig.emulator.clock import Clock
from tests.e2e.rig.emulator.fleet import Fleet
from tests.e2e.rig.emulator.podwatch import ApiServer
from tests.e2e.rig.emulator.server import Server
from tests.unit.rig.builders import KEY, settings, value, view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Client]:
    async with TestClient(TestServer(server.app())) as client:
        yield client


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


async def test_a_pool_is_posted_and_its_pages_are_served() -> None:
    server = Server(Fleet(Clock(factor=20)), [])
    async with running(server) as client:
        body = settings(requests_per_second=3).model_dump(mode="json")
        assert (await client.post("/pools", json=body)).status == 200
        server.fleet.observe(KEY, [view("a")])
        await until(lambda: server.fleet.pools[KEY].local.finished > 3)
        assert (await client.get("/healthz")).status == 200
        response = await client.get("/pods/serving/a/metrics")
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "vllm:num_requests_running{" in await response.text()
        assert 'pod="a"' in await (await client.get("/dcgm/metrics")).text()
        assert 'pool="llama-8b"' in await (await client.get("/gateway/metrics")).text()
        [target] = await (await client.get("/sd/pods")).json()
        assert target["targets"] == [f"127.0.0.1:{client.port}"]
        state = await (await client.get("/state")).json()
        assert state["pools"][KEY]["local_total"] > 3
        assert (await client.get("/pods/serving/b/metrics")).status == 404


async def test_rates_and_faults_are_set() -> None:
    server = Server(Fleet(Clock()), [])
    async with running(server) as client:
        await client.post("/pools", json=settings().model_dump(mode="json"))
        server.fleet.observe(KEY, [view("a")])
        rate = {"pool": KEY, "requests_per_second": 200}
        assert (await client.post("/rate", json=rate)).status == 200
        await until(lambda: server.fleet.pools[KEY].local.requests > 3)
        await client.post("/faults", json={"pool": KEY, "pod": "a", "metrics": "error"})
        assert (await client.get("/pods/serving/a/metrics")).status == 500
        await client.post("/faults", json={"pool": KEY, "pod": "a", "metrics": "hang"})
        with pytest.raises(TimeoutError):
            await client.get("/pods/serving/a/metrics", timeout=ClientTimeout(total=0.2))
        await client.post("/faults", json={"pool": KEY})
        assert (await client.get("/pods/serving/a/metrics")).status == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/pools", "{", 400, "Invalid JSON"),
        ("/pools", "{}", 400, "namespace: Field required"),
        ("/pools", {"profile": {"preset": "tpu"}}, 400, "one of llama-3.1-8b-h100"),
        ("/pools", {"profile": {"overrides": {"kv_blocks": 1}}}, 400, "got 'kv_blocks'"),
        ("/pools", {"profile": {"overrides": {"kv_capacity_tokens": 99}}}, 400, "must fit"),
        ("/pools", {"workload": {"overrides": {"max_prompt_tokens": 1.5}}}, 400, "whole number"),
        ("/rate", {"pool": KEY}, 400, "exactly one of"),
        ("/rate", {"pool": KEY, "profile": [[5, 1], [0, 1]]}, 400, "ascend"),
        ("/rate", {"pool": "no/where", "requests_per_second": 1}, 404, "got 'no/where'"),
        ("/faults", {"pool": KEY, "gpu_utilization": 101}, 400, "less than or equal to 100"),
        ("/faults", {"pool": KEY, "hangs": True}, 400, "hangs: Extra inputs"),
    ],
)
async def test_bad_bodies_are_refused_with_the_field(
    path: str, body: Any, status: int, message: str
) -> None:
    async with running(Server(Fleet(Clock()), [])) as client:
        if path == "/pools" and isinstance(body, dict):
            body = {**settings().model_dump(mode="json"), **body}
        data = body if isinstance(body, str) else json.dumps(body)
        response = await client.post(path, data=data)
        assert response.status == status
        assert message in await response.text()


async def test_the_newest_value_of_several_operators_is_followed() -> None:
    live = datetime.fromtimestamp(time.time() + 45, UTC).isoformat()
    answers: dict[str, Any] = {
        "old": value(version=9, epoch=1, fraction=0, until=live).model_dump_json(by_alias=True),
        "new": value(version=1, epoch=2, fraction=1, until=live).model_dump_json(by_alias=True),
        "broken": "<html>",
    }

    async def overflow(request: web.Request) -> web.Response:
        return web.Response(text=answers[request.match_info["replica"]])

    operator = web.Application()
    operator.router.add_get("/{replica}/v1/overflow/serving/llama-8b", overflow)
    async with TestServer(operator) as at:
        urls = [str(at.make_url(f"/{replica}")) for replica in answers]
        server = Server(Fleet(Clock()), [])
        async with running(server) as client:
            body = settings(router="fraction", requests_per_second=100).model_dump(mode="json")
            await client.post("/pools", json=body)
            assert (await client.post("/operators", json={"urls": urls})).status == 200
            await until(lambda: server.fleet.pools[KEY].cloud.requests > 0)
            state = await (await client.get("/state")).json()
            assert state["pools"][KEY]["overflow"]["epoch"] == 2
            assert state["pools"][KEY]["overflow"]["used"]["requests"] > 0


def pod_object(name: str, role: str) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "serving",
            "name": name,
            "uid": f"uid-{name}",
            "labels": {"app": "llama-8b", ROLE_LABEL: role},
        },
        "spec": {
            "nodeName": "node-0",
            "containers": [
                {"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "2"}}},
                {"name": "sidecar"},
            ],
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


async def test_pods_are_followed_through_a_watch_and_listed_again_when_it_ends() -> None:
    lists = [[pod_object("a", "serving")], [pod_object("c", "serving")]]
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def pods(request: web.Request) -> web.StreamResponse:
        assert request.query["labelSelector"] == "app=llama-8b"
        if "watch" not in request.query:
            items = lists.pop(0) if len(lists) > 1 else lists[0]
            return web.json_response({"metadata": {"resourceVersion": "7"}, "items": items})
        assert request.query["resourceVersion"] == "7"
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            event = await events.get()
            await response.write(json.dumps(event).encode() + b"\n")
            if event["type"] == "ERROR":
                return response

    api = web.Application()
    api.router.add_get("/api/v1/namespaces/serving/pods", pods)
    async with TestServer(api, shutdown_timeout=0) as at:
        server = Server(
            Fleet(Clock()), [], ApiServer(str(at.make_url("")).rstrip("/"), tls=True, headers={})
        )
        async with running(server) as client:
            await client.post("/pools", json=settings().model_dump(mode="json"))
            pool = server.fleet.pools[KEY]

            def serving() -> dict[str, bool]:
                return {pod.view.name: pod.serving for pod in pool.pods.values()}

            await until(lambda: serving() == {"a": True})
            assert next(iter(pool.pods.values())).gpu_indices == [0, 1]
            events.put_nowait({"type": "ADDED", "object": pod_object("b", "warm")})
            await until(lambda: serving() == {"a": True, "b": False})
            events.put_nowait({"type": "MODIFIED", "object": pod_object("b", "serving")})
            await until(lambda: serving() == {"a": True, "b": True})
            events.put_nowait({"type": "DELETED", "object": pod_object("a", "serving")})
            await until(lambda: serving() == {"b": True})
            events.put_nowait({"type": "ERROR", "object": {"code": 410}})
            await until(lambda: serving() == {"c": True})
            assert (await client.get("/healthz")).status == 200
