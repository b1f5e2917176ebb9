"""Ledgers between the store and the pools' memory."""

from __future__ import annotations

import json
import time
from typing import Any, cast

from spillway.adapters.kube.errors import Conflict, LedgerFullError
from spillway.controller.ledgers import Ledgers
from spillway.controller.runtime import PoolRuntime, Runtimes
from spillway.core.ledger import PoolLedger, from_json, reserve, to_json
from tests.unit.controller import fakes
from tests.unit.controller.fakes import Seams

KEY = (fakes.NAMESPACE, "pool")
POOL = fakes.pool(burst=fakes.burst_spec(budget={"perDay": "10"}))
MONTH = 32 * 86_400.0


def granted(requests: int = 100, now: float | None = None) -> PoolLedger:
    """A ledger with one reservation of a dollar."""
    assert POOL.spec.burst is not None
    at = time.time() if now is None else now
    return reserve(PoolLedger.empty("UTC", at), 1.0, requests, POOL.spec.burst.budget, at)[0]


class Setting:
    def __init__(self, **texts: str) -> None:
        self.seams = Seams()
        self.seams.store.texts = {f"{fakes.NAMESPACE}/{k}": v for k, v in texts.items()}
        self.runtimes = Runtimes(lambda _: None)
        self.ledgers = Ledgers(cast("Any", self.seams.store), self.runtimes)

    def see(self, **changes: Any) -> PoolRuntime:
        pool = fakes.pool(burst=fakes.burst_spec(), **changes)
        return self.runtimes.of(pool, time.time())

    async def ready(self, epoch: int = 1, alive: Any = (KEY,)) -> bool:
        return await self.ledgers.ready(epoch, alive, time.time())


async def test_a_pool_gets_its_stored_ledger_back_and_also_under_a_new_uid() -> None:
    setting = Setting(pool=to_json(granted()))
    first = setting.see()
    assert await setting.ready()
    assert first.ledger.outstanding == 1
    again = setting.see(uid="made-anew")
    assert again.ledger.outstanding == 0
    assert await setting.ready()
    assert again.ledger.outstanding == 1, "who deletes a pool does not reset its budget"


async def test_the_store_is_read_once_a_leadership() -> None:
    setting = Setting()
    for epoch in (1, 1, 2, 2):
        assert await setting.ready(epoch)
    assert setting.seams.journal == [("ledgers read",)] * 2


async def test_while_the_store_can_not_be_read_nothing_is_ready() -> None:
    setting = Setting()
    setting.seams.store.load_failure = fakes.unavailable()
    assert not await setting.ready()
    setting.seams.store.load_failure = None
    assert await setting.ready()


async def test_what_was_saved_is_what_a_new_uid_gets() -> None:
    setting = Setting()
    runtime = setting.see()
    await setting.ready()
    ledger = granted()
    assert await setting.ledgers.save({KEY: ledger}) == set()
    assert runtime.stored is ledger
    again = setting.see(uid="made-anew")
    await setting.ready()
    assert again.ledger == ledger


async def test_a_ledger_that_was_not_stored_is_named() -> None:
    setting = Setting()
    setting.see()
    await setting.ready()
    for failure in (fakes.unavailable(), LedgerFullError("full")):
        setting.seams.store.save_failure = failure
        assert await setting.ledgers.save({KEY: granted()}) == {KEY}


async def test_after_a_conflict_the_other_leaders_ledgers_are_read() -> None:
    setting = Setting()
    runtime = setting.see()
    await setting.ready()
    setting.seams.store.save_failure = Conflict(409, "Conflict", "changed")
    assert await setting.ledgers.save({KEY: granted()}) == {KEY}
    setting.seams.store.texts["serving/pool"] = to_json(granted(7))
    assert await setting.ready()
    assert runtime.ledger.reservations[0].requests == 7


async def test_a_ledger_that_can_not_be_read_spends_nothing() -> None:
    broken = json.loads(to_json(granted())) | {"form": 99}
    setting = Setting(pool=json.dumps(broken))
    runtime = setting.see()
    await setting.ready()
    before = runtime.ledger_readable, runtime.budget_left(POOL.spec, time.time())
    setting.seams.store.texts["serving/pool"] = to_json(granted())
    await setting.ready(epoch=2)
    assert before == (False, False)
    assert runtime.ledger_readable
    assert runtime.budget_left(POOL.spec, time.time())


async def test_ledgers_of_pools_that_are_gone_go_once_their_periods_are_over() -> None:
    now = time.time()
    over = to_json(PoolLedger.empty("UTC", now - MONTH))
    setting = Setting(
        pool=over,
        running=to_json(PoolLedger.empty("UTC", now)),
        reserved=to_json(granted(now=now - MONTH)),
        gone=over,
        broken="{",
    )
    await setting.ready()
    kept = {name.removeprefix("serving/") for name in setting.seams.store.texts}
    assert kept == {"pool", "running", "reserved", "broken"}


async def test_memory_of_pools_does_not_grow_with_those_that_are_gone() -> None:
    setting = Setting()
    for number in range(50):
        pool = fakes.pool(f"pool{number}", burst=fakes.burst_spec())
        setting.runtimes.of(pool, time.time())
        await setting.ready()
        setting.runtimes.retain([])
    await setting.ready()
    assert len(setting.ledgers._loaded) == 0


def test_a_stored_ledger_is_what_it_was() -> None:
    ledger = granted()
    assert from_json(to_json(ledger)) == ledger
