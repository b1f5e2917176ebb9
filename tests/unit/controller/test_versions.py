"""Which resourceVersion a write carries."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from spillway.adapters.kube.errors import Conflict
from spillway.controller.versions import KEPT, PoolVersions


@dataclass
class Object:
    """An object at an API server; a write that carries another version than its own is refused."""

    version: int = 1
    versions: PoolVersions = field(default_factory=PoolVersions)
    writing: int = 0

    async def take(self, version: str) -> str:
        self.writing += 1
        assert self.writing == 1, "writes of one object come one after the other"
        await asyncio.sleep(0)
        self.writing -= 1
        if version != str(self.version):
            raise Conflict(409, "Conflict", version)
        self.version += 1
        return str(self.version)

    async def write(self, seen: str) -> str:
        return await self.versions.write(seen, self.take)


async def test_what_was_seen_before_our_own_writes_still_stands() -> None:
    it = Object()
    assert [await it.write("1") for _ in range(3)] == ["2", "3", "4"]
    assert await it.write("3") == "5"


async def test_what_was_seen_before_anothers_write_does_not() -> None:
    it = Object()
    await it.write("1")
    it.version += 1
    for seen in ("1", "2"):
        with pytest.raises(Conflict):
            await it.write(seen)
    assert await it.write("3") == "4"
    # Seen before the other's write: our own write after it makes that no better.
    with pytest.raises(Conflict):
        await it.write("2")


async def test_writes_at_the_same_time_go_one_after_the_other() -> None:
    it = Object()
    assert await asyncio.gather(*(it.write("1") for _ in range(5))) == ["2", "3", "4", "5", "6"]


async def test_a_write_that_changed_nothing_leads_to_no_version() -> None:
    it = Object()

    async def unchanged(version: str) -> str:
        return version

    assert await it.versions.write("1", unchanged) == "1"
    assert await it.write("1") == "2"


async def test_a_failure_leaves_what_is_known() -> None:
    it = Object()
    await it.write("1")

    async def fails(version: str) -> str:
        raise Conflict(409, "Conflict", version)

    with pytest.raises(Conflict):
        await it.versions.write("1", fails)
    assert await it.write("1") == "3"


async def test_a_watch_lags_until_it_shows_the_write() -> None:
    it = Object()
    own = await it.write("1")
    assert it.versions.lags("1", own)
    assert not it.versions.lags(own, own)
    assert not it.versions.lags(await it.write("1"), own)
    assert not it.versions.lags("77", own), "somebody else's write comes after ours"
    assert not it.versions.lags("1", None), "nothing of ours is to be shown"


async def test_what_is_remembered_is_bounded() -> None:
    it = Object()
    for _ in range(10 * KEPT):
        await it.write(str(it.version))
    assert it.versions.latest(str(it.version - KEPT)) == str(it.version - KEPT)
    assert it.versions.latest(str(it.version - KEPT + 1)) == str(it.version)
