"""Keeps the pools' ledgers in step with the store: read once a leadership, written before use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from spillway.adapters.kube.errors import ApiError, Conflict
from spillway.core.ledger import from_json, is_over, to_json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from spillway.adapters.kube.ledger_store import LedgerStore
    from spillway.controller.runtime import Runtimes
    from spillway.core.ledger import PoolLedger

log = structlog.get_logger(__name__)

Key = tuple[str, str]


class Ledgers:
    """Stored ledgers of all pools.

    They are keyed by namespace and name, in the operator's namespace: who deletes a pool and makes
    it anew gets its old ledger back.
    """

    def __init__(self, store: LedgerStore, runtimes: Runtimes) -> None:
        self._store = store
        self._runtimes = runtimes
        self._epoch: int | None = None
        self._texts: dict[str, str] = {}
        self._loaded: dict[Key, str] = {}

    async def ready(self, epoch: int, alive: Collection[Key], now: float) -> bool:
        """Whether the ledgers of this leadership are in memory; reads them if need be.

        Until they are, nothing may be granted.

        Args:
            epoch: Of this leadership.
            alive: Keys of all pools that exist.
            now: Seconds since the epoch.
        """
        if self._epoch != epoch:
            try:
                self._texts = await self._store.load()
            except ApiError as error:
                log.warning("ledgers not readable; nothing is granted", error=str(error))
                return False
            self._epoch = epoch
            self._loaded.clear()
            await self._drop_old(alive, now)
        self._adopt()
        return True

    def _adopt(self) -> None:
        """Give pools that are new in memory their stored ledger."""
        runtimes = self._runtimes.all()
        for runtime in runtimes:
            if self._loaded.get(runtime.key) == runtime.uid:
                continue
            self._loaded[runtime.key] = runtime.uid
            name = "/".join(runtime.key)
            text = self._texts.get(name)
            runtime.ledger_readable = True
            if text is None:
                continue
            try:
                runtime.ledger = runtime.stored = from_json(text)
            except ValueError as error:
                # An empty ledger in its place would hand out the period's budget once more.
                runtime.ledger_readable = False
                log.warning(
                    "stored ledger is not readable; nothing is granted", pool=name, error=str(error)
                )
        if len(self._loaded) > len(runtimes):
            known = {runtime.key for runtime in runtimes}
            self._loaded = {key: uid for key, uid in self._loaded.items() if key in known}

    async def _drop_old(self, alive: Collection[Key], now: float) -> None:
        """Drop entries of pools that are gone, once no period that they spent in still runs.

        Until then a pool that is made anew under the same name finds what it has spent.
        """
        names = {"/".join(key) for key in alive}
        old = []
        for name, text in self._texts.items():
            try:
                if name not in names and is_over(from_json(text), now):
                    old.append(name)
            except ValueError:
                log.warning("stored ledger of a pool that is gone is not readable", pool=name)
        if not old:
            return
        failed = await self._store.save(dict.fromkeys(old))
        if failed:
            error = next(iter(failed.values()))
            log.warning("old ledgers not dropped; another leadership will", error=str(error))
        dropped = [name for name in old if name not in failed]
        for name in dropped:
            del self._texts[name]
        log.info("ledgers of pools that are gone dropped", count=len(dropped))

    async def save(self, changes: Mapping[Key, PoolLedger]) -> set[Key]:
        """Store changed ledgers.

        Returns:
            Keys that could not be stored; their new values must not be published.
        """
        if not changes:
            return set()
        texts = {"/".join(key): to_json(ledger) for key, ledger in changes.items()}
        failed = await self._store.save(texts)
        if any(isinstance(error, Conflict) for error in failed.values()):
            log.warning("another leader wrote the ledgers; reading them again")
            self._epoch = None
        elif failed:
            error = next(iter(failed.values()))
            log.warning(
                "ledgers not stored; nothing new is granted", pools=len(failed), error=str(error)
            )
        unsaved = set()
        for key, ledger in changes.items():
            name, runtime = "/".join(key), self._runtimes.get(key)
            if name in failed:
                unsaved.add(key)
                continue
            self._texts[name] = texts[name]
            if runtime is not None:
                runtime.stored = ledger
        return unsaved
