"""The fast loop: money is reserved before it can be spent, and one pool holds up no other."""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from spillway.adapters.kube.errors import Conflict, LedgerFullError
from spillway.adapters.metrics import EnginePage
from spillway.api.inferencepool import Mode
from spillway.api.names import OVERFLOW_ANNOTATION, Role
from spillway.api.reasons import Reason
from spillway.controller import fast_loop
from spillway.controller.annotator import Annotator
from spillway.controller.fast_loop import FastLoop
from spillway.controller.http import Health
from spillway.controller.ledgers import Ledgers
from spillway.controller.runtime import Runtimes
from spillway.controller.settings import Settings
from spillway.core.burst import overflow_inputs
from spillway.core.facts import GatewayLoad
from spillway.core.fast import fast_step
from spillway.core.ledger import PoolLedger, from_json
from spillway.core.overflow import Allowance, to_json
from spillway.core.pool import step
from tests.unit.adapters.kube.fake_api import until
from tests.unit.controller import fakes
from tests.unit.controller.fakes import NAMESPACE, Seams

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from spillway.api.validation import InferencePool
    from spillway.controller.runtime import PoolRuntime

SETTINGS = Settings(fast_tick_seconds=0.2)


class Woken:
    """Stands in for the slow loop: notes who is to be taken out of turn."""

    def __init__(self) -> None:
        self.keys: list[tuple[str, str]] = []

    def wake(self, key: tuple[str, str]) -> None:
        self.keys.append(key)


class Setting:
    """Pools with two replicas each of 10 requests/s, all behind one fast loop."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.seams = Seams()
        self.woken = Woken()
        self.health = Health({"fast": 0.2})
        self.runtimes = Runtimes(lambda key: self.seams.telemetry.forget(*key))
        self.annotator = Annotator(
            writer=cast("Any", self.seams.writer),
            telemetry=self.seams.telemetry,
            may_write=self.seams.lease.is_leader,
        )
        self.loop = FastLoop(
            settings=settings,
            watches=self.seams.watches,
            observer=self.seams.observer,
            runtimes=self.runtimes,
            ledgers=Ledgers(cast("Any", self.seams.store), self.runtimes),
            annotator=self.annotator,
            routes=self.seams.routes,
            lease=cast("Any", self.seams.lease),
            slow=cast("Any", self.woken),
            telemetry=self.seams.telemetry,
            health=self.health,
        )

    async def add(self, name: str = "pool", arrivals: float = 40.0, **changes: Any) -> PoolRuntime:
        """A pool as the slow loop leaves it; 40 requests/s are twice what two replicas serve."""
        pool = fakes.pool(name, **{"burst": fakes.burst_spec(), **changes})
        pods = [fakes.pod(f"{name}-{letter}", app=name) for letter in "ab"]
        fakes.put(self.seams.watches, pool, fakes.deployment(name), fakes.service(name), *pods)
        self.seams.prometheus.put(*(pod.name for pod in pods))
        for each in pods:
            self.seams.scraper.pages.setdefault(each.name, fakes.page(running=20.0))
        gateways = self.seams.prometheus.more.setdefault("gateways", {})
        gateways[NAMESPACE, name] = GatewayLoad(time.time(), arrivals)
        await self.seams.observer.ask_prometheus()
        return await self.decided(pool)

    async def decided(self, pool: InferencePool) -> PoolRuntime:
        now = time.time()
        runtime = self.runtimes.of(pool, now)
        runtime.facts = await self.seams.world.facts(pool, now)
        runtime.outcome = step(
            runtime.facts,
            runtime.state,
            now,
            read_only=False,
            overflow_fraction=0.0,
            budget_left=True,
        )
        return runtime

    async def load(self, arrivals: float) -> None:
        """Another arrival rate, as the next slow tick sees it."""
        load = GatewayLoad(time.time(), arrivals)
        self.seams.prometheus.more["gateways"][NAMESPACE, "pool"] = load
        await self.seams.observer.ask_prometheus()
        await self.decided(fakes.pool(burst=fakes.burst_spec()))

    async def tick(self) -> None:
        await self._look(self.loop.tick)

    async def look_at_busy(self) -> None:
        await self._look(self.loop.look_at_busy)

    async def _look(self, look: Callable[[], Awaitable[None]]) -> None:
        for name, found in self.seams.scraper.pages.items():
            if isinstance(found, EnginePage):
                self.seams.scraper.pages[name] = replace(found, at=time.time())
        await look()
        await asyncio.gather(*self.annotator._writing.values())


def fraction(runtime: PoolRuntime) -> float:
    assert runtime.overflow is not None
    return runtime.overflow.fraction


# Money


async def test_a_grant_is_stored_before_the_value_that_may_spend_it_is_seen() -> None:
    setting = Setting()
    runtime = await setting.add()
    seen_while_storing: list[Any] = []
    save = setting.seams.store.save

    async def watched(changes: Any) -> Any:
        seen_while_storing.append(runtime.overflow)
        return await save(changes)

    setting.seams.store.save = watched  # type: ignore[method-assign]
    await setting.tick()
    assert seen_while_storing == [None]
    assert 0.4 < fraction(runtime) <= 1.0
    kinds = [entry[0] for entry in setting.seams.journal]
    assert kinds.index("ledgers") < kinds.index("annotation")
    stored = from_json(setting.seams.store.texts["serving/pool"])
    (reservation,) = stored.reservations
    assert runtime.overflow is not None
    assert runtime.overflow.version == reservation.id
    assert runtime.overflow.allowance.requests == reservation.requests
    assert runtime.overflow.until <= reservation.until


async def test_a_grant_that_could_not_be_stored_is_not_published() -> None:
    setting = Setting()
    runtime = await setting.add()
    setting.seams.store.save_failure = fakes.unavailable()
    for _ in range(3):
        await setting.tick()
    assert runtime.overflow is None
    assert runtime.ledger.reservations == ()
    assert setting.seams.journal.of("annotation") == []
    setting.seams.store.save_failure = None
    await setting.tick()
    assert fraction(runtime) > 0


async def test_a_store_that_fails_holds_back_no_value_that_spends_nothing_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting = Setting()
    runtime = await setting.add()
    await setting.tick()
    granted = runtime.overflow
    assert granted is not None
    setting.seams.store.save_failure = fakes.unavailable()
    monkeypatch.setattr(fast_loop, "_STORE_SECONDS", 0.0)
    await setting.load(arrivals=1.0)
    await setting.tick()
    assert 0 < fraction(runtime) < granted.fraction


async def test_what_only_counts_is_stored_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting()
    await setting.add()
    await setting.tick()
    await setting.load(arrivals=40.0)
    for _ in range(3):
        await setting.tick()
    assert len(setting.seams.journal.of("ledgers")) == 1
    monkeypatch.setattr(fast_loop, "_STORE_SECONDS", 0.0)
    counted = GatewayLoad(time.time(), 40.0, cloud_requests_total=5.0, cloud_usd_total=0.01)
    setting.seams.prometheus.more["gateways"][NAMESPACE, "pool"] = counted
    await setting.seams.observer.ask_prometheus()
    for _ in range(3):
        await setting.tick()
    assert len(setting.seams.journal.of("ledgers")) == 2
    assert from_json(setting.seams.store.texts["serving/pool"]).reported_requests == 5.0


async def test_nothing_is_granted_before_the_ledgers_are_read() -> None:
    setting = Setting()
    runtime = await setting.add()
    setting.seams.store.load_failure = fakes.unavailable()
    await setting.tick()
    assert runtime.overflow is None


@pytest.mark.parametrize("failure", ["save_failure", "load_failure"])
async def test_while_ledgers_fail_replicas_follow_what_burst_can_not_carry(failure: str) -> None:
    """Burst that can't be granted is nothing to wait for; persistence would."""
    setting = Setting()
    spec = fakes.pool(burst=fakes.burst_spec(), scaling={"persistence": "10m"})
    runtime = await setting.add(scaling={"persistence": "10m"})

    def decided() -> list[Reason]:
        assert runtime.facts is not None
        now = time.time()
        left = runtime.budget_left(spec.spec, now)
        outcome = step(
            runtime.facts,
            runtime.state,
            now,
            read_only=False,
            overflow_fraction=0.0,
            budget_left=left,
        )
        return [outcome.decision.notes[0].reason, *(n.reason for n in outcome.decision.notes[1:])]

    setattr(setting.seams.store, failure, fakes.unavailable())
    assert Reason.PERSISTENCE in decided()
    await setting.tick()
    assert runtime.overflow is None
    assert Reason.PERSISTENCE not in decided()
    assert Reason.ATTAINMENT in decided()
    setattr(setting.seams.store, failure, None)
    await setting.tick()
    assert fraction(runtime) > 0
    assert Reason.PERSISTENCE in decided()


async def test_while_a_grant_lasts_a_store_that_fails_changes_nothing() -> None:
    setting = Setting()
    runtime = await setting.add()
    await setting.tick()
    now = time.time()
    runtime.ungranted_at = now + 40
    pool = fakes.pool(burst=fakes.burst_spec())
    assert runtime.budget_left(pool.spec, now + 40)
    assert not runtime.budget_left(pool.spec, now + 46), "the grant is over"
    assert runtime.budget_left(pool.spec, now + 90), "nobody has asked for more since"


async def test_pages_of_another_model_say_nothing_of_the_pools_load() -> None:
    setting = Setting()
    runtime = await setting.add()
    setting.seams.prometheus.failure = RuntimeError("down")
    await setting.seams.observer.ask_prometheus()
    other = fakes.page(running=20.0, model_names=frozenset({"other"}))
    setting.seams.scraper.pages = {"pool-a": other, "pool-b": other}
    await setting.tick()
    assert runtime.overflow is not None
    assert runtime.overflow.reason is Reason.NO_DATA


async def test_a_full_shard_keeps_only_its_own_pools_from_bursting() -> None:
    setting = Setting()
    full, other = await setting.add("full"), await setting.add("other")
    setting.seams.store.save_failure = LedgerFullError("the shard is full")
    setting.seams.store.full = "serving/full"
    await setting.tick()
    assert full.overflow is None
    assert fraction(other) > 0
    assert other.stored is other.ledger


async def test_a_pool_whose_ledger_can_not_be_read_spends_nothing_and_others_do() -> None:
    setting = Setting()
    setting.seams.store.texts["serving/bad"] = "{"
    bad, good = await setting.add("bad"), await setting.add("good")
    await setting.tick()
    assert bad.overflow is None
    assert fraction(good) > 0


async def test_another_leaders_write_is_read_before_the_next_grant() -> None:
    setting = Setting()
    runtime = await setting.add()
    setting.seams.store.save_failure = Conflict(409, "Conflict", "changed")
    await setting.tick()
    assert runtime.overflow is None
    setting.seams.store.save_failure = None
    await setting.tick()
    kinds = [entry[0] for entry in setting.seams.journal if entry[0].startswith("ledgers")]
    assert kinds == ["ledgers read", "ledgers read", "ledgers"]
    assert fraction(runtime) > 0


async def test_a_leader_that_lost_its_lease_while_storing_publishes_nothing() -> None:
    setting = Setting()
    runtime = await setting.add()
    save = setting.seams.store.save

    async def slow(changes: Any) -> Any:
        failed = await save(changes)
        setting.seams.lease.leads = False
        return failed

    setting.seams.store.save = slow  # type: ignore[method-assign]
    await setting.tick()
    assert runtime.overflow is None
    assert setting.seams.journal.of("annotation") == []


# One pool and the others


async def test_a_step_that_fails_holds_its_own_pool_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting()
    bad, good = await setting.add("bad"), await setting.add("good")
    real = overflow_inputs

    def broken(facts: Any, *args: Any) -> Any:
        if facts.name == "bad":
            msg = "odd"
            raise ZeroDivisionError(msg)
        return real(facts, *args)

    monkeypatch.setattr(fast_loop, "overflow_inputs", broken)
    await setting.tick()
    assert bad.overflow is None
    assert fraction(good) > 0
    assert setting.seams.metric("spillway_pool_errors_total", where="overflow") == 1


async def test_a_page_that_hangs_delays_other_pools_by_less_than_a_tick() -> None:
    setting = Setting(Settings(fast_tick_seconds=0.2))
    await setting.add("hangs")
    good = await setting.add("good")
    setting.seams.scraper.hangs["hangs-a"] = asyncio.Event()
    started = time.monotonic()
    await setting.tick()
    assert time.monotonic() - started < 1.0, "it hangs for ever; the machine may be busy"
    assert fraction(good) > 0
    await setting.seams.observer.close()


async def test_the_loop_goes_on_after_a_tick_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(Settings(fast_tick_seconds=0.01))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 1:
            msg = "odd"
            raise RuntimeError(msg)

    monkeypatch.setattr(setting.loop, "tick", tick)
    before = setting.health.last_tick["fast"]
    task = asyncio.create_task(setting.loop.run())
    await until(lambda: ticks >= 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert setting.seams.metric("spillway_pool_errors_total", where="fast") == 1
    assert setting.health.last_tick["fast"] > before


async def test_a_pool_that_goes_while_its_value_is_stored_leaves_no_series() -> None:
    setting = Setting()
    await setting.add()
    save = setting.seams.store.save

    async def meanwhile(changes: Any) -> Any:
        failed = await save(changes)
        setting.runtimes.retain([])
        return failed

    setting.seams.store.save = meanwhile  # type: ignore[method-assign]
    await setting.tick()
    page = setting.seams.telemetry.render().decode()
    assert 'pool="pool"' not in page


# Standbys, modes, forgetting


async def test_a_standby_answers_with_the_annotation_and_writes_nothing() -> None:
    leader = Setting()
    of_leader = await leader.add()
    await leader.tick()
    assert of_leader.overflow is not None
    text = to_json(of_leader.overflow)
    setting = Setting()
    runtime = await setting.add()
    setting.seams.lease.leads = False
    with_text = fakes.pool(burst=fakes.burst_spec(), annotations={OVERFLOW_ANNOTATION: text})
    fakes.put(setting.seams.watches, with_text)
    await setting.tick()
    assert runtime.overflow is not None
    assert to_json(runtime.overflow) == text
    assert setting.seams.journal == []
    assert setting.seams.metric("spillway_leader") == 0
    fakes.put(setting.seams.watches, fakes.pool(burst=fakes.burst_spec()))
    await setting.tick()
    assert runtime.overflow is None


async def test_a_pool_without_burst_has_no_value_and_costs_no_write() -> None:
    setting = Setting()
    runtime = await setting.add(burst=None)
    await setting.tick()
    assert runtime.overflow is None
    assert setting.seams.journal == [("ledgers read",)]


async def test_leaving_active_closes_the_value_and_takes_the_annotation_away() -> None:
    setting = Setting()
    await setting.add()
    await setting.tick()
    paused = fakes.pool(burst=fakes.burst_spec(), mode=Mode.PAUSED.value, generation=2)
    fakes.put(setting.seams.watches, paused)
    runtime = await setting.decided(paused)
    await setting.tick()
    assert runtime.overflow is not None
    assert (runtime.overflow.fraction, runtime.overflow.reason) == (0.0, Reason.RELEASED)
    assert [entry[2] is None for entry in setting.seams.journal.of("annotation")] == [False, True]


async def test_read_only_publishes_nothing() -> None:
    setting = Setting(Settings(read_only=True))
    runtime = await setting.add()
    await setting.tick()
    assert runtime.overflow is None
    assert setting.seams.journal.of("ledgers", "annotation") == []


async def test_a_turn_of_overflow_takes_the_pool_out_of_turn_and_is_measured() -> None:
    setting = Setting()
    runtime = await setting.add()
    await setting.tick()
    await setting.tick()
    assert setting.woken.keys == [(NAMESPACE, "pool")]
    of = {"namespace": NAMESPACE, "pool": "pool"}
    assert setting.seams.metric("spillway_overflow_ratio", **of) == fraction(runtime)
    assert (setting.seams.metric("spillway_overflow_admit_requests", **of) or 0) > 40
    count = setting.seams.metric("spillway_overflow_delay_seconds_count")
    delay = setting.seams.metric("spillway_overflow_delay_seconds_sum")
    assert count == 1
    assert delay is not None
    assert delay < 1.0


async def test_an_unknown_admission_is_measured_as_unknown() -> None:
    setting = Setting()
    await setting.add(mode="Paused")
    await setting.tick()
    of = {"namespace": NAMESPACE, "pool": "pool"}
    assert math.isnan(setting.seams.metric("spillway_overflow_admit_requests", **of) or 0.0)


# Which pages are read


async def test_hot_pools_come_first_then_drains_then_the_rest() -> None:
    setting = Setting()
    cold = await setting.add("cold", arrivals=0.1)
    hot = await setting.add("hot")
    assert cold.outcome is not None
    assert hot.outcome is not None
    fakes.put(setting.seams.watches, fakes.pod("cold-d", app="cold", role=Role.DRAINING))
    await setting.decided(fakes.pool("cold", burst=fakes.burst_spec()))
    setting.seams.prometheus.put("hot-a", "hot-b", running=40.0)
    await setting.seams.observer.ask_prometheus()
    await setting.decided(fakes.pool("hot", burst=fakes.burst_spec()))
    await setting.tick()
    (asked,) = setting.seams.scraper.asked
    assert set(asked[:2]) == {"hot-a", "hot-b"}
    assert asked[2] == "cold-d"
    assert asked[3:] == ["cold-a"], "one is enough"


async def test_a_drain_that_answers_takes_its_pool_out_of_turn() -> None:
    setting = Setting()
    await setting.add(burst=None)
    fakes.put(setting.seams.watches, fakes.pod("d", role=Role.DRAINING))
    await setting.decided(fakes.pool(burst=None))
    setting.seams.scraper.pages["d"] = fakes.page()
    await setting.tick()
    assert setting.seams.scraper.asked == [["d"]]
    assert setting.woken.keys == [(NAMESPACE, "pool")]


async def test_pods_that_can_not_be_read_fall_back_to_prometheus() -> None:
    setting = Setting()
    runtime = await setting.add()
    setting.seams.scraper.pages.clear()
    await setting.tick()
    assert fraction(runtime) > 0


async def test_without_any_sample_nothing_leaves() -> None:
    setting = Setting()
    runtime = await setting.add()
    setting.seams.scraper.pages.clear()
    setting.seams.prometheus.loads.clear()
    await setting.seams.observer.ask_prometheus()
    await setting.tick()
    assert runtime.overflow is not None
    assert (fraction(runtime), runtime.overflow.reason) == (0.0, Reason.NO_DATA)


async def test_a_published_value_is_what_its_text_says() -> None:
    setting = Setting()
    runtime = await setting.add()
    await setting.tick()
    ((_, _, text),) = setting.seams.journal.of("annotation")
    assert runtime.overflow is not None
    told = json.loads(text)
    assert told["epoch"] == setting.seams.lease.epoch
    assert abs(told["fraction"] - runtime.overflow.fraction) < 0.01
    assert told["reason"] == "Shortage"


async def test_a_pool_in_which_nothing_moves_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting()
    await setting.add(arrivals=0.1)
    steps: list[str] = []
    real = fast_step

    def counted(*args: Any) -> Any:
        steps.append("step")
        return real(*args)

    monkeypatch.setattr(fast_loop, "fast_step", counted)
    await setting.tick()
    setting.seams.scraper.pages.clear()
    for _ in range(3):
        await setting.tick()
    assert len(steps) == 1
    setting.seams.scraper.pages["pool-a"] = fakes.page(running=3.0)
    await setting.tick()
    assert len(steps) == 2, "a page is news"
    setting.seams.scraper.pages.clear()
    await setting.load(arrivals=0.2)
    await setting.tick()
    assert len(steps) == 3, "so are facts"
    setting.seams.lease.epoch += 1
    await setting.tick()
    assert len(steps) == 4, "and a new leadership"


async def test_between_two_ticks_busy_pools_alone_are_looked_at() -> None:
    setting = Setting()
    busy = await setting.add("busy", arrivals=19.0)
    await setting.add("quiet", arrivals=0.1)
    for letter in "ab":
        setting.seams.scraper.pages[f"quiet-{letter}"] = fakes.page(running=1.0)
    setting.seams.prometheus.put("busy-a", "busy-b", running=300.0)
    await setting.seams.observer.ask_prometheus()
    await setting.decided(fakes.pool("busy", burst=fakes.burst_spec()))
    await setting.tick()
    assert fraction(busy) == 0.0
    setting.seams.scraper.asked.clear()
    for letter in "ab":
        setting.seams.scraper.pages[f"busy-{letter}"] = fakes.page(running=900.0, waiting=400.0)
    await setting.look_at_busy()
    read = {pod for asked in setting.seams.scraper.asked for pod in asked}
    assert read == {"busy-a", "busy-b"}
    assert fraction(busy) > 0, "not only at the next tick"


async def test_a_quiet_pool_is_sampled_by_one_page_and_read_whole_once_that_shows_load() -> None:
    setting = Setting()
    runtime = await setting.add(arrivals=0.1)
    pages = setting.seams.scraper.pages
    pages["pool-a"] = pages["pool-b"] = fakes.page(running=1.0)
    for _ in range(2):
        await setting.tick()
        await setting.look_at_busy()
    assert setting.seams.scraper.asked == [["pool-a"], ["pool-b"]], "another one each round"
    pages["pool-a"] = pages["pool-b"] = fakes.page(running=900.0, waiting=400.0)
    await setting.tick()
    await setting.look_at_busy()
    assert setting.seams.scraper.asked[2:] == [["pool-a"], ["pool-a", "pool-b"]]
    assert fraction(runtime) > 0


async def test_what_came_late_of_a_quiet_pool_is_kept_for_its_tick() -> None:
    setting = Setting()
    await setting.add("busy", arrivals=19.0)
    quiet = await setting.add("quiet", arrivals=0.1)
    for letter in "ab":
        setting.seams.scraper.pages[f"quiet-{letter}"] = fakes.page(running=1.0)
    await setting.tick()
    before = quiet.overflow
    metrics = fakes.pool("quiet").spec.metrics
    await setting.seams.observer.read_pods([(fakes.pod("quiet-a", app="quiet"), metrics)])
    await setting.look_at_busy()
    assert quiet.overflow is before
    await setting.tick()
    assert quiet.overflow is not before


async def test_bursting_pools_beyond_the_budget_are_read_by_turns() -> None:
    setting = Setting(Settings(fast_tick_seconds=0.2, scrape_pages_per_second=2.0))
    for name in ("a", "b", "c"):
        await setting.add(name)
    await setting.tick()
    assert all(fraction(setting.runtimes.all()[n]) > 0 for n in range(3))
    setting.seams.scraper.asked.clear()
    for look in (setting.tick, setting.look_at_busy, setting.tick):
        await look()
    read = [sorted({pod.split("-")[0] for pod in asked}) for asked in setting.seams.scraper.asked]
    assert sorted(read) == [["a"], ["b"], ["c"]]


async def test_however_many_burst_others_are_read_and_something_is_left_to_the_slow_loop() -> None:
    setting = Setting(Settings(fast_tick_seconds=1.0, scrape_pages_per_second=40.0))
    bursting = [await setting.add(f"bursts{n}") for n in range(30)]
    pages = setting.seams.scraper.pages
    for letter in "ab":
        pages[f"quiet-{letter}"] = fakes.page(running=1.0)
    await setting.add("quiet", arrivals=0.1)
    await setting.add("hot", arrivals=16.0)
    for _ in range(2):
        await setting.tick()
        await setting.look_at_busy()
    assert all(fraction(runtime) > 0 for runtime in bursting)
    setting.seams.scraper.asked.clear()
    for _ in range(3):
        await setting.tick()
        await setting.look_at_busy()
    looks = [{pod.split("-")[0] for pod in asked} for asked in setting.seams.scraper.asked]
    assert all({"quiet", "hot"} <= look for look in looks[::2])
    assert all("hot" in look and "quiet" not in look for look in looks[1::2])
    assert sum(map(len, setting.seams.scraper.asked)) <= 3 * 40


async def test_hot_pools_beyond_the_budget_are_read_by_turns() -> None:
    setting = Setting(Settings(fast_tick_seconds=0.2, scrape_pages_per_second=2.0))
    for name in ("a", "b", "c"):
        await setting.add(name, arrivals=0.1)
    setting.seams.prometheus.loads.clear()
    await setting.seams.observer.ask_prometheus()
    for name in ("a", "b", "c"):
        runtime = await setting.decided(fakes.pool(name, burst=fakes.burst_spec()))
        assert runtime.outcome is not None
    for _ in range(3):
        await setting.tick()
    read = {pod.split("-")[0] for asked in setting.seams.scraper.asked for pod in asked}
    assert read == {"a", "b", "c"}
    assert all(len(asked) <= 2 for asked in setting.seams.scraper.asked)


async def test_values_that_may_spend_and_do_not_yet_are_renewed_too_and_stretch_the_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast_loop, "_RENEWALS_PER_SECOND", 0.02)
    setting = Setting()
    bursts = await setting.add("a")
    near = await setting.add("b", arrivals=16.0)
    await setting.tick()
    assert fraction(bursts) > 0
    assert near.overflow is not None
    before = bursts.overflow
    near.overflow = replace(near.overflow, allowance=Allowance(10, 1.0))
    bursts.ledger = PoolLedger.empty("UTC", time.time())
    await setting.tick()
    assert bursts.overflow is not before
    assert bursts.overflow is not None
    # Two of them at one in fifty seconds, each at half of its life.
    assert bursts.overflow.until - time.time() == pytest.approx(200.0, abs=2.0)
