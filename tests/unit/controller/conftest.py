from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.adapters.kube.fake_api import FakeApi, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    server = await start(fake)
    yield fake
    await server.close()
