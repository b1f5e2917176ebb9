from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from spillway.controller.backlog import Backlog
from tests.unit.adapters.kube.fake_api import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@asynccontextmanager
async def running(workers: int = 4) -> AsyncIterator[Backlog]:
    backlog = Backlog(workers)
    task = asyncio.create_task(backlog.run())
    yield backlog
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def key(name: str) -> tuple[str, str]:
    return "ns", name


async def test_a_newer_job_takes_the_place_of_one_that_was_not_begun() -> None:
    done: list[str] = []

    def job(name: str) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            done.append(name)

        return work

    async with running() as backlog:
        for name in ("old", "new"):
            backlog.put(key("a"), job(name))
        backlog.put(key("b"), job("other"))
        await until(lambda: len(done) == 2)
    assert done == ["new", "other"]


async def test_jobs_of_one_key_never_overlap_and_the_last_one_is_done() -> None:
    at_once, most, last = 0, 0, 0
    gate = asyncio.Event()

    def job(number: int) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            nonlocal at_once, most, last
            at_once += 1
            most = max(most, at_once)
            await gate.wait()
            at_once -= 1
            last = number

        return work

    async with running() as backlog:
        for number in range(1, 4):
            backlog.put(key("a"), job(number))
            await asyncio.sleep(0)
        gate.set()
        await until(lambda: last == 3)
    assert most == 1


async def test_a_job_that_hangs_or_fails_holds_up_no_other_key() -> None:
    done: list[str] = []

    async def hang() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        msg = "broken"
        raise RuntimeError(msg)

    async def work() -> None:
        done.append("done")

    async with running(workers=2) as backlog:
        backlog.put(key("hangs"), hang)
        backlog.put(key("fails"), fail)
        for number in range(5):
            backlog.put(key(f"good{number}"), work)
        await until(lambda: len(done) == 5)
        backlog.put(key("fails"), work)
        await until(lambda: len(done) == 6)
