"""Polls the operator for every pool's overflow value, as a gateway does."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import aiohttp
from pydantic import ValidationError

from tests.e2e.rig.emulator.router import OverflowValue
from tests.e2e.rig.emulator.settings import RouterMode

if TYPE_CHECKING:
    from tests.e2e.rig.emulator.fleet import Fleet
    from tests.e2e.rig.emulator.pool import Pool

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
TIMEOUT = aiohttp.ClientTimeout(total=0.9)


class OverflowPoller:
    """Asks every URL for every pool once a second; the router keeps the newest answer.

    An operator that can't be reached or answers nonsense changes nothing: the value held runs out.

    Attributes:
        urls: Base URLs of the operator's replicas, leader and standbys alike.
    """

    def __init__(self, fleet: Fleet, urls: list[str]) -> None:
        self.urls = urls
        self._fleet = fleet

    async def run(self) -> None:
        """Poll for ever."""
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
            while True:
                await asyncio.gather(self.poll(session), asyncio.sleep(POLL_SECONDS))

    async def poll(self, session: aiohttp.ClientSession) -> None:
        """Ask once."""
        await asyncio.gather(
            *(
                self._ask(session, url, pool)
                for url in self.urls
                for pool in self._fleet.pools.values()
                if pool.settings.router is not RouterMode.NONE
            )
        )

    async def _ask(self, session: aiohttp.ClientSession, url: str, pool: Pool) -> None:
        address = f"{url.rstrip('/')}/v1/overflow/{pool.settings.key}"
        try:
            async with session.get(address) as response:
                response.raise_for_status()
                value = OverflowValue.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
            log.debug("no overflow value from %s: %s", address, error)
            return
        clock = self._fleet.clock
        pool.router.offer(value, clock.wall(clock.now()))
