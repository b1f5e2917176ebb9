"""The resourceVersions that our own writes of a pool have led to, so that none hinders the next.

Each write carries the version that it was decided on. An own write in between is no reason to
decide again: it changed nothing that the decision has read. So a decision stands for as long as
nothing but own writes came after what it has seen, and its write then carries the last of these.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: Own writes remembered of a pool: about a minute of annotations at one a second, several times
#: what a decision is old or a watch lags. A decision on an older version is made anew.
KEPT: Final = 64


class PoolVersions:
    """One pool's versions. Its writes go through here, one after the other."""

    def __init__(self) -> None:
        self._chain: list[str] = []
        self._turn = asyncio.Lock()

    def latest(self, seen: str) -> str:
        """What a write that was decided on ``seen`` carries.

        It is ``seen`` itself where that is not our own: somebody else has written, and either the
        decision knows it, or its write must fail.
        """
        return self._chain[-1] if seen in self._chain else seen

    def lags(self, seen: str, own: str | None) -> bool:
        """Whether a watch that shows ``seen`` is still to show our own write ``own``."""
        chain = self._chain
        return own in chain and seen in chain and chain.index(seen) < chain.index(own)

    async def write(self, seen: str, send: Callable[[str], Awaitable[str]]) -> str:
        """Send a write that was decided on ``seen``, once those before it have been answered.

        Args:
            seen: resourceVersion of the pool that this was decided on.
            send: Sends the write with the resourceVersion that it is given; returns the new one.

        Returns:
            The pool's resourceVersion with it.

        Raises:
            ApiError: As ``send`` does.
        """
        async with self._turn:
            before = self.latest(seen)
            after = await send(before)
            if self._chain[-1:] != [before]:
                self._chain = [before]
            if after != before:
                self._chain = [*self._chain, after][-KEPT:]
            return after
