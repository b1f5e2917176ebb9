"""Work that may wait: the newest job of each key, done behind the loops by a few workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger(__name__)

Key = tuple[str, str]
#: Jobs done at once. An API server that is short of CPU takes seconds for a write: with few at once
#: statuses would come by fours in that time and not as fast as the write bucket allows.
WORKERS: Final = 32


class Backlog:
    """Jobs by key, in the order in which their keys came; jobs of one key never overlap."""

    def __init__(self, workers: int = WORKERS) -> None:
        self._workers = workers
        self._jobs: dict[Key, Callable[[], Awaitable[None]]] = {}
        self._busy: set[Key] = set()
        self._news = asyncio.Event()

    def put(self, key: Key, job: Callable[[], Awaitable[None]]) -> None:
        """Do this some time soon; a job of the same key that was not begun yet is dropped."""
        self._jobs[key] = job
        self._news.set()

    async def run(self) -> None:
        """Do jobs until cancelled; one that fails is logged."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = next((key for key in self._jobs if key not in self._busy), None)
            if key is None:
                self._news.clear()
                await self._news.wait()
                continue
            job = self._jobs.pop(key)
            self._busy.add(key)
            try:
                await job()
            except Exception:
                log.exception("a job failed; its next one tries again", pool="/".join(key))
            finally:
                self._busy.discard(key)
                self._news.set()
            # Jobs without a write have no pause: let others in between.
            await asyncio.sleep(0)
