"""The slow loop: every pool decided and acted on, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from spillway.adapters.kube.errors import Forbidden
from spillway.adapters.metrics import ArrivalHistory
from spillway.api.names import Role
from spillway.controller import slow_loop
from spillway.controller.actuator import Actuator
from spillway.controller.http import Health
from spillway.controller.reporter import Reporter
from spillway.controller.runtime import Runtimes
from spillway.controller.settings import Settings
from spillway.controller.slow_loop import SlowLoop
from spillway.controller.sweep import Sweep
from spillway.controller.watches import STALE_AFTER_SECONDS, InvalidPool
from spillway.core.facts import GatewayLoad, PodPhase
from spillway.core.pool import step
from tests.unit.adapters.kube.fake_api import until
from tests.unit.controller import fakes
from tests.unit.controller.fakes import MODEL, NAMESPACE, Seams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from spillway.controller.runtime import PoolRuntime


#: Replicas for 40 requests/s at 10 each, with room for the forecast's spread.
NEEDED = 5


class Setting:
    """Pools behind the whole slow loop; its reporter runs as it does in the operator."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.seams = seams = Seams()
        self.settings = settings or Settings()
        self.health = Health({"slow": 15.0})
        self.runtimes = Runtimes(lambda key: seams.telemetry.forget(*key))
        self.reporter = Reporter(
            writer=cast("Any", seams.writer),
            teller=seams.teller,
            telemetry=seams.telemetry,
            may_write=seams.lease.is_leader,
            quiet_seconds=60.0,
            drifts_per_second=4.0,
            pools=self.runtimes.__len__,
            retry=self.retry,
        )
        self.loop: SlowLoop = SlowLoop(
            settings=self.settings,
            watches=seams.watches,
            world=seams.world,
            observer=seams.observer,
            runtimes=self.runtimes,
            actuator=Actuator(
                pods=cast("Any", seams.pods),
                scale=cast("Any", seams.scale),
                teller=seams.teller,
                watches=seams.watches,
                telemetry=seams.telemetry,
                may_write=seams.lease.is_leader,
            ),
            reporter=self.reporter,
            sweep=Sweep(
                watches=seams.watches,
                world=seams.world,
                pods=cast("Any", seams.pods),
                may_write=seams.lease.is_leader,
                read_only=self.settings.read_only,
            ),
            routes=seams.routes,
            lease=cast("Any", seams.lease),
            telemetry=seams.telemetry,
            health=self.health,
        )
        seams.watches.pools.on_change(self.loop.pool_changed)
        seams.watches.pods.on_change(self.loop.pod_changed)
        self.task: asyncio.Task[None] | None = None

    def retry(self, key: tuple[str, str]) -> None:
        self.loop.pool_changed(key)

    def add(self, name: str = "pool", rps: float = 40.0, **changes: Any) -> None:
        """A pool of two replicas of 10 requests/s that needs four of them or more."""
        pods = [fakes.pod(f"{name}-{letter}", app=name) for letter in "ab"]
        fakes.put(
            self.seams.watches,
            fakes.pool(name, **changes),
            fakes.deployment(name),
            fakes.service(name),
            *pods,
        )
        self.seams.prometheus.put(*(pod.name for pod in pods))
        self.arrivals(rps, name)

    def arrivals(self, rps: float, name: str = "pool") -> None:
        gateways = self.seams.prometheus.more.setdefault("gateways", {})
        gateways[NAMESPACE, name] = GatewayLoad(time.time(), rps)

    def runtime(self, name: str = "pool") -> PoolRuntime:
        found = self.runtimes.get((NAMESPACE, name))
        assert found is not None
        return found

    async def tick(self) -> None:
        await self.loop.tick()
        await asyncio.sleep(0.01)

    def scales(self) -> dict[str, int]:
        return {entry[1]: entry[2] for entry in self.seams.journal.of("scale")}

    def ready(self, name: str = "pool") -> dict[str, Any]:
        conditions = self.seams.writer.statuses[name]["conditions"]
        return next(c for c in conditions if c["type"] == "Ready")


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    made = Setting()
    async with asyncio.TaskGroup() as group:
        reports = group.create_task(made.reporter.run())
        yield made
        reports.cancel()
        await made.loop.close()


async def test_a_status_that_somebodys_edit_got_before_follows_once_the_watch_shows_the_edit(
    setting: Setting,
) -> None:
    setting.add()
    setting.seams.writer.versions["pool"] = "2"
    await setting.tick()
    assert setting.seams.writer.statuses == {}
    await setting.loop._out_of_turn()
    assert setting.runtime().refused_at == "1", "the watch still shows what was decided on"
    labelled = replace(fakes.pool(), resource_version="2")
    fakes.put(setting.seams.watches, labelled)
    await setting.loop._out_of_turn()
    await until(lambda: "pool" in setting.seams.writer.statuses)
    assert setting.runtime().refused_at is None


async def test_a_pool_that_needs_more_is_scaled_and_says_so(setting: Setting) -> None:
    setting.add()
    await setting.tick()
    assert setting.scales() == {"pool": NEEDED}
    status = setting.seams.writer.statuses["pool"]
    assert status["replicas"] == {
        "serving": 2,
        "warm": 0,
        "starting": 0,
        "draining": 0,
        "desired": NEEDED,
    }
    labels = {"namespace": NAMESPACE, "pool": "pool", "reason": "Attainment"}
    assert setting.seams.metric("spillway_decisions_total", **labels) == 1


# One pool and the others


async def test_a_pool_whose_read_fails_says_so_and_the_others_are_scaled(setting: Setting) -> None:
    custom = {"apiVersion": "lws.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "bad"}
    setting.add("bad", target=custom)
    setting.add("good")
    setting.seams.scale.states["bad"] = Forbidden(403, "Forbidden", "may not get lws/scale")
    await setting.tick()
    assert setting.scales().keys() == {"good"}
    assert (setting.ready("bad")["reason"], setting.ready("bad")["message"]) == (
        "ReadFailed",
        "may not get lws/scale",
    )
    assert setting.seams.metric("spillway_pool_errors_total", where="read") == 1


async def test_a_pool_whose_step_fails_says_so_and_the_others_are_scaled(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting.add("bad")
    setting.add("good")
    real = step

    def broken(facts: Any, *args: Any, **more: Any) -> Any:
        if facts.name == "bad":
            msg = "odd"
            raise ZeroDivisionError(msg)
        return real(facts, *args, **more)

    monkeypatch.setattr(slow_loop, "step", broken)
    for _ in range(2):
        await setting.tick()
    assert setting.scales().keys() == {"good"}
    assert setting.ready("bad")["reason"] == "InternalError"
    assert setting.seams.metric("spillway_pool_errors_total", where="step") == 2


async def test_a_pool_that_can_not_even_be_remembered_stops_no_other(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting.add("bad")
    setting.add("good")
    real = setting.runtimes.of

    def broken(pool: Any, now: float, past: Any) -> Any:
        if pool.name == "bad":
            msg = "no such time zone"
            raise ValueError(msg)
        return real(pool, now, past)

    monkeypatch.setattr(setting.runtimes, "of", broken)
    await setting.tick()
    assert setting.scales().keys() == {"good"}


async def test_a_write_that_hangs_delays_no_other_pool_nor_the_next_pass(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pass that waited for the write would wait for longer than the test may.
    monkeypatch.setattr(slow_loop, "_PATIENCE_SECONDS", 60.0)
    setting.add("hangs")
    setting.add("good")
    setting.seams.scale.hangs.add("hangs")
    async with asyncio.timeout(10):
        await setting.tick()
        assert setting.scales().keys() == {"good"}
        setting.add("late")
        await setting.tick()
    assert setting.scales().keys() == {"good", "late"}
    assert len(setting.loop._running) == 1, "it is not begun a second time"
    await setting.loop.close()
    assert setting.loop._running == {}


async def test_a_read_that_hangs_delays_no_other_pool_nor_the_next_pass(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_loop, "_PATIENCE_SECONDS", 0.05)
    setting.add("hangs")
    setting.add("good")
    real = setting.seams.world.facts

    async def reading(pool: Any, now: float) -> Any:
        if pool.name == "hangs":
            await asyncio.Event().wait()
        return await real(pool, now)

    monkeypatch.setattr(setting.seams.world, "facts", reading)
    async with asyncio.timeout(10):
        await setting.tick()
        assert setting.scales().keys() == {"good"}
        setting.add("late")
        await setting.tick()
    assert setting.scales().keys() == {"good", "late"}
    assert len(setting.loop._running) == 1, "it is not begun a second time"


async def test_many_pools_that_hang_leave_room_for_the_others(setting: Setting) -> None:
    for number in range(20):
        setting.add(f"hangs{number}")
        setting.seams.scale.hangs.add(f"hangs{number}")
    setting.add("good")
    await setting.tick()
    assert setting.scales().keys() == {"good"}


async def test_a_failing_part_of_a_pass_does_not_keep_the_others_from_their_turn(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        msg = "odd"
        raise RuntimeError(msg)

    setting.add()
    fakes.put(setting.seams.watches, InvalidPool(NAMESPACE, "bad", "u", 1, "wrong", {}, "1"))
    monkeypatch.setattr(setting.loop._sweep, "run", broken)
    await setting.tick()
    assert setting.scales().keys() == {"pool"}
    assert setting.ready("bad")["reason"] == "InvalidSpec"
    assert setting.seams.metric("spillway_pool_errors_total", where="slow") == 1
    assert setting.seams.metric("spillway_pools", valid="true") == 1
    assert setting.seams.metric("spillway_pools", valid="false") == 1


# Leading


async def test_a_standby_decides_and_changes_nothing(setting: Setting) -> None:
    setting.add()
    setting.seams.lease.leads = False
    await setting.tick()
    outcome = setting.runtime().outcome
    assert outcome is not None
    assert outcome.decision.desired == NEEDED
    assert setting.seams.journal == []


async def test_what_a_standby_decided_is_not_carried_out_when_it_becomes_leader(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting.add()
    setting.seams.lease.leads = False
    real = setting.seams.world.facts

    async def elected_meanwhile(*args: Any) -> Any:
        facts = await real(*args)
        setting.seams.lease.leads = True
        setting.seams.lease.epoch += 1
        return facts

    monkeypatch.setattr(setting.seams.world, "facts", elected_meanwhile)
    await setting.tick()
    assert setting.scales() == {}
    monkeypatch.setattr(setting.seams.world, "facts", real)
    await setting.tick()
    assert setting.scales() == {"pool": NEEDED}


async def test_a_new_leader_goes_on_from_what_the_last_one_wrote(setting: Setting) -> None:
    setting.add(status={"replicas": {"desired": 5}})
    setting.seams.lease.leads = False
    setting.arrivals(1.0)
    await setting.tick()
    setting.seams.lease.leads = True
    await setting.tick()
    assert setting.scales() == {"pool": 5}, "what was on its way still is"


async def test_read_only_and_advise_report_and_change_nothing(setting: Setting) -> None:
    setting.add(mode="Advise")
    await setting.tick()
    assert setting.scales() == {}
    assert setting.seams.writer.statuses["pool"]["replicas"]["desired"] == NEEDED
    async with asyncio.TaskGroup() as group:
        other = Setting(Settings(read_only=True))
        other.add()
        reports = group.create_task(other.reporter.run())
        await other.tick()
        reports.cancel()
    assert other.scales() == {}
    conditions = {c["type"]: c["reason"] for c in other.seams.writer.statuses["pool"]["conditions"]}
    assert conditions["Paused"] == "ReadOnly"


async def test_leaving_active_gives_marks_back(setting: Setting) -> None:
    setting.add(mode="Paused")
    fakes.put(setting.seams.watches, fakes.pod("w", role=Role.WARM))
    await setting.tick()
    ((_, name, change),) = setting.seams.journal.of("pod")
    assert (name, change.role) == ("w", Role.SERVING)


async def test_nothing_is_reduced_while_a_watch_is_stale(setting: Setting) -> None:
    setting.add(rps=0.1, scaling={"releaseWindow": "1s", "maxStepDown": 8})
    fakes.put(setting.seams.watches, fakes.deployment(spec_replicas=2))
    informer = setting.seams.watches.pods.informers[0]
    informer.last_contact = time.monotonic() - STALE_AFTER_SECONDS - 1
    for _ in range(3):
        await setting.tick()
    outcome = setting.runtime().outcome
    assert outcome is not None
    assert outcome.decision.hold
    assert setting.seams.journal.of("pod", "scale") == []


# Waking


async def woken(setting: Setting) -> set[str]:
    """Names of the pools that are taken out of turn now."""
    taken: list[str] = []
    real = setting.loop._pass

    async def spied(pools: Any) -> None:
        pools = list(pools)
        taken.extend(pool.name for pool in pools)
        await real(pools)

    setting.loop._pass = spied  # type: ignore[method-assign]
    await setting.loop._out_of_turn()
    setting.loop._pass = real  # type: ignore[method-assign]
    return set(taken)


async def test_a_pods_change_wakes_its_own_pool_alone(setting: Setting) -> None:
    setting.add("one")
    setting.add("two")
    await setting.tick()
    fakes.put(setting.seams.watches, fakes.pod("one-a", app="one", phase=PodPhase.UNREADY))
    fakes.put(setting.seams.watches, fakes.pod("x", app="nobodys"))
    assert await woken(setting) == {"one"}
    assert await woken(setting) == set()


async def test_a_workloads_change_wakes_the_pools_that_name_it(setting: Setting) -> None:
    setting.add("one")
    setting.add("two")
    await setting.tick()
    deployments = setting.seams.watches.deployments
    setting.loop.workload_changed(deployments, (NAMESPACE, "two"))
    setting.loop.workload_changed(deployments, (NAMESPACE, "gone"))
    assert await woken(setting) == {"two"}


async def test_a_new_spec_wakes_its_pool_and_our_own_status_does_not(setting: Setting) -> None:
    setting.add("one")
    await setting.tick()
    fakes.put(setting.seams.watches, fakes.pool("one", status={"observedGeneration": 1}))
    assert await woken(setting) == set()
    fakes.put(setting.seams.watches, fakes.pool("one", generation=2))
    assert await woken(setting) == {"one"}
    fakes.put(setting.seams.watches, fakes.pool("one", uid="made-anew"))
    assert await woken(setting) == {"one"}


async def test_the_loop_ticks_wakes_and_outlives_failures(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_loop, "_WAKE_SECONDS", 0.01)
    setting.add()
    passes = 0
    real = setting.loop._pass

    async def failing_at_first(pools: Any) -> None:
        nonlocal passes
        passes += 1
        if passes == 1:
            msg = "odd"
            raise RuntimeError(msg)
        await real(pools)

    monkeypatch.setattr(setting.loop, "_pass", failing_at_first)
    before = setting.health.last_tick["slow"]
    task = asyncio.create_task(setting.loop.run())
    await until(lambda: passes == 1)
    setting.loop.wake((NAMESPACE, "pool"))
    await until(lambda: bool(setting.scales()))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert passes == 2
    assert setting.health.last_tick["slow"] > before


# Looking


async def test_pods_out_of_prometheus_sight_are_read_directly_all_in_turn(
    setting: Setting,
) -> None:
    setting.add()
    fakes.put(setting.seams.watches, fakes.pod("w", role=Role.WARM))
    await setting.tick()
    assert setting.seams.scraper.asked == [["w"]]
    setting.seams.prometheus.loads.clear()
    limited = Settings(scrape_pages_per_second=1.0)
    setting.loop._settings = limited
    for _ in range(2):
        await setting.tick()
    first, second = setting.seams.scraper.asked[1:]
    assert first[0] == second[0] == "w"
    assert first[1] != second[1], "beyond the budget another one is left out each time"


async def test_deleted_pools_leave_nothing_behind(setting: Setting) -> None:
    setting.add()
    await setting.tick()
    fakes.drop(setting.seams.watches, fakes.pool())
    await setting.tick()
    assert setting.runtimes.all() == []
    assert 'pool="pool"' not in setting.seams.telemetry.render().decode()
    assert setting.loop._running == {}


HISTORY = tuple((600.0 * tick, 20.0) for tick in range(60))


@pytest.mark.parametrize(
    ("past", "changes", "known"),
    [
        (ArrivalHistory(gateways={(NAMESPACE, "pool"): HISTORY}), {}, True),
        (ArrivalHistory(gateways={(NAMESPACE, "pool"): HISTORY}), {"demand": "Engine"}, False),
        (ArrivalHistory(engines={(NAMESPACE, MODEL): HISTORY}), {}, True),
        (ArrivalHistory(engines={(NAMESPACE, MODEL): HISTORY}), {"demand": "Gateway"}, False),
        (ArrivalHistory(engines={(NAMESPACE, MODEL): HISTORY}), {"burst": True}, False),
        (ArrivalHistory(engines={("elsewhere", MODEL): HISTORY}), {}, False),
        (ArrivalHistory(failure="cannot reach Prometheus"), {}, False),
    ],
)
async def test_the_arrivals_before_the_start_are_taken_where_they_are_all_of_them(
    setting: Setting, past: ArrivalHistory, changes: dict[str, Any], *, known: bool
) -> None:
    setting.seams.prometheus.past = past
    spec: dict[str, Any] = {}
    if "demand" in changes:
        spec["demand"] = {"source": changes["demand"]}
    if "burst" in changes:
        spec["burst"] = {"providers": [{"name": "api"}]}
    setting.add(**spec)
    await setting.tick()
    (runtime,) = setting.runtimes.all()
    assert (runtime.state.deciding.forecasts.band.measured > 0) is known
    assert runtime.outcome is not None, "the pool is decided either way"
