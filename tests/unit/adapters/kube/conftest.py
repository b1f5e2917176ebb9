from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spillway.adapters.kube import backoff, client
from spillway.adapters.kube.client import Cluster
from tests.unit.adapters.kube.fake_api import FakeApi, start, write_kubeconfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(backoff, "NEXT_SECONDS", 0.02)
    monkeypatch.setattr(client, "GET_BACKOFF_SECONDS", 0.01)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    server = await start(fake)
    yield fake
    await server.close()


@pytest.fixture
async def cluster(api: FakeApi, tmp_path: Path) -> AsyncIterator[Cluster]:
    path = write_kubeconfig(tmp_path / "kubeconfig", api.url)
    async with await Cluster.connect(str(path), request_timeout_seconds=5) as connected:
        yield connected
