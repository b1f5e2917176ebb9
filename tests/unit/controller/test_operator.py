"""The whole operator in this process, against an API server in this process."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import aiohttp
import kopf
import pytest

from spillway.adapters.kube.errors import ConnectError
from spillway.controller import wiring
from spillway.controller.http import ListenError
from spillway.controller.operator import Operator
from spillway.controller.settings import Settings
from tests.unit.adapters.kube.fake_api import FakeApi, status, until, write_kubeconfig
from tests.unit.controller import fakes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LEASE = "/apis/coordination.k8s.io/v1/namespaces/spillway-system/leases/spillway-operator"
POOLS = "/apis/spillway.dev/v1alpha1/namespaces/serving/inferencepools"


def settings(path: Path, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "kubeconfig": path,
        "http_host": "127.0.0.1",
        "http_port": 0,
        "prometheus_url": "http://127.0.0.1:1",
        "slow_tick_seconds": 0.1,
        "fast_tick_seconds": 0.05,
        "lease_retry_seconds": 0.1,
        "identity": "me",
        **changes,
    }
    return Settings(**values)


@asynccontextmanager
async def running(fake: FakeApi, folder: Path, **changes: Any) -> AsyncIterator[Operator]:
    path = write_kubeconfig(folder / "kubeconfig", fake.url)
    async with Operator(settings(path, **changes)) as operator:
        await operator.start()
        yield operator


async def answer(operator: Operator, path: str) -> tuple[int, str]:
    port = operator._http._runner.addresses[0][1]
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        return response.status, await response.text()


async def test_it_lists_leads_reports_and_gives_the_lease_back(
    api: FakeApi,
    tmp_path: Path,
) -> None:
    api.put(f"{POOLS}/pool", fakes.pool_object())

    def reported() -> bool:
        patches = [s for s in api.requests("PATCH") if s.path == f"{POOLS}/pool/status"]
        return any("conditions" in (s.body or {}).get("status", {}) for s in patches)

    async with running(api, tmp_path) as operator:
        await until(reported, seconds=10)
        assert (await answer(operator, "/readyz"))[0] == 200
        assert (await answer(operator, "/healthz"))[0] == 200
        page = (await answer(operator, "/metrics"))[1]
        assert 'spillway_pools{valid="true"} 1.0' in page
        assert api.objects[LEASE]["spec"]["holderIdentity"] == "me"
    assert api.objects[LEASE]["spec"]["holderIdentity"] == "", "released, so nobody waits for it"
    leftover = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in leftover if "spillway" in repr(task.get_coro())]


async def test_a_connection_that_is_kept_open_does_not_outlive_the_stop(
    api: FakeApi, tmp_path: Path
) -> None:
    async with running(api, tmp_path) as operator, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{operator._http._runner.addresses[0][1]}/healthz"
        async with session.get(url) as response:
            assert response.status == 200
        await operator.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)


async def test_without_a_permission_it_waits_and_readyz_names_it(
    api: FakeApi,
    tmp_path: Path,
) -> None:
    def forbid(seen: Any) -> Any:
        if seen.path == "/api/v1/pods":
            return status(403, "Forbidden", "may not list pods")
        return None

    api.faults.append(forbid)
    async with running(api, tmp_path) as operator:
        told: list[str] = []

        async def ask() -> None:
            while not told or "may not list pods" not in told[-1]:
                told.append((await answer(operator, "/readyz"))[1])
                await asyncio.sleep(0.1)

        async with asyncio.timeout(10):
            await ask()
        assert told[-1].startswith("not listed yet: /api/v1/pods (")
        assert (await answer(operator, "/healthz"))[0] == 200, "a restart would not help"
        assert "may not list pods" in told[-1]


async def test_an_api_server_that_never_answers_is_an_error_and_frees_the_port(
    tmp_path: Path,
) -> None:
    path = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    operator = Operator(settings(path, connect_timeout_seconds=0.01))
    with pytest.raises(ConnectError, match=r"http://127.0.0.1:1 can't be reached"):
        async with operator:
            pass
    assert operator._http._runner.addresses == []


async def test_a_taken_port_is_an_error(api: FakeApi, tmp_path: Path) -> None:
    async with running(api, tmp_path) as operator:
        port = operator._http._runner.addresses[0][1]
        path = write_kubeconfig(tmp_path / "kubeconfig", api.url)
        with pytest.raises(ListenError, match="SPILLWAY_HTTP_PORT"):
            async with Operator(settings(path, http_port=port)):
                pass


# Kopf


async def test_kopf_logs_in_with_the_same_credentials(api: FakeApi, tmp_path: Path) -> None:
    async with running(api, tmp_path) as operator:
        found = await wiring.connection(operator)
        assert found.server == api.url


def test_kopf_neither_writes_nor_gives_up() -> None:
    tuned = kopf.OperatorSettings()
    wiring.tune(tuned)
    assert not tuned.posting.enabled, "events are our own"
    assert tuned.peering.standalone
    backoffs = tuned.networking.error_backoffs
    assert not isinstance(backoffs, int | float)
    assert list(islice(backoffs, 1000))[-1] == 2.0, "endless, or Kopf would exit"
    assert not tuned.scanning.disabled, "a CRD that comes later is noticed"


def test_kopf_copies_no_object_to_know_what_has_changed() -> None:
    tuned = kopf.OperatorSettings()
    wiring.tune(tuned)
    body = kopf.Body({"metadata": {"name": "chat"}, "spec": {"modelName": "m"}})
    storage = tuned.persistence.diffbase_storage
    assert storage.build(body=body) == {}
    assert storage.fetch(body=body) is None
    patch = kopf.Patch()
    storage.store(body=body, patch=patch, essence=storage.build(body=body))
    assert not patch


def test_confined_to_namespaces_kopf_asks_for_nothing_of_the_cluster() -> None:
    tuned = kopf.OperatorSettings()
    wiring.tune(tuned, confined=True)
    assert tuned.scanning.disabled


async def test_kopf_adds_no_finalizer_and_handles_nothing_but_the_wake_up(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    registry = wiring.registry_for(Operator(settings(path)))
    assert list(registry._spawning.get_all_handlers()) == []
    assert list(registry._changing.get_all_handlers()) == []
    assert list(registry._indexing.get_all_handlers()) == []
    (handler,) = registry._watching.get_all_handlers()
    assert str(handler.id).endswith("changed")
